"""Makes of a dataset's scores a switcher that can be deployed: which runs, which thresholds, what it promises.

`choose.py` chooses it, `policy.py` is its file, `card.py` its page for people, `stage.py` logs it as an artifact,
`bundle.py` copies it out with its models. Starts without JAX.
"""
