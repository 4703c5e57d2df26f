"""Remembers for a whole process that W&B did not answer: one question waits for it, and one note says so.

A sweep opens a tracker for each of its cells. Without this each would wait for the same server anew.
"""

import sys
import threading
import time
from pathlib import Path

from tracking.wandb.project import WandbProject
from tracking.wandb.server import Server

_ASK_AGAIN = 60.0  # seconds after which a server that did not answer is asked again, beside the job


class Outage:
    """Knows whether a project's server was found not to answer (`outage_of`)."""

    def __init__(self, project: WandbProject) -> None:
        self._project = project
        self._lock = threading.Lock()
        self._goes_on = self._is_asked = False
        self._next = 0.0  # when the server is asked again, by time.monotonic()

    def begin(self, error: Exception, root: Path) -> None:
        """Notes that the server did not answer, and prints once an outage that the store at `root` is gone on with."""
        with self._lock:
            if not self._goes_on:
                print(f"{error}: going on with what is in {root}", file=sys.stderr)
            self._goes_on, self._next = True, time.monotonic() + _ASK_AGAIN

    def goes_on(self, staging: Path) -> bool:
        """Returns whether the server is known not to answer, without waiting for it.

        Now and then a thread asks it again; the SDK's own files go below `staging`.
        """
        with self._lock:
            if self._goes_on and not self._is_asked and time.monotonic() >= self._next:
                self._is_asked = True
                threading.Thread(target=self._ask_again, args=(staging,), daemon=True).start()
            return self._goes_on

    def _ask_again(self, staging: Path) -> None:
        is_back = False
        try:
            is_back = Server(self._project, staging=staging).problem() is None
        except Exception:  # whatever it is, there is no answer, and the outage has been noted
            pass
        finally:
            with self._lock:
                self._goes_on, self._is_asked = not is_back, False
                self._next = time.monotonic() + _ASK_AGAIN


_OUTAGES: dict[WandbProject, Outage] = {}


def outage_of(project: WandbProject) -> Outage:
    """Returns what this process knows of a project's server."""
    return _OUTAGES.setdefault(project, Outage(project))
