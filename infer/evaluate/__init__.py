"""Measures a switcher on labelled rows: promises beside what it does, its time and energy beside its models'.

`energy.py` reads what a device has used, `measure.py` lets the sides take turns, `result.py` writes what came of it,
`stage.py` logs it. Starts without JAX.
"""
