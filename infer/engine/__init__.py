"""Answers batches of inputs as a switcher's policy says: what applies it to files and what serves it have in common.

`batches.py` cuts inputs into a bounded number of shapes, `engine.py` runs them through the stages, `load.py` puts the
models on the devices and checks that they compute what they did when the switcher was chosen.
"""
