"""Keeps the store's content-addressed files: ROOT/blobs/ab/abcd…, named by the MD5 of what they hold.

A file is written to ROOT/tmp, forced to the disk and then renamed to its place, so a blob is whole or absent. A
temporary file is locked for as long as its writer lives, so that those of dead writers are recognised and collected.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tracking.digest import copy_hashed, md5_hex
from tracking.interface import ArtifactFile, TrackingError
from tracking.staging import collect_directory, is_staging_directory


class Blobs:
    """Writes and finds the content-addressed files of the store at `root`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "blobs"
        self.scratch = root / "tmp"

    def make(self) -> None:
        """Makes the directories, so that they outlive a loss of power."""
        if not (self.folder.is_dir() and self.scratch.is_dir()):
            self.folder.mkdir(exist_ok=True)
            self.scratch.mkdir(exist_ok=True)
            sync_directory(self.folder.parent)

    def path(self, md5: str) -> Path:
        """Returns where the content with this base64 MD5 is or would be. Raises TrackingError if it is no MD5."""
        name = md5_hex(md5)
        return self.folder / name[:2] / name

    def holds(self, file: ArtifactFile) -> bool:
        """Returns whether a blob of that name and size is there; its content is not read."""
        try:
            return self.path(file.md5).stat().st_size == file.size
        except FileNotFoundError:
            return False

    def put(self, files: Mapping[str, Path]) -> dict[str, ArtifactFile]:
        """Copies files in and returns their sizes and MD5s; when it returns they are on the disk.

        A blob that is there already is replaced all the same, which mends one that was damaged. Raises TrackingError
        for a source that is no regular file, and when the disk does not take it.
        """
        entries = {}
        changed: set[Path] = set()
        for name, source in files.items():
            if not source.is_file():
                raise TrackingError(f"{source}, to be stored as {name!r}: expected a regular file that exists")
            try:
                entries[name] = self._put(source, changed)
            except OSError as error:
                raise TrackingError(f"{source} could not be stored under {self.folder}: {error}") from error
        for directory in changed:
            sync_directory(directory)
        return entries

    def _put(self, source: Path, changed: set[Path]) -> ArtifactFile:
        self.scratch.mkdir(exist_ok=True)  # a copy of a store may have lost it: it was empty
        with open(source, "rb", buffering=0) as reader, self.temporary_file() as (temporary, writer):
            file = copy_hashed(reader, writer)
            writer.flush()
            os.fchmod(writer.fileno(), 0o444)
            os.fsync(writer.fileno())
            target = self.path(file.md5)
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                changed.add(self.folder)
            os.replace(temporary, target)
            changed.add(target.parent)
        return file

    @contextmanager
    def temporary_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Yields a new temporary file, its path and a writer to it, locked until the block ends and then removed."""
        while True:
            path = self.scratch / secrets.token_hex(16)
            with open(path, "xb") as writer:
                try:
                    fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # `collect_strays` came between the opening and the lock: it is collected
                    continue
                except OSError:  # not every file system has locks; there, a stray is known by its age alone
                    pass
                if not path.exists():
                    continue
                try:
                    yield path, writer
                finally:
                    path.unlink(missing_ok=True)
            return

    def collect_strays(self, grace: float, *, dry_run: bool = False) -> list[int]:
        """Removes the temporary files that no living process holds, and returns their sizes in bytes.

        With `dry_run` it removes nothing. Where files cannot be locked, a temporary file is a stray when nothing was
        written to it for `grace` seconds.
        """
        sizes = []
        for path in self.scratch.iterdir() if self.scratch.is_dir() else ():
            if is_staging_directory(path):
                sizes += collect_directory(path, grace, dry_run=dry_run) or []
                continue
            try:
                with _open_to_lock(path) as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    except OSError:
                        if age(path) <= grace:
                            continue
                    size = path.stat().st_size
                    if not dry_run:
                        path.unlink()  # still under the lock, so that no writer takes it up in between
                    sizes.append(size)
            except (FileNotFoundError, IsADirectoryError):  # renamed to its place meanwhile; none of ours
                continue
        return sizes

    def all(self) -> Iterator[Path]:
        """Yields the path of every blob on the disk."""
        for path in _files_below(self.folder):
            if len(path.name) == 32 and path.parent.name == path.name[:2]:
                yield path


def _open_to_lock(path: Path) -> BinaryIO:
    try:
        return open(path, "r+b")  # for writing: NFS locks no other file exclusively (flock(2))
    except PermissionError:  # a file that is to be renamed to its place: its writer has made it read-only
        return open(path, "rb")


def age(path: Path) -> float:
    """Returns the seconds since a file was last written; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _files_below(folder: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(folder):
        for name in names:
            yield Path(directory, name)


def sync_directory(directory: Path) -> None:
    """Forces a directory's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
