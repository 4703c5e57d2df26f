"""Reads what W&B holds through its public API: the reading half of the interface."""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.errors import first_line
from tracking.interface import (
    Artifact,
    NotFound,
    Reader,
    RunRecord,
    TrackingError,
    is_digest_prefix,
)
from tracking.staging import StagingDirectory
from tracking.wandb.causes import address_fault, ask_plainly, offline_mode
from tracking.wandb.project import WandbProject
from tracking.wandb.records import (
    RELOGGED,
    SUPERSEDED,
    attempt_id,
    is_relogged,
    own_summary,
    record_of,
)
from tracking.wandb.sdk import (
    REQUEST_TIMEOUT,
    Unreachable,
    call_with_timeout,
    json_value,
    keep_files_below,
    open_api,
    server_address,
    start_service,
)
from tracking.wandb.server_artifact import ServerArtifact

if TYPE_CHECKING:
    from wandb.apis.public import Api
    from wandb.apis.public import Run as ApiRun

_INTERNAL_TYPES = ("run_table", "job", "wandb-history", "code")  # artifacts that W&B itself makes of a run
# How the SDK says that an answer holds null where the thing asked for would be.
_ABSENT = re.compile(r"not found|could not find|does not exist|doesn't exist|nonetype|unable to parse", re.IGNORECASE)


class Server(Reader):
    """Reads a W&B project. Each request is answered in time or raises Unreachable."""

    def __init__(self, project: WandbProject, *, remember: bool = False, staging: Path | None = None) -> None:
        """Prepares to read a project; with `remember` all runs are asked for once, which suits a short command.

        Temporary files go to directories below `staging`, a store's own; without one to the system's folder.
        """
        self.project = project
        self._remember = remember
        self._staging = Path(tempfile.gettempdir()) if staging is None else staging
        self._remembered: dict[str, ApiRun] | None = None
        self._relogging: list[ApiRun] | None = None
        self._api: Api | None = None
        self._entity = project.entity

    @property
    def api(self) -> "Api":
        """Returns the SDK's public API, opened at first use. Raises Unreachable."""
        if self._api is None:
            self._api = open_api(self.project, self._staging)
        return self._api

    @property
    def entity(self) -> str:
        """Returns the entity's name; where the project names none, the API key's own. Raises TrackingError."""
        if self._entity is None:
            with self.explained("the default entity"):
                self._entity = self.api.default_entity
            if self._entity is None:
                raise TrackingError("W&B names no default entity for this API key: give tracking.entity (WANDB_ENTITY)")
        return self._entity

    @property
    def path(self) -> str:
        """Returns the project's path at W&B, ENTITY/PROJECT. Raises TrackingError."""
        return f"{self.entity}/{self.project.name}"

    @contextmanager
    def explained(self, subject: str) -> Iterator[None]:
        """Turns the SDK's errors into NotFound, where the server said that there is no such thing, or Unreachable."""
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:  # CommError, ValueError, TypeError, WandbApiFailedError, …: the SDK has no one base
            text = first_line(error)
            if _ABSENT.search(text):
                raise NotFound(f"no {subject} in {self.project}: {text}") from error
            raise Unreachable(f"W&B, {self.project}: {subject}: {text}") from error

    def temporary_directory(self) -> StagingDirectory:
        """Returns a directory for temporary files. Raises TrackingError."""
        return StagingDirectory(self._staging)

    def forget_answers(self) -> None:
        """Has the SDK ask anew for what it keeps of earlier answers."""
        self.api.flush()  # type: ignore[no-untyped-call]  # the SDK gives it no types

    # ---- runs

    def fetch_run(self, remote: str) -> "ApiRun | None":
        """Returns a run as the SDK shows it, by its id there, as it is now; None if there is none."""
        with suppress(NotFound), self.explained(f"run {remote}"):
            self.forget_answers()  # else it is the run of an earlier answer
            return self.api.run(f"{self.path}/{remote}")
        return None

    def last_attempt(self, run_id: str) -> "ApiRun | None":
        """Returns the last attempt of a run; None if there is none."""
        number, found = 1, None
        while (
            run := self._runs_by_id().get(attempt_id(run_id, number)) or self.fetch_run(attempt_id(run_id, number))
        ) is not None:
            found, number = run, number + 1
            if SUPERSEDED not in run.tags:
                break
        return found

    def run(self, run_id: str) -> RunRecord | None:
        """Returns the record of a run's last attempt, or None if there is no such run. Raises Unreachable."""
        found = self.last_attempt(run_id)
        return record_of(found) if found is not None else None

    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        """Returns the runs that have all that is given, oldest first. Raises Unreachable."""
        filters = {key: value for key, value in (("jobType", job_type), ("group", group)) if value is not None}
        records = [record_of(run) for run in self._runs(filters) if SUPERSEDED not in run.tags]
        return sorted((record for record in records if state in (None, record.state)), key=lambda r: (r.started, r.id))

    def _runs(self, filters: dict[str, Any]) -> list["ApiRun"]:
        with suppress(NotFound), self.explained("runs"):
            self.forget_answers()
            return list(self.api.runs(self.path, filters=filters, order="+created_at", per_page=100, lazy=False))
        return []  # a project comes with its first run

    def history(self, run_id: str) -> list[dict[str, float]]:
        """Returns the run's points in order of step. Raises NotFound or Unreachable."""
        return self.history_of(self._existing(run_id))

    def history_of(self, run: "ApiRun") -> list[dict[str, float]]:
        """Returns the points of a run as the SDK shows it, in order of step. Raises Unreachable."""
        with self.explained(f"the history of {run.id}"):
            rows = call_with_timeout(60, lambda: list(run.scan_history(use_cache=False)), f"the history of {run.id}")
        points = []
        for row in rows:
            values = {key: json_value(value) for key, value in row.items() if not key.startswith("_")}
            values = {key: value for key, value in values.items() if isinstance(value, (int, float))}
            if values:
                points.append({"step": int(row["_step"]), **values})
        return sorted(points, key=lambda point: point["step"])

    def _existing(self, run_id: str) -> "ApiRun":
        run = self.last_attempt(run_id)
        if run is None:
            raise NotFound(
                f"no run in {self.project} has the id {run_id}; see `python -m tracking --backend wandb ls --runs`"
            )
        return run

    # ---- artifacts

    def artifact(self, ref: str) -> ServerArtifact:
        """Returns the version that a reference names. Raises NotFound, Unreachable, or TrackingError (ambiguous)."""
        name, colon, alias = ref.partition(":")
        try:
            with self.explained(f"artifact {ref!r}"):
                return ServerArtifact(self.api.artifact(f"{self.path}/{name}:{alias if colon else 'latest'}"), self)
        except NotFound:
            if colon or not is_digest_prefix(ref):
                raise
        found = [artifact for artifact in self.versions() if artifact.digest.startswith(ref.lower())]
        if not found:
            raise NotFound(f"no artifact in {self.project} is named {ref}, and no digest starts so")
        if len(found) > 1:
            matches = ", ".join(f"{artifact.ref} ({artifact.digest})" for artifact in found)
            raise TrackingError(f"digest prefix {ref} fits several versions, name one of them: {matches}")
        return found[0]

    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        """Returns every version whose name matches the glob, by name and version. Raises Unreachable."""
        return [*self.versions(name, type=type)]

    def versions(self, name: str = "*", *, type: str | None = None) -> list[ServerArtifact]:
        """Returns what `artifacts` does, as this backend's class."""
        found: list[ServerArtifact] = []
        self.forget_answers()
        for kind in self._types() if type is None else [type]:
            if not re.search(r"[*?\[]", name) and type is not None:
                collections = [name]
            else:
                collections = [held for held in self._collections(kind) if fnmatchcase(held, name)]
            for collection in collections:
                found += self._versions_of(kind, collection)
        return sorted(found, key=lambda artifact: (artifact.name, artifact.version))

    def _types(self) -> list[str]:
        with suppress(NotFound), self.explained("artifact types"):
            return [t.name for t in self.api.artifact_types(self.path) if t.name not in _INTERNAL_TYPES]
        return []  # a project comes with its first run

    def _collections(self, kind: str) -> list[str]:
        with suppress(NotFound), self.explained(f"artifacts of type {kind}"):
            return [held.name for held in self.api.artifact_collections(self.path, kind, per_page=100)]
        return []

    def _versions_of(self, kind: str, collection: str) -> list[ServerArtifact]:
        with suppress(NotFound), self.explained(f"artifact {collection}"):
            versions = self.api.artifacts(kind, f"{self.path}/{collection}", per_page=100)
            return [ServerArtifact(version, self) for version in versions]
        return []

    def find_version(self, artifact: Artifact) -> ServerArtifact | None:
        """Returns the version of the same name with the same content; None if there is none."""
        if isinstance(artifact, ServerArtifact):
            return artifact
        held = self._versions_of(artifact.type, artifact.name)
        return next((version for version in held if version.digest == artifact.digest), None)

    # ---- edges

    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the run that W&B names as its creator, and those that are marked as having logged the same again."""
        found = self.find_version(artifact)
        if found is None:
            return []
        with self.explained(f"what logged {artifact.ref}"):
            creator = found.remote.logged_by()
        runs = [creator] if creator is not None else []
        if self._relogging is None or not self._remember:
            self._relogging = self._runs({"tags": {"$in": [RELOGGED]}})
        runs += [run for run in self._relogging if is_relogged(run, found)]
        return self._records(runs)

    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs that used this version. Raises Unreachable."""
        found = self.find_version(artifact)
        if found is None:
            return []
        with self.explained(f"what used {artifact.ref}"):
            runs = found.remote.used_by()
        return self._records(runs)

    def _records(self, runs: list["ApiRun"]) -> list[RunRecord]:
        """Returns the record of each run once, without attempts that were superseded."""
        found: dict[str, RunRecord] = {}
        for run in runs:
            full = self._runs_by_id().get(run.id)
            if full is None:
                with self.explained(f"run {run.id}"):
                    run.load_full_data()
                full = run
            if SUPERSEDED not in full.tags:
                record = record_of(full)
                found.setdefault(record.id, record)
        return list(found.values())

    def _runs_by_id(self) -> dict[str, "ApiRun"]:
        """Returns every run by its id at W&B, asked for once, where answers are remembered; else nothing."""
        if self._remember and self._remembered is None:
            self._remembered = {run.id: run for run in self._runs({})}
        return self._remembered or {}

    def inputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions that a run used. Raises NotFound or Unreachable."""
        run = self._existing(run_id)
        with self.explained(f"what {run_id} used"):
            return [*self._user_artifacts(run.used_artifacts())]

    def outputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions that a run logged. Raises NotFound or Unreachable."""
        return [*self.outputs_of(self._existing(run_id))]

    def outputs_of(self, run: "ApiRun") -> list[ServerArtifact]:
        """Returns what a run logged, also where W&B had that content already and names another creator."""
        with self.explained(f"what {run.id} logged"):
            found = self._user_artifacts(run.logged_artifacts())
        known = {(artifact.name, artifact.digest) for artifact in found}
        for kind, name, digest in own_summary(run).get("relogged", []):
            if (name, digest) not in known:
                found += [version for version in self._versions_of(kind, name) if version.digest == digest]
        return found

    def inputs_of(self, run: "ApiRun") -> list[ServerArtifact]:
        """Returns what a run used. Raises Unreachable."""
        with self.explained(f"what {run.id} used"):
            return self._user_artifacts(run.used_artifacts())

    def _user_artifacts(self, artifacts: Any) -> list[ServerArtifact]:
        kept = [artifact for artifact in artifacts if artifact.type not in _INTERNAL_TYPES]
        return [ServerArtifact(artifact, self) for artifact in kept]

    def report_ids(self, title: str) -> list[str]:
        """Returns the ids of the report pages of this title, oldest first."""
        with suppress(NotFound), self.explained("report pages"):
            found = [report for report in self.api.reports(self.path) if report.display_name == title]
            return [report.id for report in sorted(found, key=lambda report: report.created_at)]
        return []

    def close(self) -> None:
        """Drops the API; the next question opens it again."""
        self._api = None

    def problem(self) -> str | None:
        """Returns why the server cannot be asked anything now; None if it can. Waits no longer than one request may."""
        if (mode := offline_mode()) is not None:
            return mode
        if self.project.base_url is not None and (fault := address_fault(self.project.base_url)) is not None:
            return f"W&B, {self.project}: {fault}"
        keep_files_below(self._staging)
        start_service()
        causes: list[str | None] = []  # of a request beside the SDK's, which says only that it has failed

        def ask() -> None:
            causes.append(ask_plainly(server_address(self.project), REQUEST_TIMEOUT))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        subject = "the account of the API key"
        try:
            with self.explained(subject):
                call_with_timeout(
                    REQUEST_TIMEOUT + 1, lambda: open_api(self.project, self._staging).default_entity, subject
                )
        except TrackingError as error:
            thread.join(1.0)
            return f"W&B, {self.project}: {causes[0]}" if causes and causes[0] is not None else str(error)
        return None
