"""Checkpoints: what a long sweep in one process must not gather."""

import os
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from train.checkpoint import Checkpoints


def state(value):
    return {"step": jnp.int32(value), "params": jnp.full((4, 3), value, jnp.float32)}


def held():
    """Open files and threads, once the threads that end by themselves have ended."""
    deadline = time.monotonic() + 5
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/fd")), threading.active_count()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux shows them")
def test_saving_and_restoring_leave_no_thread_and_no_file_open(tmp_path):
    abstract = jax.eval_shape(lambda: state(0))
    after = []
    for cell in range(3):
        checkpoints = Checkpoints(tmp_path / str(cell), keep=2)
        for step in (1, 2, 3):
            checkpoints.save(state(step), step)
        checkpoints.close()
        checkpoints = Checkpoints(tmp_path / str(cell), keep=2)
        assert float(checkpoints.restore(abstract)["params"][0, 0]) == checkpoints.latest == 3
        checkpoints.close()
        after.append(held())
    assert after[1:] == after[:1] * 2, after  # the first opens what the process keeps
