"""Checkpoints from outside and from here: found, read tensor by tensor, and written. `find` starts without JAX."""
