"""Keeps everything in the embedded store first and has a courier send it to W&B from there: the W&B backend.

Reads look into the store first and ask W&B for what it lacks, or may have newer: a run or an artifact of another
machine is found as if it were this one's, and is brought into the store, checked, when a run uses it.
"""

import atexit
import dataclasses
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tracking.artifact import StoredArtifact
from tracking.delivery import Accounts, Ledger, Pending
from tracking.interface import Artifact, ArtifactDraft, NotFound, Reader, Run, RunRecord, Tracker, TrackingError
from tracking.process import DEAD_AFTER, is_alive
from tracking.run import StoredRun
from tracking.staging import StagingDirectory
from tracking.store import Store
from tracking.wandb.account import resolved
from tracking.wandb.confirmation import Undelivered, confirm_moved_aliases
from tracking.wandb.courier import Courier
from tracking.wandb.outage import outage_of
from tracking.wandb.project import WandbProject
from tracking.wandb.records import own_summary, record_of
from tracking.wandb.sdk import Unreachable
from tracking.wandb.server import Server
from tracking.wandb.server_artifact import ServerArtifact, download_checked

T = TypeVar("T")


class WandbTracker(Tracker):
    """Joins a store and a W&B project."""

    def __init__(self, root: Path | str, project: WandbProject) -> None:
        self.store = Store(root)
        self.project = project
        self.server = Server(project, staging=self.store.blobs.scratch)
        self._ledger: Ledger | None = None
        self._outage = outage_of(project)

    @property
    def ledger(self) -> Ledger:
        """Returns the delivery record, of the entity that W&B last named where the project names none."""
        if self._ledger is None:
            project = resolved(self.project, self.store)
            ledger = Ledger(self.store, project.key)
            if project.entity is None:  # as long as W&B has not named it, it may yet
                return ledger
            self._ledger = ledger
        return self._ledger

    # ---- writing

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
    ) -> "WandbRun":
        """Starts or resumes a run as `Tracker` says.

        Raises as the embedded store does, TrackingError also where W&B shows that another machine runs it now, and
        never for W&B's faults. One that is started afresh has a run of its own at W&B, whoever runs the former one.
        """
        if not restart:
            self._check_free(run_id)
        run = self.store.start_run(
            run_id, job_type=job_type, config=config, name=name, group=group, tags=tags, restart=restart
        )
        if restart:
            self.ledger.restart_run(run_id)
        _delivery(self).begin(run_id)
        return WandbRun(self, run)

    def _check_free(self, run_id: str) -> None:
        """Raises TrackingError where a run is being run from another store, as far as W&B answers and shows it yet."""
        attempt = self._ask(lambda server: server.last_attempt(run_id), None)
        if attempt is None or not is_alive(record := record_of(attempt)):
            return
        store = own_summary(attempt).get("store")
        if store is not None and store != Accounts(self.store).store_name():
            age = max(0.0, time.time() - record.heartbeat)
            raise TrackingError(
                f"run {run_id} is being run now on another machine, as W&B shows (last sign of life {age:.0f} s ago): "
                "wait for its end, or stop it there and start again; if that machine is gone, start again in "
                f"{DEAD_AFTER - age:.0f} s"
            )

    def temporary_directory(self) -> StagingDirectory:
        """Returns a directory for temporary files below the store, as `Tracker` says. Raises TrackingError."""
        return self.store.temporary_directory()

    def ended(self, run_id: str) -> None:
        """Has the courier send the rest of a run that has ended here."""
        _delivery(self).end(run_id)

    def adopt(self, artifact: Artifact) -> StoredArtifact:
        """Returns the version in the store; one that is at W&B alone is brought there."""
        if not isinstance(artifact, ServerArtifact):
            return self.store.artifact(artifact.ref)
        if artifact.held is None:
            with self.store.temporary_directory() as folder:
                files = download_checked(artifact, folder)
                artifact.held = self.store.adopt_artifact(artifact, files, artifact.aliases)
            self.ledger.confirm_artifact(artifact, artifact.version, artifact.aliases)
        return artifact.held

    def move_alias(self, artifact: Artifact, alias: str) -> None:
        """Moves an alias as `Tracker` says: in the store, to which the version is brought, and at W&B.

        Where W&B does not take it, `push` sends it. Raises as the embedded store does, and TrackingError where the
        version is at W&B alone and can't be fetched.
        """
        held = self.adopt(self._here(artifact))
        self.store.move_alias(held, alias)
        if self.ledger.version(held) is None:
            return  # the run that logged it is still to be sent, and the version with it
        held = self.store.artifact(held.ref)
        try:
            self._ask(lambda server: confirm_moved_aliases(self.ledger, server, held), None)
        except Undelivered as error:
            print(f"{error}: {alias} of {held.ref} is kept in {self.store.root}, and push sends it", file=sys.stderr)

    def flush(self, seconds: float = 60.0) -> Pending:
        """Waits until the courier has dealt with every run that has ended; returns what W&B has not confirmed."""
        return _delivery(self).flush(seconds)

    def close(self) -> None:
        """Waits until W&B has what is to be sent, though not for long, prints what it has not, and closes the store."""
        _delivery(self).conclude()
        self.store.close()

    # ---- reading

    def _ask(self, question: Callable[[Server], T], otherwise: T) -> T:
        """Returns the server's answer; `otherwise` if there is none, and from then on without waiting for it."""
        if self._outage.goes_on(self.store.blobs.scratch):
            return otherwise
        try:
            return question(self.server)
        except NotFound:
            return otherwise
        except Unreachable as error:
            self._outage.begin(error, self.store.root)
            return otherwise

    def _newer(self, run_id: str) -> RunRecord | None:
        """Returns the run's record at W&B, where it is not in the store or was finished elsewhere."""
        here = self.store.run(run_id)
        if here is not None and (here.state == "finished" or is_alive(here)):
            return None
        there = self._ask(lambda server: server.run(run_id), None)
        return there if there is not None and (here is None or there.state == "finished") else None

    def _holder(self, run_id: str) -> Reader:
        return self.store if self._newer(run_id) is None else self.server

    def run(self, run_id: str) -> RunRecord | None:
        """Returns the newer of the records that the store and W&B have; None if there is no such run."""
        return self._newer(run_id) or self.store.run(run_id)

    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        """Returns the runs of both that have all that is given, oldest first."""
        nothing: list[RunRecord] = []
        there = self._ask(lambda server: server.runs(job_type=job_type, group=group), nothing)
        found = {record.id: record for record in self.store.runs(job_type=job_type, group=group)}
        ledger = self.ledger
        for record in there:
            if record.job_type == "sweep" and ledger.run_sent_as(record.id) not in (None, record.id):
                continue  # this store's own, which has another id there
            here = found.get(record.id)
            if here is None or (record.state == "finished" and here.state != "finished" and not is_alive(here)):
                found[record.id] = record
        return sorted((r for r in found.values() if state in (None, r.state)), key=lambda r: r.started)

    def history(self, run_id: str) -> list[dict[str, float]]:
        """Returns the run's points in order of step. Raises NotFound."""
        return self._holder(run_id).history(run_id)

    def inputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions that a run used. Raises NotFound."""
        return [self._here(artifact) for artifact in self._holder(run_id).inputs(run_id)]

    def outputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions that a run logged. Raises NotFound."""
        return [self._here(artifact) for artifact in self._holder(run_id).outputs(run_id)]

    def artifact(self, ref: str) -> Artifact:
        """Returns the version that a reference names, as `Tracker` says.

        A version number is the store's where the store has it; an alias is W&B's unless the store has moved it since.
        """
        try:
            here: StoredArtifact | None = self.store.artifact(ref)
        except NotFound as error:
            here, missing = None, error
        name, colon, alias = ref.partition(":")
        is_alias = here is None or (here.name == name and not (colon and alias == f"v{here.version}"))
        if here is not None and (not is_alias or (alias or "latest") in self.ledger.unconfirmed_aliases(here)):
            return here
        there = self._ask(lambda server: server.artifact(ref), None)
        if there is not None:
            return self._here(there)
        if here is None:
            raise missing
        return here

    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        """Returns the versions of both, as `Tracker` says; one of both is the store's, with W&B's aliases."""
        there = self._ask(lambda server: server.versions(name, type=type), None)
        here = self.store.versions(name, type=type)
        if there is None:
            return [*here]
        own = {(artifact.name, artifact.digest): artifact for artifact in here}
        unsent = {(a.name, alias) for a in here for alias in self.ledger.unconfirmed_aliases(a)}
        found: list[Artifact] = []
        for remote in there:
            aliases = [alias for alias in remote.aliases if (remote.name, alias) not in unsent]
            twin = own.pop((remote.name, remote.digest), None)
            if twin is None:
                remote.aliases = aliases
                found.append(remote)
            else:
                kept = [alias for alias in twin.aliases if (twin.name, alias) in unsent]
                found.append(dataclasses.replace(twin, aliases=[*dict.fromkeys([*aliases, *kept])]))
        for twin in own.values():
            kept = [alias for alias in twin.aliases if (twin.name, alias) in unsent]
            found.append(dataclasses.replace(twin, aliases=kept))
        return sorted(found, key=lambda artifact: (artifact.name, artifact.version))

    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs of both that logged this version."""
        return self._both(lambda reader: reader.logged_by(artifact))

    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs of both that used this version."""
        return self._both(lambda reader: reader.used_by(artifact))

    def _both(self, question: Callable[[Reader], list[RunRecord]]) -> list[RunRecord]:
        found = {record.id: record for record in question(self.store)}
        nothing: list[RunRecord] = []
        for record in self._ask(lambda server: question(server), nothing):
            found.setdefault(record.id, record)
        return list(found.values())

    def _here(self, artifact: Artifact) -> Artifact:
        """Returns the same version of the store, where it has it: its files need no download."""
        if isinstance(artifact, ServerArtifact):
            for twin in self.store.versions(artifact.name):
                if twin.digest == artifact.digest:
                    return twin
        return artifact


class WandbRun(Run):
    """Represents a run in progress: each call writes to the store, and the courier sends it a moment later."""

    def __init__(self, tracker: WandbTracker, run: StoredRun) -> None:
        self.id = run.id
        self._tracker, self._run = tracker, run

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs a point as `Run` says."""
        self._run.log(values, step)

    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Merges values into the summary as `Run` says."""
        self._run.set_summary(values)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keeps a table as `Run` says."""
        self._run.log_table(key, columns, rows)

    def log_lines(
        self, key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_name: str
    ) -> None:
        """Keeps a chart as `Run` says."""
        self._run.log_lines(key, x, lines, title=title, x_name=x_name)

    def log_image(self, key: str, path: Path) -> None:
        """Keeps a PNG as `Run` says."""
        self._run.log_image(key, path)

    def log_html(self, key: str, path: Path) -> None:
        """Keeps a page as `Run` says."""
        self._run.log_html(key, path)

    def use_artifact(self, artifact: Artifact | str) -> StoredArtifact:
        """Records a use as `Run` says.

        Raises NotFound where neither the store nor W&B has the artifact, and Unreachable if it can't be fetched.
        """
        found = self._tracker.artifact(artifact) if isinstance(artifact, str) else artifact
        return self._run.use_artifact(self._tracker.adopt(found) if isinstance(found, ServerArtifact) else found)

    def log_artifact(self, draft: ArtifactDraft, aliases: Iterable[str] = ("latest",)) -> StoredArtifact:
        """Commits a draft as `Run` says."""
        return self._run.log_artifact(draft, aliases)

    def finish(self, state: str = "finished", error: str | None = None) -> None:
        """Ends the run in the store at once. What W&B lacks of it is printed when the job ends (`Tracker.close`)."""
        self._run.finish(state, error)
        self._tracker.ended(self.id)


# ---- one courier for all trackers of this process that share a store and a project


_TELLING = threading.Lock()  # seeds that run side by side in threads share the courier


class _Delivery:
    """Keeps the list of runs that this process has a courier deliver from one store to one project."""

    def __init__(self, root: Path, project: WandbProject) -> None:
        self._root, self._project = root, project
        self._courier: Courier | None = None
        self._runs: dict[str, None] = {}
        self._ended: set[str] = set()

    def begin(self, run_id: str) -> None:
        with _TELLING:
            if self._courier is None or not self._courier.is_mine:
                self._courier = Courier(self._root, self._project)
            self._runs[run_id] = None
            self._ended.discard(run_id)
            self._courier.send("follow", run_id)

    def end(self, run_id: str) -> None:
        with _TELLING:
            if self._courier is not None and run_id not in self._ended:
                self._ended.add(run_id)
                self._courier.send("finish", run_id)

    def flush(self, seconds: float) -> Pending:
        """Waits as `WandbTracker.flush` says."""
        if self._courier is not None:
            self._courier.wait(self._ended, seconds)
        store = Store(self._root)
        pending = Ledger(store, resolved(self._project, store).key).pending(self._ended)
        store.close()
        if pending and self._courier is not None:
            pending.reasons = list(dict.fromkeys(self._courier.problems.values()))
        return pending

    def conclude(self) -> None:
        """Waits for the courier, and prints what was not delivered and the command that delivers it."""
        if self._courier is None:
            return
        courier, self._courier = self._courier, None
        runs, self._runs, self._ended = list(self._runs), {}, set()
        store = Store(self._root)  # its own connection: a tracker's may be closed by now
        if courier.is_mine:
            courier.conclude(Ledger(store, resolved(self._project, store).key).pending(runs).bytes)
        pending = Ledger(store, resolved(self._project, store).key).pending(runs)  # by the entity that it has learnt
        store.close()
        if pending:
            root = [] if self._root == Path("runs").absolute() else ["--root", str(self._root)]
            command = shlex.join(["python", "-m", "tracking", "push", *root, *self._project.flags])
            reason = next(iter(dict.fromkeys(courier.problems.values())), "it did not show them when it was asked")
            print(
                f"not delivered to W&B ({self._project}): {pending}; {reason}.\n"
                f"Everything is kept in {self._root}. This delivers it:\n  {command}",
                file=sys.stderr,
                flush=True,
            )


_DELIVERIES: dict[tuple[Path, WandbProject], _Delivery] = {}


def _delivery(tracker: WandbTracker) -> _Delivery:
    key = tracker.store.root, tracker.project
    with _TELLING:
        if key not in _DELIVERIES:
            if not _DELIVERIES:
                atexit.register(_conclude_all)
            _DELIVERIES[key] = _Delivery(*key)
        return _DELIVERIES[key]


def _conclude_all() -> None:
    for delivery in _DELIVERIES.values():
        delivery.conclude()
