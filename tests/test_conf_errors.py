"""A full disk is said by every command: where, and what to do."""

import errno
import resource
import subprocess
import sys

import pytest

from conf.errors import no_room
from tests.support import REPO
from tests.training import SMALL


def test_only_a_full_disk_is_the_disk_s_fault():
    assert no_room(OSError(errno.EIO, "Input/output error")) is None
    said = str(no_room(OSError(errno.ENOSPC, "No space left on device", "a/b")))
    assert said.startswith("a/b can't be written: No space left on device; make room there and run the same command")


@pytest.mark.parametrize("limit", [100_000, 150_000])
def test_a_command_that_finds_the_disk_full_says_where(tmp_path, limit):
    command = [sys.executable, "-m", "train", *SMALL, "size=nano", f"tracking.root={tmp_path / 'runs'}"]
    done = subprocess.run(
        command,
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "can't be written" in done.stderr or "could not be stored" in done.stderr, done.stderr
