"""A command whose output nobody reads to its end, `| head`, ends without a traceback."""

import os
import subprocess
import sys

import pytest

from conf.pipes import CLOSED_PIPE_STATUS, run_command
from tests.support import REPO
from tracking.store import Store

COMMANDS = [
    ["conf.init", "--help"],
    ["tracking", "--help"],
    ["metrics", "--help"],
    ["metrics", "--cfg", "job"],
    ["metrics.audit", "--help"],
    ["metrics.audit", "paper"],
    ["metrics.convert", "--help"],
    ["train", "--help"],
    ["train.export", "--help"],
    ["infer", "--version"],
    ["sweeps", "--help"],
    ["sweeps.status", "--help"],
]


def into_closed_pipe(command):
    """Starts a command whose standard output is a pipe that is closed already, and buffered as in a shell."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    try:
        arguments = [sys.executable, "-m", *command]
        return subprocess.Popen(arguments, cwd=REPO, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    finally:
        os.close(write)


@pytest.mark.parametrize("start", range(0, len(COMMANDS), 4))
def test_no_command_minds_a_closed_pipe(start):
    started = [(command, into_closed_pipe(command)) for command in COMMANDS[start : start + 4]]
    for command, process in started:
        _, said = process.communicate(timeout=100)
        assert said == "", command


def test_status_of_a_store_into_a_closed_pipe(tmp_path):
    Store(tmp_path)
    process = into_closed_pipe(["sweeps.status", f"tracking.root={tmp_path}"])
    assert process.communicate(timeout=100)[1] == "" and process.returncode == CLOSED_PIPE_STATUS


def test_the_status_is_the_command_s_own(capsys):
    for status, main in ((3, lambda: 3), (None, lambda: None)):
        with pytest.raises(SystemExit) as end:
            run_command(main)
        assert end.value.code == status
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)
