"""Runs the two sides of `just bench-torch`, each a process of its own, with limits of time and of a GPU's memory."""

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JobFailed(Exception):
    """Says why a job has no answer: its own error, its time limit, or the end of its process."""


class Worker:
    """Runs one side's process, and hands it one job after the other; starts it again where a job has ended it."""

    def __init__(self, *command: str, folder: Path, environment: Mapping[str, str]) -> None:
        """Starts `command` in `folder`, with `environment` beside this process's own."""
        self._command, self._folder = command, folder
        self._environment = {**os.environ, **environment}
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: str, limit: float) -> dict[str, Any]:
        """Returns the worker's answer to a job.

        Raises JobFailed where the job fails, where it takes more than `limit` seconds, start of the process included,
        and where the process ends. In the last two cases the next job has a new process.
        """
        if self._process.poll() is not None:
            self.close()
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        deadline = time.monotonic() + limit
        try:
            print(job, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise JobFailed(f"{job}: the process ended, status {self._process.wait()}; its error is above") from None
        # an answer is one line, written at once: where there is something to read, it is all of it
        readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            self.close()
            raise JobFailed(f"{job}: not done in {limit:.0f} s, its limit")
        line = self._process.stdout.readline()
        if not line:
            raise JobFailed(f"{job}: the process ended, status {self._process.wait()}; its error is above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise JobFailed(f"{job}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process, and with it whatever job it has."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def memory_limits(device: str, share: float) -> dict[str, str]:
    """Returns the environment in which JAX takes at most `share` of a GPU's memory, and that as it needs it.

    By default it takes three quarters at its start, and leaves the other side none. Without a GPU nothing is limited.
    """
    if device == "cpu":
        return {}
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{share:.2f}"}
