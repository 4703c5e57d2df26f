"""Reads the files of a committed artifact version and copies them out, each checked against the digest."""

import os
import tempfile
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from tracking.blobs import Blobs
from tracking.digest import copy_hashed, hash_file, manifest_digest
from tracking.interface import Artifact, ArtifactFile, NotFound, TrackingError, check_file_name

# The base64 MD5 of each file that this process has read, by (path, size, mtime in ns).
_MD5S_READ: dict[tuple[Path, int, int], str] = {}


class CheckedArtifact(Artifact):
    """Represents an artifact whose files are checked on their way out, wherever they are kept."""

    record: ClassVar[str]  # where the list of its files is kept

    @property
    def size(self) -> int:
        """Returns the bytes of all its files together."""
        return sum(file.size for file in self.files.values())

    @abstractmethod
    def _open(self, name: str) -> BinaryIO:
        """Opens a file's content as it is kept, not checked yet. Raises TrackingError where it cannot be read."""

    @abstractmethod
    def damaged(self, name: str, how: str) -> TrackingError:
        """Returns the error for a file that is not what was logged; `how` says in which way."""

    def check_entries(self) -> None:
        """Raises TrackingError unless the recorded files are the ones that the digest was computed from."""
        for name in self.files:
            check_file_name(name)
        if manifest_digest(self.files) != self.digest:
            raise TrackingError(
                f"{self.ref}: its recorded file list does not give its digest {self.digest}: {self.record} was "
                "altered; restore it from a copy"
            )

    def download(self, directory: Path | str) -> Path:
        """Copies every file as `Artifact` says. Raises TrackingError for damage and where the disk does not take it."""
        self.check_entries()
        directory = Path(directory)
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Every file is copied and checked aside before the first one is renamed to its place.
            with tempfile.TemporaryDirectory(prefix=".edgewise-", dir=directory, ignore_cleanup_errors=True) as aside:
                self._copy(directory.resolve(), Path(aside))
        except BaseException as error:
            for path in made:
                try:
                    path.rmdir()
                except OSError:
                    break
            if isinstance(error, OSError):
                raise TrackingError(f"{self.ref} could not be copied to {directory}: {error}") from error
            raise
        return directory

    def _copy(self, directory: Path, aside: Path) -> None:
        copies = []
        for number, (name, expected) in enumerate(self.files.items()):
            target = directory / name
            if not _resolved(target.parent).is_relative_to(directory):
                raise TrackingError(f"{self.ref}: file {name!r} would leave {directory} through a symbolic link there")
            if target.is_dir() and not target.is_symlink():
                raise TrackingError(f"{self.ref}: {target} is a directory: move it away to get the file {name!r}")
            if _is_equal(target, expected):
                continue
            copy = aside / str(number)
            with self._open(name) as source, open(copy, "xb") as writer:
                if copy_hashed(source, writer) != expected:
                    raise self.damaged(name, "was altered: it no longer has the MD5 it was logged with")
                writer.flush()
                os.fsync(writer.fileno())
            copies.append((copy, target))
        for _, target in copies:  # all of them first: one may fail
            target.parent.mkdir(parents=True, exist_ok=True)
        for copy, target in copies:
            os.replace(copy, target)  # replaces a symbolic link; does not follow it


@dataclass
class StoredArtifact(CheckedArtifact):
    """Represents a version in the embedded store as it was read; `created` is in seconds since the epoch."""

    name: str
    type: str
    version: int
    digest: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, ArtifactFile]
    created: float
    blobs: Blobs = field(repr=False, compare=False)
    record = "store.db"

    def file(self, name: str) -> Path:
        """Returns the path of a file as `Artifact` says. Raises NotFound for a name that the version has not."""
        self.check_entries()
        if name not in self.files:
            raise NotFound(f"{self.ref} holds no file {name!r}; it holds {', '.join(sorted(self.files)) or 'none'}")
        expected = self.files[name]
        path = self.blobs.path(expected.md5)
        try:
            stat = path.stat()
            key = (path, stat.st_size, stat.st_mtime_ns)
            if key not in _MD5S_READ:
                _MD5S_READ[key] = hash_file(path).md5
        except OSError as error:
            raise self.damaged(name, f"cannot be read ({error.strerror})") from error
        if _MD5S_READ[key] != expected.md5:
            raise self.damaged(name, "was altered: it no longer has the MD5 it was logged with")
        return path

    def _open(self, name: str) -> BinaryIO:
        try:
            return open(self.blobs.path(self.files[name].md5), "rb")
        except OSError as error:
            raise self.damaged(name, f"cannot be read ({error.strerror})") from error

    def damaged(self, name: str, how: str) -> TrackingError:
        """Returns the error for a file that is not what was logged, with what mends it."""
        return TrackingError(
            f"{self.ref}: file {name!r} {how} ({self.blobs.path(self.files[name].md5)}). Restore it from a copy of the "
            "store, or run the run that logged it again with force=true, which mends it if the content comes out the "
            "same; `python -m tracking verify` lists all that is damaged"
        )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # what Python 3.11 and 3.12 raise for symbolic links in a circle
        raise TrackingError(f"{path}: {error}") from error


def _is_equal(path: Path, expected: ArtifactFile) -> bool:
    return (
        path.is_file()
        and not path.is_symlink()
        and path.stat().st_size == expected.size
        and hash_file(path) == expected
    )
