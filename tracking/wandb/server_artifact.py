"""Reads the files of an artifact version at W&B, each checked against the digest on its way here."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from conf.secrets import without_credentials
from tracking.artifact import CheckedArtifact, StoredArtifact
from tracking.digest import hash_file, manifest_digest
from tracking.interface import ArtifactFile, NotFound, TrackingError
from tracking.staging import StagingDirectory
from tracking.wandb.records import OWN_METADATA_KEY, seconds_of
from tracking.wandb.sdk import REQUEST_TIMEOUT, call_with_timeout, plain_value, upload_seconds
from tracking.wandb.words import as_sent, marks_of


class Fetcher(Protocol):
    """Says what a version needs of the server that it came from."""

    def explained(self, subject: str) -> AbstractContextManager[None]:
        """Turns the SDK's errors into NotFound or Unreachable."""

    def temporary_directory(self) -> StagingDirectory:
        """Returns a directory for downloads. Raises TrackingError."""


class ServerArtifact(CheckedArtifact):
    """Represents a version at W&B. Its manifest, and so its `files`, is fetched when it is first asked for."""

    record = "its manifest at W&B"

    def __init__(self, remote: Any, server: Fetcher) -> None:
        self.remote, self._server = remote, server
        self.name, self.type, self.digest = remote.name.partition(":")[0], remote.type, remote.digest
        self.version = int(remote.version.removeprefix("v"))  # the name ends in what it was asked for by
        self.aliases = sorted(remote.aliases, key=lambda alias: (alias != "latest", alias))
        metadata = dict(remote.metadata or {})
        marks = marks_of(plain_value(metadata.pop(OWN_METADATA_KEY, {})))
        self.metadata = as_sent(metadata, marks)
        self.created = seconds_of(remote.created_at) or 0.0
        self.held: StoredArtifact | None = None  # the same version in a store, once it was brought there
        self._files: dict[str, ArtifactFile] | None = None
        self._references: dict[str, str] = {}  # of entries that are not files but addresses of such
        self._folder: StagingDirectory | None = None

    @property
    def files(self) -> dict[str, ArtifactFile]:  # type: ignore[override]  # a property where the interface has a field
        """Returns the files by name, from the manifest."""
        if self._files is None:
            with self._server.explained(self.ref):
                entries = call_with_timeout(
                    2 * REQUEST_TIMEOUT, lambda: self.remote.manifest.entries, f"the manifest of {self.ref}"
                )
            self._files = {name: ArtifactFile(entry.size or 0, entry.digest) for name, entry in sorted(entries.items())}
            self._references = {name: entry.ref for name, entry in sorted(entries.items()) if entry.ref is not None}
        return self._files

    def check_entries(self) -> None:
        """Raises TrackingError as `CheckedArtifact` does, and for a manifest that refers to addresses elsewhere."""
        if self.files and self._references:
            name, address = next(iter(self._references.items()))
            raise TrackingError(
                f"{self.ref} at W&B: its entry {name!r} refers to {without_credentials(address)}, and references are "
                "not followed: log the file itself (artifact.add_file)"
            )
        super().check_entries()

    def file(self, name: str) -> Path:
        """Returns the path of a file as `Artifact` says: of the store's own, or of a download."""
        if self.held is not None:
            return self.held.file(name)
        self.check_entries()
        if name not in self.files:
            raise NotFound(f"{self.ref} holds no file {name!r}; it holds {', '.join(sorted(self.files)) or 'none'}")
        if self._folder is None:
            self._folder = self._server.temporary_directory()
        path = self._folder.path / name
        if not path.is_file():
            self._download(self.files[name].size, name)
        if hash_file(path) != self.files[name]:
            path.unlink()
            raise self.damaged(name, "arrived altered: it has not the MD5 it was logged with")
        return path

    def download(self, directory: Path | str) -> Path:
        """Downloads and checks every file as `Artifact` says."""
        if self.held is not None:
            return self.held.download(directory)
        self.check_entries()
        if self._folder is None:
            self._folder = self._server.temporary_directory()
            self._download(self.size)  # all at once
        return super().download(directory)

    def _download(self, size: int, prefix: str | None = None) -> None:
        assert self._folder is not None
        folder = str(self._folder.path)
        with self._server.explained(f"content of {self.ref}"):
            call_with_timeout(
                upload_seconds(size),
                lambda: self.remote.download(root=folder, skip_cache=True, path_prefix=prefix),
                f"the download of {self.ref}",
            )

    def _open(self, name: str) -> BinaryIO:
        return open(self.file(name), "rb")

    def damaged(self, name: str, how: str) -> TrackingError:
        """Returns the error for a file that is not what was logged, with what mends it."""
        return TrackingError(f"{self.ref} at W&B: file {name!r} {how}. Log it again, or take it from another store")


def download_checked(artifact: ServerArtifact, folder: Path) -> dict[str, Path]:
    """Downloads every file into `folder`, checked; names to paths."""
    artifact.download(folder)
    paths = {name: folder / name for name in artifact.files}
    assert manifest_digest({name: hash_file(path) for name, path in paths.items()}) == artifact.digest
    return paths
