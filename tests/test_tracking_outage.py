"""Where W&B does not answer, one question of a process waits for it and one note says so; it is asked again beside."""

import os
import subprocess
import sys
import threading

import pytest
import wandb

from tests.support import REPO
from tests.wandb_server.http import wait_until
from tracking.wandb import outage
from tracking.wandb.project import WandbProject
from tracking.wandb.sdk import Unreachable
from tracking.wandb.tracker import WandbTracker

ENDS = """
import os, signal
from tracking.wandb import sdk

sdk.start_service()
if {restarted}:
    sdk.restart_service()
import wandb

os.kill(wandb.setup()._connection._proc._process.pid, signal.SIGSTOP)
print("ends", flush=True)
"""


@pytest.mark.parametrize("restarted", [False, True])
def test_a_command_ends_though_the_sdk_s_process_does_not(restarted, tmp_path):
    environment = os.environ | {"EDGEWISE_WANDB_PATIENCE": "2", "WANDB_DIR": str(tmp_path), "WANDB_MODE": "offline"}
    environment.pop(wandb.env.SERVICE, None)  # another test's SDK may run in this process
    command = [sys.executable, "-c", ENDS.format(restarted=restarted)]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "ends\n", done.stderr


class Server:
    """Answers no question; `asked` are the runs that it was asked for."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def run(self, run_id: str):
        self.asked.append(run_id)
        raise Unreachable("W&B, me/x: no answer in 15 s")


@pytest.fixture
def open_tracker(tmp_path, monkeypatch):
    """A function: project, list of questions -> a tracker of its own, as a sweep opens one for each cell."""
    monkeypatch.setattr(outage, "_OUTAGES", {})
    trackers = []

    def make(project: str, asked: list[str]) -> WandbTracker:
        trackers.append(WandbTracker(tmp_path / "runs", WandbProject("me", project)))
        trackers[-1].server = Server(asked)
        return trackers[-1]

    yield make
    for tracker in trackers:
        tracker.close()


def test_many_trackers_of_one_process_wait_once_and_note_it_once(open_tracker, tmp_path, capsys):
    asked: list[str] = []
    for cell in range(5):
        assert open_tracker("x", asked).run(f"train-{cell}") is None
    assert asked == ["train-0"]
    assert capsys.readouterr().err == f"W&B, me/x: no answer in 15 s: going on with what is in {tmp_path}/runs\n"
    assert open_tracker("another", asked).run("train-other") is None
    assert asked == ["train-0", "train-other"]


def test_a_server_that_is_back_is_found_without_a_question_waiting_for_it(open_tracker, monkeypatch, capsys):
    monkeypatch.setattr(outage, "_ASK_AGAIN", 0.0)
    answers = iter([TypeError("of the SDK"), "no answer in 15 s", None])
    may_answer, threads = threading.Event(), set()

    class Probe:
        def __init__(self, project, *, staging) -> None:
            pass

        def problem(self):
            threads.add(threading.current_thread())
            may_answer.wait(30)
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(outage, "Server", Probe)
    asked: list[str] = []
    tracker = open_tracker("x", asked)
    for _ in range(3):
        assert tracker.run("r") is None  # though the thread that asks has no answer yet
    assert asked == ["r"]
    may_answer.set()
    wait_until(lambda: tracker.run("r") is None and len(asked) == 2)
    assert threading.main_thread() not in threads and len(threads) == 3
    assert capsys.readouterr().err.count("going on with") == 2  # of the second outage, too
