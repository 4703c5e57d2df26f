"""Weights & Biases as the shared backend: the embedded store first, and a courier process that delivers from it.

`place` says where to; `tracker` is the interface's backend; `courier` the process beside it, which follows the store
and delivers each run in a `session`; `server` reads what W&B has; `transfer` is `push` and `pull`. Nothing outside
this folder imports the SDK, and nothing here does before it is needed.
"""
