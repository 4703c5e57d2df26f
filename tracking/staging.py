"""Makes directories for temporary files beside a store: removed in the end, and after a kill by whoever comes next.

Each directory holds a file that is locked for as long as its process lives, so that those of dead processes are
recognised. The system's folder for temporary files is not used: it may be small, or on another disk than the store.
"""

import fcntl
import os
import secrets
import shutil
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import IO

from tracking.interface import TrackingError

_PREFIX = "dir-"
_LOCK = "lock"


class StagingDirectory:
    """Makes a directory below `parent` for temporary files; `path` is removed on closing and at the process's end.

    Raises TrackingError, naming `parent`, where it cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        try:
            while (made := _make(parent)) is None:
                pass
            outer, lock = made
            self.path = outer / "content"
            self.path.mkdir()
        except OSError as error:
            raise TrackingError(f"no temporary directory can be made in {parent}: {error.strerror}") from error
        self._finalizer = weakref.finalize(self, _remove, outer, lock, os.getpid())

    def close(self) -> None:
        """Removes the directory; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _make(parent: Path) -> tuple[Path, IO[str]] | None:
    """Returns a new directory and its locked file; None where it was collected before it was locked."""
    outer = parent / f"{_PREFIX}{secrets.token_hex(6)}"
    outer.mkdir(parents=True, mode=0o700)
    lock = open(outer / _LOCK, "w")  # noqa: SIM115  # held for as long as the directory
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # `collect_directory` came between the opening and the lock: it removes the directory
        lock.close()
        return None
    except OSError:  # not every file system has locks; there, a directory is known by its age alone
        pass
    if not (outer / _LOCK).exists():  # it is through
        lock.close()
        return None
    return outer, lock


def _remove(outer: Path, lock: IO[str], pid: int) -> None:
    if pid == os.getpid():  # not in a forked child: the directory is its parent's
        shutil.rmtree(outer, ignore_errors=True)
        lock.close()


def is_staging_directory(path: Path) -> bool:
    """Returns whether a path has the form of a `StagingDirectory`."""
    return path.name.startswith(_PREFIX) and path.is_dir() and not path.is_symlink()


def collect_directory(outer: Path, grace: float, *, dry_run: bool = False) -> list[int] | None:
    """Removes a `StagingDirectory` whose process is dead, and returns its files' sizes in bytes; None if it lives.

    With `dry_run` it removes nothing. Where files cannot be locked, and before the lock is there, a directory counts as
    dead `grace` seconds after its last change.
    """
    try:
        with open(outer / _LOCK, "r+") as lock:  # for writing: NFS locks no other file exclusively (flock(2))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _collect(outer, dry_run)
    except BlockingIOError:
        return None
    except OSError:
        try:
            return _collect(outer, dry_run) if time.time() - outer.stat().st_mtime > max(grace, 60.0) else None
        except FileNotFoundError:  # removed meanwhile
            return None


def _collect(outer: Path, dry_run: bool) -> list[int]:
    sizes = [path.lstat().st_size for path in outer.rglob("*") if path.is_file() and path.name != _LOCK]
    if not dry_run:
        shutil.rmtree(outer, ignore_errors=True)
    return sizes
