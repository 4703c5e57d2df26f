"""Keeps what is done of an output in a folder beside it, part by part, until the parts are joined into the whole.

A part counts when its note is there, and the note is written after it: what a kill leaves is whole parts and, at most,
a file that is written again.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError, no_room
from tracking.files import written_whole

STATE, LOCK, WHOLE, WRITTEN = "state.json", "lock", "whole", "written.json"


class Parts:
    """Represents the parts of one output, in `folder`; `state` says of which input, switcher and settings they are."""

    def __init__(self, output: Path, state: Mapping[str, Any]):
        self.folder = output.with_name(f".{output.name}.parts")
        self.state = dict(state)

    def resumes(self) -> bool:
        """Tells whether there are parts of the same input, switcher and settings."""
        try:
            return bool(json.loads((self.folder / STATE).read_text()) == self.state)
        except (OSError, ValueError):
            return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder, for as long as the block runs no other process's; parts of anything else are removed.

        Where the block raises before any part is done, the folder is removed. Raises EdgewiseError where another
        process writes the same output, and where there can be no such folder.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            opened = (self.folder / LOCK).open("w")
        except OSError as error:
            raise no_room(error) or EdgewiseError(
                f"{self.folder}, where what is done of the output is kept, can't be made: {error.strerror}; write "
                "elsewhere (apply.output)"
            ) from None
        with opened as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EdgewiseError(
                    f"{self.folder} is in use: another process writes the same output; wait for it, or write elsewhere"
                ) from None
            except OSError:
                pass  # not every file system has locks
            if not self.resumes():
                for path in self.folder.iterdir():
                    if path.is_dir():
                        raise EdgewiseError(
                            f"{path} is a folder, where only parts of an output are expected: move it away, or write "
                            "elsewhere (apply.output)"
                        )
                    if path.name != LOCK:
                        path.unlink()
                with written_whole(self.folder / STATE) as partial:
                    partial.write_text(json.dumps(self.state, indent=1, sort_keys=True))
            try:
                yield
            except BaseException:
                if self.note(0) is None:
                    self.remove()
                raise

    def path(self, number: int) -> Path:
        """Returns where part `number`, from 0, lies."""
        return self.folder / f"{number:08d}.part"

    def note(self, number: int) -> dict[str, Any] | None:
        """Returns what was noted of a part that is done; None where it isn't."""
        try:
            noted: dict[str, Any] = json.loads((self.folder / f"{number:08d}.json").read_text())
        except (OSError, ValueError):
            return None
        return noted if self.path(number).is_file() else None

    def commit(self, number: int, noted: Mapping[str, Any]) -> None:
        """Notes that a part is done."""
        with written_whole(self.folder / f"{number:08d}.json") as partial:
            partial.write_text(json.dumps(noted))

    def note_written(self, digest: str) -> None:
        """Notes the hex sha256 of the whole output, which is about to get its name."""
        with written_whole(self.folder / WRITTEN) as partial:
            partial.write_text(json.dumps(digest))

    def wrote(self, digest: str) -> bool:
        """Tells whether these parts were joined into an output with this hex sha256, and then cut off."""
        try:
            return self.resumes() and bool(json.loads((self.folder / WRITTEN).read_text()) == digest)
        except (OSError, ValueError):
            return False

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
