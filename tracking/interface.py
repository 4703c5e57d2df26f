"""What a tracking backend does: runs, versioned artifacts, and the edges between them.

Two backends keep this interface: the embedded store (`tracking.store`) and Weights & Biases. A run logs metrics,
uses artifacts and logs artifacts; each use and each log is an edge, and lineage is nothing but these edges.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from conf.errors import EdgewiseError

RUN_STATES = ("running", "finished", "failed", "stopped")  # stopped: by a signal, after saving; may be resumed


class TrackingError(EdgewiseError):
    """A run, an artifact or the store itself is not what the caller needs it to be."""


class NotFound(TrackingError):
    """No run or artifact goes by that name."""


@dataclass(frozen=True)
class ArtifactFile:
    """One file of an artifact version: its size in bytes and its base64 MD5, as in W&B's manifest."""

    size: int
    md5: str


@dataclass
class ArtifactDraft:
    """An artifact that is not logged yet. `files` maps names inside the artifact to files on disk."""

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
    """One committed version of an artifact. Its digest is its content: W&B's manifest digest."""

    name: str
    type: str
    version: int
    digest: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, ArtifactFile]

    @property
    def ref(self) -> str:
        """`name:vN`, which names this version for good."""
        return f"{self.name}:v{self.version}"

    @abstractmethod
    def file(self, name: str) -> Path:
        """A local, read-only path of one file, its content checked against the digest; TrackingError if altered."""

    @abstractmethod
    def download(self, directory: Path | str) -> Path:
        """Copies every file, checked, into `directory` and returns it. Nothing half-written stays on an error."""


@dataclass
class RunRecord:
    """What is kept of a run. `config` is nested; `summary` holds last values; times are seconds since the epoch."""

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


@dataclass(frozen=True)
class Media:
    """Something of a run to look at: a `table`, `lines` (a chart), an `image` (PNG) or a page of `html`.

    `content` holds a table's `columns` and `rows`, or a chart's `x`, `lines`, `title` and `x_name`; of an image or a
    page, `file` says which content it is.
    """

    key: str
    kind: str
    content: dict[str, Any]
    file: ArtifactFile | None = None


class Run(ABC):
    """A run in progress. As a context manager it ends `finished`, or `failed` with the traceback of what escaped."""

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

    @abstractmethod
    def __exit__(self, kind, value, traceback) -> None: ...


class Reader(ABC):
    """A place that keeps runs and artifacts, to look into."""

    @abstractmethod
    def run(self, run_id: str) -> RunRecord | None: ...

    @abstractmethod
    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        """Runs by filter, oldest first."""

    @abstractmethod
    def history(self, run_id: str) -> list[dict[str, float]]:
        """The run's points in order of step, each a mapping with the key `step`."""

    @abstractmethod
    def artifact(self, ref: str) -> Artifact:
        """The version that `name:alias`, `name:vN`, `name` (its latest) or a digest prefix names; else NotFound."""

    @abstractmethod
    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        """Every version whose name matches the glob, by name and version."""

    @abstractmethod
    def logged_by(self, artifact: Artifact) -> list[RunRecord]: ...

    @abstractmethod
    def used_by(self, artifact: Artifact) -> list[RunRecord]: ...

    @abstractmethod
    def inputs(self, run_id: str) -> list[Artifact]: ...

    @abstractmethod
    def outputs(self, run_id: str) -> list[Artifact]: ...

    @abstractmethod
    def close(self) -> None:
        """Ends what it holds open; needed only where that matters, for the end of the process does the same."""


class Tracker(Reader):
    """A place that keeps runs and artifacts, to add to."""

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
