"""Sends to W&B what a job keeps, in a process of its own: `python -m tracking.wandb.courier`, started by the tracker.

A job never waits for W&B: it writes to its store, and this process reads from there. So a server that is slow or gone
costs a run nothing, and a job that is killed still has its last points sent. Commands come as lines on standard
input, `follow RUN` and `finish RUN`; when the input ends, what is left is sent, and the process ends. It answers on
standard output, one line of JSON for each failure and for each run that it has ended.
"""

import argparse
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from conf.errors import first_line
from tracking.interface import TrackingError
from tracking.store import Store
from tracking.wandb.deliverer import Deliverer, working_directory
from tracking.wandb.project import WandbProject
from tracking.wandb.sdk import PATIENCE, upload_seconds
from tracking.wandb.server import Server

_CHECKOUT = Path(__file__).resolve().parents[2]
_POLL = 1.0  # seconds between two looks at the runs that go on
_RETRY = 15.0  # seconds after which a run that could not be followed is tried again


class Courier:
    """Starts the courier process, sends it commands, and waits for its end, though not for ever."""

    def __init__(self, root: Path, project: WandbProject, *, check_content: bool = False) -> None:
        command = [sys.executable, "-m", "tracking.wandb.courier", "--root", str(root), *project.flags]
        command += ["--check-content"] * check_content
        # The SDK's service process of its own: one that it shared with the job would outlive it, and hold up the job.
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        self._pid = os.getpid()
        self._process = subprocess.Popen(
            command,
            cwd=_CHECKOUT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C stops the job; this process goes on, to send the job's end
        )
        self.problems: dict[str, str] = {}
        self._answered: set[str] = set()
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def is_mine(self) -> bool:
        """Returns whether this process, and not one that it was forked from, started the courier, which still runs."""
        return self._pid == os.getpid() and self._process.poll() is None

    def send(self, command: str, run_id: str) -> None:
        """Passes a command on. Where the courier has died, that is noted: its runs are still to be pushed."""
        assert self._process.stdin is not None
        self._answered.discard(run_id)
        try:
            self._process.stdin.write(f"{command} {run_id}\n")
            self._process.stdin.flush()
        except OSError:
            self.problems[run_id] = self._death()

    def wait(self, run_ids: set[str], seconds: float = math.inf) -> None:
        """Waits until the courier has ended each of these runs or failed to, or has died."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not run_ids <= self._answered and self._process.poll() is None and time.monotonic() < deadline:
                self._changed.wait(0.5)  # a death is noticed only by polling

    def conclude(self, size: int) -> None:
        """Lets the courier send what is left, `size` bytes of uploads, and ends it; by force after a time limit."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE + upload_seconds(size) - upload_seconds(0))
        except subprocess.TimeoutExpired:
            self.problems[""] = f"W&B had not taken it all {PATIENCE:.0f} s after the end"
            self.kill()
        else:
            if self._process.returncode:
                self.problems.setdefault("", self._death())
        self._close()

    def _death(self) -> str:
        try:
            status = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "the process that sends to W&B takes no more commands"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return self.problems.get("", f"the process that sends to W&B {how}")

    def problem(self, run_id: str) -> str | None:
        """Returns why a run was not delivered, as far as the courier knows."""
        if run_id in self.problems:
            return self.problems[run_id]
        return None if run_id in self._answered or self._process.poll() is None else self._death()

    def kill(self) -> None:
        """Kills the courier at once."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        """Reads the courier's last answers and closes what leads to it."""
        self._listener.join(5.0)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not self._listener.is_alive():
                with suppress(OSError):
                    pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._changed:
                if answer["problem"] is None:
                    self.problems.pop(answer["run"], None)
                else:
                    self.problems[answer["run"]] = answer["problem"]
                if answer["ended"]:
                    self._answered.add(answer["run"])
                self._changed.notify_all()


class _Schedule:
    """Keeps the list of runs to follow, and finishes them when it is told to."""

    def __init__(self, deliverer: Deliverer, out: IO[str]) -> None:
        self._deliverer, self._out = deliverer, out
        self._followed: dict[str, float] = {}  # run id to the time at which it is to be followed next
        self._failed: list[str] = []

    def obey(self, command: str) -> None:
        """Carries out one line of input."""
        verb, _, run_id = command.strip().partition(" ")
        if verb == "follow":
            self._followed[run_id] = 0.0
        elif verb == "finish":
            self._followed.pop(run_id, None)
            if not self._finish(run_id):
                self._failed.append(run_id)

    def follow_all(self) -> None:
        """Sends what is new in the runs that go on."""
        for run_id, due in self._followed.items():
            if time.monotonic() >= due:
                try:
                    self._deliverer.follow(run_id)
                except TrackingError as error:
                    self._answer(run_id, str(error), ended=False)
                    self._followed[run_id] = time.monotonic() + _RETRY

    def finish_all(self) -> None:
        """Tries the runs that failed once more, and finishes those that the job left without an end."""
        for run_id in [*dict.fromkeys(self._failed), *self._followed]:
            self._finish(run_id)

    def _finish(self, run_id: str) -> bool:
        try:
            self._deliverer.finish(run_id)
        except TrackingError as error:
            self._answer(run_id, str(error), ended=True)
            return False
        self._answer(run_id, None, ended=True)
        return True

    def _answer(self, run_id: str, problem: str | None, *, ended: bool) -> None:
        with suppress(OSError):  # the job is gone; what counts is in the delivery record
            print(json.dumps({"run": run_id, "problem": problem, "ended": ended}), file=self._out, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Follows the store until the input ends and every run is sent or has failed."""
    parser = argparse.ArgumentParser(prog="python -m tracking.wandb.courier", description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--entity")
    parser.add_argument("--project", required=True)
    parser.add_argument("--base-url")
    parser.add_argument("--check-content", action="store_true")
    options = parser.parse_args(arguments)
    project = WandbProject(options.entity, options.project, options.base_url)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the chatter of the SDK and its service is not for the job
    commands: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(line)
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        _run(options, project, commands, out)
    except Exception as error:  # whatever it is, the job is to hear of it
        text = f"the process that sends to W&B failed: {type(error).__name__}: {first_line(error)}"
        print(json.dumps({"run": "", "problem": text, "ended": False}), file=out, flush=True)
        sys.exit(1)


def _run(options: argparse.Namespace, project: WandbProject, commands: "queue.Queue[str | None]", out: IO[str]) -> None:
    store = Store(Path(options.root).absolute(), create=False)
    with working_directory(store) as folder:
        deliverer = Deliverer(
            store, Server(project, staging=store.blobs.scratch), folder, check_content=options.check_content
        )
        schedule = _Schedule(deliverer, out)
        while True:
            try:
                command = commands.get(timeout=_POLL)
            except queue.Empty:
                schedule.follow_all()
                continue
            if command is None:
                break
            schedule.obey(command)
        schedule.finish_all()


if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)  # skips the SDK's own exit handler, which would wait for runs that were given up
