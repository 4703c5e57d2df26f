"""Checkpoints: what a long sweep in one process must not gather, and a disk that takes no more."""

import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from tests.support import REPO
from train.checkpoint import Checkpoints


def state(value):
    return {"step": jnp.int32(value), "params": jnp.full((4, 3), value, jnp.float32)}


def held(threads):
    """Open files and threads, once those beyond the `threads` before have ended, where they end by themselves."""
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/fd")), threading.active_count()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux shows them")
# Orbax warns where, as here and nowhere in the product, it is not told how the arrays are to be laid out.
@pytest.mark.filterwarnings("ignore:Sharding info not provided when restoring:UserWarning")
def test_saving_and_restoring_leave_no_thread_and_no_file_open(tmp_path):
    abstract = jax.eval_shape(lambda: state(0))
    after, before = [], threading.active_count()
    for cell in range(3):
        checkpoints = Checkpoints(tmp_path / str(cell), keep=2)
        for step in (1, 2, 3):
            checkpoints.save(state(step), step)
        checkpoints.close()
        checkpoints = Checkpoints(tmp_path / str(cell), keep=2)
        assert float(checkpoints.restore(abstract)["params"][0, 0]) == checkpoints.latest == 3
        checkpoints.close()
        after.append(held(before))
    # The first opens what the process keeps; what earlier tests have left may be closed meanwhile.
    assert all(files <= after[0][0] and threads <= after[0][1] for files, threads in after[1:]), after


SAVES = """
import resource, sys
import jax.numpy as jnp
from pathlib import Path
from conf.errors import EdgewiseError
from train.checkpoint import Checkpoints

folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder, keep=1)
checkpoints.save({"params": jnp.zeros(100)}, 1)
checkpoints.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
checkpoints = Checkpoints(folder, keep=1)
checkpoints.save({"params": jnp.arange(100_000.0)}, 2)
for _ in range(2):
    try:
        checkpoints.close()
        print("closed")
    except EdgewiseError as error:
        print(error)
    checkpoints = Checkpoints(folder, keep=1)  # clears what a cut-off save has left: not while another saves
print(checkpoints.latest)
"""


def test_a_file_that_cannot_be_written_is_told_once_and_leaves_the_checkpoint_before(tmp_path):
    command = [sys.executable, "-c", SAVES, str(tmp_path / "cell")]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    told, closed, latest = result.stdout.splitlines()
    assert f"the checkpoint of step 2 in {tmp_path / 'cell'} can't be written" in told and "too large" in told
    assert "Free some disk space" in told
    assert (closed, latest) == ("closed", "1")
    assert "Traceback" not in result.stderr
