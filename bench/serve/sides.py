"""Starts the servers that are compared, each as a process of its own, and ends them."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.serve.load import http_request

REPO = Path(__file__).parents[2]
THEIRS = Path(__file__).parent / "theirs"
LONGEST_START = 600.0  # seconds; imports, models, and the compilation of every shape, on a busy machine
LONGEST_END = 40.0


@dataclass(frozen=True)
class Side:
    """Names a server to measure: what starts it, on a port that is put in for PORT, and how it is asked.

    `many` says whether a request may hold many inputs.
    """

    name: str
    command: tuple[str, ...]
    path: str
    ready: str  # a path that answers 200 as soon as requests are answered; "" for POSTs to `path`
    many: bool = False

    def request(self, texts: Sequence[str]) -> bytes:
        """Returns a request for answers to these texts, of which there is one unless `many`."""
        return http_request(self.path, self.body(texts))

    def body(self, texts: Sequence[str]) -> bytes:
        """Returns the body of such a request."""
        value = {"inputs": [{"text": text} for text in texts]} if self.many else {"text": texts[0]}
        return json.dumps(value).encode()


PORT = "PORT"


def edgewise(bundle: Path, runs: Path, *overrides: str) -> Side:
    """Returns Edgewise's server of a switcher's folder."""
    words = (f"switcher.ref={bundle}", f"serve.port={PORT}", f"tracking.root={runs}", *overrides)
    return Side("Edgewise", (sys.executable, "-m", "infer.serve", *words), "/v1/predict", "/v2/health/ready", many=True)


def litserve(bundle: Path, python: str, batch: int, alone: bool) -> Side:
    """Returns LitServe with torch, in batches of at most `batch`."""
    way = "alone" if alone else "switch"
    return Side(
        _name("LitServe", alone), (python, str(THEIRS / "lit.py"), str(bundle), PORT, str(batch), way), "/predict", ""
    )


def ray_serve(bundle: Path, python: str, batch: int, alone: bool) -> Side:
    """Returns Ray Serve with torch, in batches of at most `batch`."""
    way = "alone" if alone else "switch"
    return Side(
        _name("Ray Serve", alone),
        (python, str(THEIRS / "ray_app.py"), str(bundle), PORT, str(batch), way),
        "/predict",
        "",
    )


def _name(server: str, alone: bool) -> str:
    """Names a server and what it does."""
    return f"{server}, larger alone" if alone else f"{server}, switch"


class Server:
    """Represents a server that runs."""

    def __init__(self, side: Side, log: Path, port: int | None = None):
        """Starts it, on any free port unless one is given; its output goes into a file.

        Raises SystemExit where it ends, or takes too long to answer.
        """
        self.side, self.port, self.log = side, port or free_port(), log
        command = [
            str(self.port) if word == PORT else word.replace(f"={PORT}", f"={self.port}") for word in side.command
        ]
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, cwd=REPO, stdout=file, stderr=file, start_new_session=True)
        self._wait()

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Asks once; returns the status, 0 where nothing answers, and the body."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def answers(self, texts: Sequence[str]) -> list[dict[str, object]]:
        """Returns the answers to some texts."""
        if self.side.many:
            status, body = self.ask(self.side.path, self.side.body(texts))
            assert status == 200, body
            found: list[dict[str, object]] = json.loads(body)["outputs"]
            return found
        return [json.loads(self.ask(self.side.path, self.side.body([text]))[1]) for text in texts]

    def end(self) -> int | None:
        """Ends it and whatever it has started, and returns its status; None where it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status: int | None = self.process.wait(LONGEST_END)
        except subprocess.TimeoutExpired:
            status = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return status

    def _wait(self) -> None:
        """Waits until it answers."""
        until = time.monotonic() + LONGEST_START
        probe = (self.side.ready, None) if self.side.ready else (self.side.path, self.side.body(["it is good"]))
        while self.ask(*probe)[0] != 200:
            tail = self.log.read_text(errors="replace")[-2000:]
            if self.process.poll() is not None or "not ready: " in tail or time.monotonic() > until:
                self.end()
                raise SystemExit(f"{self.side.name} doesn't answer: {' '.join(self.side.command)}\n{tail}")
            time.sleep(0.2)


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def needed(program: str) -> str:
    """Returns the path of a program. Raises SystemExit, with what to install, where there is none."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        raise SystemExit(f"{program} is not installed: apt-get install nginx slowhttptest prometheus")
    return path
