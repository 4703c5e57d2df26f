"""The process beside a job that sends what the job keeps: `python -m tracking.wandb.courier`, started by the tracker.

A job never waits for W&B: it writes to its store, and this process reads from there. So a server that is slow or gone
costs a run nothing, and a job that is killed still has its last points sent. Commands come as lines on standard
input, `follow RUN` and `finish RUN`; when the input ends, what is left is sent, and the process ends. What it could
not send it tells on standard output, a line of JSON each.
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

from tracking.interface import TrackingError
from tracking.store import Store
from tracking.wandb.deliverer import Deliverer, scratch
from tracking.wandb.place import Place
from tracking.wandb.sdk import PATIENCE, upload_seconds
from tracking.wandb.server import Server

_CHECKOUT = Path(__file__).resolve().parents[2]
_POLL = 1.0  # seconds between two looks at the runs that go on
_RETRY = 15.0  # seconds after which a run that could not be followed is tried again


class Courier:
    """The process, as its job sees it: started at once, told what to do, waited for at the end and not for ever."""

    def __init__(self, root: Path, place: Place) -> None:
        command = [sys.executable, "-m", "tracking.wandb.courier", "--root", str(root), *place.flags]
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
            start_new_session=True,  # Ctrl-C is for the job; this process sends the job's end
        )
        self.problems: dict[str, str] = {}
        self._answered: set[str] = set()
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def is_mine(self) -> bool:
        """Whether this process started it, and not one that this process was forked from."""
        return self._pid == os.getpid() and self._process.poll() is None

    def tell(self, command: str, run_id: str) -> None:
        """Passes a command on; a courier that has died is not missed: what it leaves is still to be pushed."""
        assert self._process.stdin is not None
        self._answered.discard(run_id)
        try:
            self._process.stdin.write(f"{command} {run_id}\n")
            self._process.stdin.flush()
        except OSError:
            self.problems[run_id] = "the process that sends to W&B has died"

    def wait(self, run_ids: set[str], seconds: float = math.inf) -> None:
        """Waits until it has said of each of these runs how its end went, or has died."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not run_ids <= self._answered and self._process.poll() is None and time.monotonic() < deadline:
                self._changed.wait(0.5)  # whether it has died must be asked

    def settle(self, size: int) -> None:
        """Lets it send what is left, `size` bytes of uploads, and ends it; after a while even if it is not through."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE + upload_seconds(size) - upload_seconds(0))
        except subprocess.TimeoutExpired:
            self.problems[""] = f"W&B had not taken it all {PATIENCE:.0f} s after the end"
            self.kill()
        else:
            if status := self._process.returncode:
                self.problems[""] = f"the process that sends to W&B has died (exit status {status})"
        self._listener.join(5.0)  # its last words

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._changed:
                if said["problem"] is None:
                    self.problems.pop(said["run"], None)
                else:
                    self.problems[said["run"]] = said["problem"]
                if said["ended"]:
                    self._answered.add(said["run"])
                self._changed.notify_all()


class _Round:
    """The runs that the courier is at."""

    def __init__(self, deliverer: Deliverer, out: IO[str]) -> None:
        self._deliverer, self._out = deliverer, out
        self._followed: dict[str, float] = {}  # and when each is to be looked at next
        self._failed: list[str] = []

    def take(self, command: str) -> None:
        what, _, run_id = command.strip().partition(" ")
        if what == "follow":
            self._followed[run_id] = 0.0
        elif what == "finish":
            self._followed.pop(run_id, None)
            if not self._finish(run_id):
                self._failed.append(run_id)

    def look(self) -> None:
        """Sends what has come up in the runs that go on."""
        for run_id, due in self._followed.items():
            if time.monotonic() >= due:
                try:
                    self._deliverer.follow(run_id)
                except TrackingError as error:
                    self._tell(run_id, str(error), ended=False)
                    self._followed[run_id] = time.monotonic() + _RETRY

    def end(self) -> None:
        """The job is over: once more what failed, and the runs that it left without an end."""
        for run_id in [*dict.fromkeys(self._failed), *self._followed]:
            self._finish(run_id)

    def _finish(self, run_id: str) -> bool:
        try:
            self._deliverer.finish(run_id)
        except TrackingError as error:
            self._tell(run_id, str(error), ended=True)
            return False
        self._tell(run_id, None, ended=True)
        return True

    def _tell(self, run_id: str, problem: str | None, *, ended: bool) -> None:
        with suppress(OSError):  # the job is gone; what counts is in the delivery record
            print(json.dumps({"run": run_id, "problem": problem, "ended": ended}), file=self._out, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Follows the store until the input ends and all is sent, or found to be undeliverable."""
    parser = argparse.ArgumentParser(prog="python -m tracking.wandb.courier", description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--entity")
    parser.add_argument("--project", required=True)
    parser.add_argument("--base-url")
    options = parser.parse_args(arguments)
    place = Place(options.entity, options.project, options.base_url)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the chatter of the SDK and its service is not for the job
    commands: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(line)
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    store = Store(Path(options.root).absolute(), create=False)
    with scratch(store) as folder:
        rounds = _Round(Deliverer(store, Server(place), folder), out)
        while True:
            try:
                command = commands.get(timeout=_POLL)
            except queue.Empty:
                rounds.look()
                continue
            if command is None:
                break
            rounds.take(command)
        rounds.end()


if __name__ == "__main__":
    main()
    os._exit(0)  # not through the SDK's own end, which would wait for runs that were let go
