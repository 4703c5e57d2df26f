"""Defines what a tracking backend does: runs, versioned artifacts, and the edges between them.

Two backends keep this interface: the embedded store (`tracking.store`) and Weights & Biases. A run logs metrics,
uses artifacts and logs artifacts; each use and each log is an edge, and lineage is nothing but these edges.
"""

import re
import traceback as tracebacks
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from conf.errors import EdgewiseError

RUN_STATES = ("running", "finished", "failed", "stopped")  # stopped: by a signal, after saving; may be resumed


MIN_PREFIX = 6  # hex digits of a digest that a reference must give


class TrackingError(EdgewiseError):
    """Reports a run, an artifact or a store that is not what the caller needs."""


class NotFound(TrackingError):
    """Reports that no run or artifact has that name."""


@dataclass(frozen=True)
class ArtifactFile:
    """Holds what identifies one file of an artifact version: its size in bytes and its base64 MD5."""

    size: int
    md5: str


@dataclass
class ArtifactDraft:
    """Holds an artifact that is not logged yet. `files` maps names inside the artifact to files on disk."""

    name: str
    type: str
    metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def add_file(self, path: Path | str, name: str | None = None) -> None:
        """Adds a file under `name` (default: its own). Raises TrackingError for a name that leaves the artifact."""
        name = Path(path).name if name is None else name
        check_file_name(name)
        if name in self.files:
            raise TrackingError(f"artifact {self.name} already holds a file named {name!r}")
        self.files[name] = Path(path)


class Artifact(ABC):
    """Represents one committed version of an artifact. Its digest is its content: W&B's manifest digest."""

    name: str
    type: str
    version: int
    digest: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, ArtifactFile]
    created: float  # seconds since the epoch

    @property
    def ref(self) -> str:
        """Returns `name:vN`, which names this version for good."""
        return f"{self.name}:v{self.version}"

    @abstractmethod
    def file(self, name: str) -> Path:
        """Returns the local, read-only path of one file, checked. Raises TrackingError if it was altered."""

    @abstractmethod
    def download(self, directory: Path | str) -> Path:
        """Copies every file, checked, into `directory` and returns it. Nothing half-written stays on an error."""


@dataclass
class RunRecord:
    """Holds what is kept of a run.

    `config` is nested, `summary` has the last values, and times are in seconds since the epoch. `code_version` is the
    product's version with the commit, such as `0.2.0+COMMIT`. `process` is the `process_mark` of the run's process:
    None in records of before there were marks, of W&B, and where the system gives none.
    """

    id: str
    job_type: str
    name: str
    group: str | None
    state: str
    config: dict[str, Any]
    summary: dict[str, Any]
    tags: list[str]
    code_version: str
    started: float
    ended: float | None
    heartbeat: float
    host: str
    pid: int
    error: str | None
    process: str | None = None


@dataclass(frozen=True)
class Media:
    """Holds something of a run to look at: a `table`, `lines` (a chart), an `image` (PNG) or a page of `html`.

    `content` has a table's `columns` and `rows`, or a chart's `x`, `lines`, `title` and `x_name`. The content of an
    image or a page is in the blob that `file` identifies.
    """

    key: str
    kind: str
    content: dict[str, Any]
    file: ArtifactFile | None = None


class Run(ABC):
    """Represents a run in progress. As a context manager it ends `finished`, or `failed` with a traceback."""

    id: str

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Adds a point to the history. The same step logged again replaces it, so a resumed run has one history."""

    @abstractmethod
    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Merges JSON values into the run's summary."""

    @abstractmethod
    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keeps a table to look at (at most 10,000 rows; what is to be computed with belongs in an artifact)."""

    @abstractmethod
    def log_lines(
        self, key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_name: str
    ) -> None:
        """Keeps a chart of lines over one x axis; each line has as many values as `x`."""

    @abstractmethod
    def log_image(self, key: str, path: Path) -> None:
        """Keeps a PNG."""

    @abstractmethod
    def log_html(self, key: str, path: Path) -> None:
        """Keeps a page of HTML that needs no other file."""

    @abstractmethod
    def use_artifact(self, artifact: Artifact | str) -> Artifact:
        """Records that this run reads an artifact (or a REF) and returns it."""

    @abstractmethod
    def log_artifact(self, draft: ArtifactDraft, aliases: Iterable[str] = ("latest",)) -> Artifact:
        """Commits a draft whole or not at all; content that is there already is that version, not a new one."""

    @abstractmethod
    def finish(self, state: str = "finished", error: str | None = None) -> None:
        """Ends the run; a second call does nothing."""

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish("failed", "".join(tracebacks.format_exception(kind, value, traceback)))


class Reader(ABC):
    """Answers questions about the runs and artifacts that a backend keeps."""

    @abstractmethod
    def run(self, run_id: str) -> RunRecord | None:
        """Returns the run's record, or None if there is no such run."""

    @abstractmethod
    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        """Returns the runs that have all that is given, oldest first."""

    @abstractmethod
    def history(self, run_id: str) -> list[dict[str, float]]:
        """Returns the run's points in order of step, each a mapping with the key `step`. Raises NotFound."""

    @abstractmethod
    def artifact(self, ref: str) -> Artifact:
        """Returns the version that `name:alias`, `name:vN`, `name` (its latest) or a digest prefix names.

        Raises NotFound.
        """

    @abstractmethod
    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        """Returns every version whose name matches the glob, by name and version."""

    @abstractmethod
    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs that logged this version."""

    @abstractmethod
    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs that used this version."""

    @abstractmethod
    def inputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions that a run used. Raises NotFound."""

    @abstractmethod
    def outputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions that a run logged. Raises NotFound."""

    @abstractmethod
    def close(self) -> None:
        """Closes open files and connections, as the end of the process would."""


class Tracker(Reader):
    """Adds runs to those that a backend keeps."""

    @abstractmethod
    def start_run(
        self,
        run_id: str,
        *,
        job_type: str,
        config: Mapping[str, Any],
        name: str | None = None,
        group: str | None = None,
        tags: Iterable[str] = (),
        restart: bool = False,
    ) -> Run:
        """Starts a run, or resumes the one with this id; `restart` forgets what was logged and its edges first."""

    @abstractmethod
    def move_alias(self, artifact: Artifact, alias: str) -> None:
        """Gives an alias to a version; another version of the same name that had it loses it.

        Raises TrackingError for what can be no alias, and NotFound where the version is gone.
        """

    def make_latest(self, artifact: Artifact) -> bool:
        """Gives `latest` to a version that counts again; returns whether another version of the name had it."""
        try:
            if self.artifact(f"{artifact.name}:latest").digest == artifact.digest:
                return False
        except NotFound:
            pass
        self.move_alias(artifact, "latest")
        return True

    @abstractmethod
    def temporary_directory(self) -> AbstractContextManager[Path]:
        """Returns a directory beside the store for what is to be logged; entering it gives its path.

        It is removed at the end of the block, or after a kill by the next run or `gc`. Raises TrackingError.
        """


def is_digest_prefix(ref: str) -> bool:
    """Returns whether a reference may be the first hex digits of a digest."""
    return re.fullmatch(rf"[0-9a-fA-F]{{{MIN_PREFIX},32}}", ref) is not None


def check_file_name(name: str) -> None:
    """Raises TrackingError unless `name` is a plain relative path that stays inside an artifact."""
    parts = PurePosixPath(name).parts
    if (
        not name
        or "\\" in name
        or "\0" in name
        or name.startswith("/")
        or not parts
        or ".." in parts
        or ":" in parts[0]
    ):
        raise TrackingError(f"file name {name!r} in an artifact: expected a relative path without '..'")
    if name != "/".join(parts):
        raise TrackingError(f"file name {name!r} in an artifact: expected it written as {'/'.join(parts)!r}")


def check_artifact_name(name: str) -> None:
    """Raises TrackingError unless W&B would take `name` for an artifact: at most 128 letters, digits, '-', '_', '.'."""
    if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,128}", name):
        raise TrackingError(f"artifact name {name!r}: expected at most 128 letters, digits, '-', '_' and '.'")
