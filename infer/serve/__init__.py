"""Answers inputs over HTTP by a switcher: one process, all its models on the devices, one thread that runs them.

A request goes through these modules, in this order: `connections.py` receives it within limits, `app.py` says which
path does what and `guard.py` who may ask, `inputs.py` and `tensors.py` read the two kinds of body, `service.py` takes
the inputs in or refuses them, `queue.py` makes batches of those that wait, `device.py` runs them, `ticket.py` collects
a request's answers. `deployment.py` loads a version of the switcher, `life.py` starts, renews and ends the process,
`measures.py` and `history.py` count, `session.py` keeps the counts as a tracked run, `page.py` shows them.
"""
