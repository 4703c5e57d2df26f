"""Calls in worker processes: one that dies takes no other along, and a signal reaches them all."""

import os
import signal
import sys
import threading
import time

import pytest

from conf.errors import EdgewiseError
from sweeps.workers import call_in_workers
from train.stopping import Stopped


def act(what, folder):
    """What a job does; runs in a worker."""
    (folder / f"{what}-{os.getpid()}").touch()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise EdgewiseError("no rows\nand more")
    if what == "exit":
        sys.exit(3)
    if what == "wait":
        signal.signal(signal.SIGTERM, lambda *_: (folder / "saved").touch())
        (folder / "waiting").touch()
        while not (folder / "saved").exists():
            time.sleep(0.01)
        raise Stopped(signal.SIGTERM)
    return what


def test_one_that_dies_and_one_that_raises_are_said_and_the_others_go_on(tmp_path):
    lost = []
    calls = ["a", "die", "raise", "exit", "b", "c"]
    results = call_in_workers(act, [(what, tmp_path) for what in calls], 2, lambda i, why: lost.append((calls[i], why)))
    assert sorted(results) == ["a", "b", "c"]
    assert sorted(lost) == [
        ("die", "its process died, SIGKILL(-9)"),
        ("exit", "it ended with status 3"),
        ("raise", "EdgewiseError: no rows"),
    ]
    workers = {path.name.partition("-")[2] for path in tmp_path.iterdir()}
    assert os.getpid() not in map(int, workers)


def test_a_new_process_takes_the_place_of_a_dead_one(tmp_path):
    assert call_in_workers(act, [("die", tmp_path), ("a", tmp_path), ("b", tmp_path)], 1, lambda *said: None) == [
        "a",
        "b",
    ]
    [a], [b] = ([path.name.partition("-")[2] for path in tmp_path.glob(f"{what}-*")] for what in "ab")
    assert a == b, "and it makes the calls that are left"


def test_a_signal_is_passed_on_and_no_other_job_starts(tmp_path):
    def send():
        while not (tmp_path / "waiting").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send).start()
    lost = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        call_in_workers(act, [("wait", tmp_path), ("later", tmp_path)], 1, lambda *said: lost.append(said))
    assert stopped.value.code == 128 + signal.SIGTERM and not lost
    assert (tmp_path / "saved").exists() and not list(tmp_path.glob("later-*"))
    assert signal.getsignal(signal.SIGTERM) == before
