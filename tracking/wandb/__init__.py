"""Shares runs through Weights & Biases: they go to the embedded store first, and a courier process delivers them.

`project` names the project; `tracker` is the interface's backend; `courier` is the process beside it, which follows
the store and delivers each run in a `session`; `server` reads what W&B has, and `outage` remembers that it did not
answer; `transfer` is `push` and `pull`. Nothing outside this folder imports the SDK, and nothing here does before it is
needed.
"""
