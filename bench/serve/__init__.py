"""Measures the server beside LitServe and Ray Serve, and disturbs it as clients, proxies and restarts do.

`models.py` makes the switcher and the same weights for torch, `load.py` sends requests, `sides.py` starts the servers,
`measure.py` lets them take turns, `page.py` writes docs/serving.md; `theirs/` are the programs of the other servers.
"""
