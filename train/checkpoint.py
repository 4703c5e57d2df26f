"""Saves and restores the training checkpoints of one run by Orbax v1, whose only import is here.

Saves are asynchronous; the last K are kept, the final one among them.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from orbax.checkpoint import v1 as ocp

from conf.errors import EdgewiseError, first_line

T = TypeVar("T")

# Orbax numbers its operations for the whole process, and what belongs to one reads the last number as it starts. Where
# seeds train side by side, one of them starts a save or a load at a time: else saves wait for each other, and time out.
_STARTING = threading.Lock()

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs an error thread by thread, besides raising it


class Checkpoints:
    """Holds the checkpoints under one directory, the last `keep` of them.

    A step that is listed is complete; a save that was cut off is not listed. Raises EdgewiseError where the directory
    can't be read.
    """

    def __init__(self, directory: Path, keep: int):
        self.directory = directory
        try:
            self._checkpointer = ocp.training.Checkpointer(
                directory.absolute(),
                preservation_policy=ocp.training.preservation_policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )
        except (OSError, ValueError) as error:
            raise EdgewiseError(self._broken(error)) from error
        self._saving: ocp.AsyncResponse[bool] | None = None  # holds a thread and three file descriptors until asked
        self._step: int | None = None  # of the last save

    @property
    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint; None where there is none."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def restore(self, abstract: T) -> T:
        """Returns the newest checkpoint, in the shapes, dtypes and shardings of `abstract`.

        Raises EdgewiseError when it is damaged or is another model's.
        """
        try:
            with _STARTING:
                state: T = self._checkpointer.load(self.latest, abstract)
                return state
        except Exception as error:  # orbax and tensorstore raise many kinds for a file cut short
            raise EdgewiseError(self._broken(error)) from error

    def save(self, state: Any, step: int) -> None:
        """Starts to save `state`, a tree of arrays, as `step`; returns when they are copied, before they are written.

        Waits for the save before it, and raises EdgewiseError when that one, or this one's start, has failed.
        """
        if self.latest != step:
            self._wait()
            self._step = step
            with _STARTING, self._writing():
                self._saving = self._checkpointer.save_async(step, state, force=True)  # else it may be skipped

    def close(self) -> None:
        """Waits until everything that was saved is on disk; raises EdgewiseError when it can't be."""
        try:
            self._wait()
        finally:
            with self._writing():
                self._checkpointer.close()

    def _wait(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None:
            with self._writing():
                saving.result()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise many kinds for a file that can't be written
            raise EdgewiseError(
                f"the checkpoint of step {self._step} in {self.directory} can't be written ({type(error).__name__}: "
                f"{first_line(error)}). Free some disk space or give another "
                "tracking.root; the same command goes on from the last checkpoint that is complete"
            ) from error

    def _broken(self, error: Exception) -> str:
        return (
            f"the checkpoint of step {self.latest_on_disk()} in {self.directory} can't be read "
            f"({type(error).__name__}: {first_line(error)[:200]}). Expected a complete Orbax checkpoint of "
            "this cell: delete that step's folder to go on from an earlier one, or give force=true to train anew"
        )

    def latest_on_disk(self) -> int | None:
        """Returns the highest step that has a folder, complete or not; None where none has."""
        steps = [int(path.name) for path in self.directory.glob("*") if path.name.isdigit()]
        return max(steps, default=None)
