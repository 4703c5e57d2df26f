"""The W&B backend: everything is kept in the embedded store first, and a courier sends it from there as it comes.

Reads look here first and ask W&B for what is not here, or may be newer there: a run or an artifact of another machine
is found as if it were this one's, and is brought into the store, checked, when a run uses it.
"""

import atexit
import dataclasses
import shlex
import sys
import tempfile
import threading
import time
import traceback as tracebacks
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tracking.artifact import StoredArtifact
from tracking.delivery import Ledger, Pending
from tracking.interface import Artifact, ArtifactDraft, NotFound, Reader, Run, RunRecord, Tracker
from tracking.process import is_alive
from tracking.run import StoredRun
from tracking.store import Store
from tracking.wandb.courier import Courier
from tracking.wandb.place import Place
from tracking.wandb.sdk import Unreachable
from tracking.wandb.server import Server, ServerArtifact, fetch_all

T = TypeVar("T")

_OFFLINE = 60.0  # seconds for which a server that did not answer a read is not asked again


class WandbTracker(Tracker):
    """A store and a place at W&B, as one."""

    def __init__(self, root: Path | str, place: Place) -> None:
        self.store = Store(root)
        self.place = place
        self.ledger = Ledger(self.store, place.key)
        self.server = Server(place)
        self._offline_until = 0.0

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
        """See `Tracker`; raises as the embedded store does, and never for what W&B does."""
        run = self.store.start_run(
            run_id, job_type=job_type, config=config, name=name, group=group, tags=tags, restart=restart
        )
        if restart:
            self.ledger.restart_run(run_id)
        _delivery(self).begin(run_id)
        return WandbRun(self, run)

    def ended(self, run_id: str) -> None:
        """Has the courier send the rest of a run that has ended here."""
        _delivery(self).end(run_id)

    def adopt(self, artifact: Artifact) -> StoredArtifact:
        """The version in the store; one that is at W&B alone is brought there."""
        if not isinstance(artifact, ServerArtifact):
            return self.store.artifact(artifact.ref)
        if artifact.held is None:
            with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
                files = fetch_all(artifact, Path(folder))
                artifact.held = self.store.adopt_artifact(artifact, files, artifact.aliases)
            self.ledger.confirm_artifact(artifact, artifact.version, artifact.aliases)
        return artifact.held

    def flush(self, seconds: float = 60.0) -> Pending:
        """Waits until the courier has dealt with every run that has ended; what W&B has not confirmed of those."""
        return _delivery(self).flush(seconds)

    def close(self) -> None:
        """Waits until W&B has what is to be sent, though not for long, and says what it has not; closes the store."""
        _delivery(self).settle()
        self.store.close()

    # ---- reading

    def _ask(self, question: Callable[[Server], T], otherwise: T) -> T:
        """The server's answer; `otherwise` if there is none, and then for a while without asking."""
        if time.monotonic() < self._offline_until:
            return otherwise
        try:
            return question(self.server)
        except NotFound:
            return otherwise
        except Unreachable as error:
            if not self._offline_until:
                print(f"{error}: going on with what is in {self.store.root}", file=sys.stderr)
            self._offline_until = time.monotonic() + _OFFLINE
            return otherwise

    def _newer(self, run_id: str) -> RunRecord | None:
        """The run's record at W&B, where it is not here or was finished elsewhere."""
        here = self.store.run(run_id)
        if here is not None and (here.state == "finished" or is_alive(here)):
            return None
        there = self._ask(lambda server: server.run(run_id), None)
        return there if there is not None and (here is None or there.state == "finished") else None

    def _holder(self, run_id: str) -> Reader:
        return self.store if self._newer(run_id) is None else self.server

    def run(self, run_id: str) -> RunRecord | None:
        return self._newer(run_id) or self.store.run(run_id)

    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        nothing: list[RunRecord] = []
        there = self._ask(lambda server: server.runs(job_type=job_type, group=group), nothing)
        found = {record.id: record for record in self.store.runs(job_type=job_type, group=group)}
        for record in there:
            here = found.get(record.id)
            if here is None or (record.state == "finished" and here.state != "finished" and not is_alive(here)):
                found[record.id] = record
        return sorted((r for r in found.values() if state in (None, r.state)), key=lambda r: r.started)

    def history(self, run_id: str) -> list[dict[str, float]]:
        return self._holder(run_id).history(run_id)

    def inputs(self, run_id: str) -> list[Artifact]:
        return [self._here(artifact) for artifact in self._holder(run_id).inputs(run_id)]

    def outputs(self, run_id: str) -> list[Artifact]:
        return [self._here(artifact) for artifact in self._holder(run_id).outputs(run_id)]

    def artifact(self, ref: str) -> Artifact:
        """See `Tracker`. A version number is this store's where it has it; an alias is W&B's unless a newer is here."""
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
        """See `Tracker`. A version of both is this store's, with the aliases that W&B gives it."""
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
        return self._both(lambda reader: reader.logged_by(artifact))

    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        return self._both(lambda reader: reader.used_by(artifact))

    def _both(self, question: Callable[[Reader], list[RunRecord]]) -> list[RunRecord]:
        found = {record.id: record for record in question(self.store)}
        nothing: list[RunRecord] = []
        for record in self._ask(lambda server: question(server), nothing):
            found.setdefault(record.id, record)
        return list(found.values())

    def _here(self, artifact: Artifact) -> Artifact:
        """The same version in this store, where it holds it: its files need no download."""
        if isinstance(artifact, ServerArtifact):
            for twin in self.store.versions(artifact.name):
                if twin.digest == artifact.digest:
                    return twin
        return artifact


class WandbRun(Run):
    """A run in progress: kept in the store by each call, sent by the courier a moment later."""

    def __init__(self, tracker: WandbTracker, run: StoredRun) -> None:
        self.id = run.id
        self._tracker, self._run = tracker, run

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(values, step)

    def set_summary(self, values: Mapping[str, Any]) -> None:
        self._run.set_summary(values)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._run.log_table(key, columns, rows)

    def log_lines(
        self, key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_name: str
    ) -> None:
        self._run.log_lines(key, x, lines, title=title, x_name=x_name)

    def log_image(self, key: str, path: Path) -> None:
        self._run.log_image(key, path)

    def log_html(self, key: str, path: Path) -> None:
        self._run.log_html(key, path)

    def use_artifact(self, artifact: Artifact | str) -> StoredArtifact:
        """See `Run`. Raises NotFound where neither the store nor W&B holds it, Unreachable if it can't be fetched."""
        found = self._tracker.artifact(artifact) if isinstance(artifact, str) else artifact
        return self._run.use_artifact(self._tracker.adopt(found) if isinstance(found, ServerArtifact) else found)

    def log_artifact(self, draft: ArtifactDraft, aliases: Iterable[str] = ("latest",)) -> StoredArtifact:
        return self._run.log_artifact(draft, aliases)

    def finish(self, state: str = "finished", error: str | None = None) -> None:
        """Ends the run here at once. What W&B has of it is known, and told, when the job ends (`Tracker.close`)."""
        self._run.finish(state, error)
        self._tracker.ended(self.id)

    def __exit__(self, kind, value, traceback) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish("failed", "".join(tracebacks.format_exception(kind, value, traceback)))


# ---- one courier for all trackers of this process that share a store and a place


_TELLING = threading.Lock()  # seeds that run side by side in threads share the courier


class _Delivery:
    """What this process has to have delivered of one store to one place."""

    def __init__(self, root: Path, place: Place) -> None:
        self._root, self._place = root, place
        self._courier: Courier | None = None
        self._runs: dict[str, None] = {}
        self._ended: set[str] = set()

    def begin(self, run_id: str) -> None:
        with _TELLING:
            if self._courier is None or not self._courier.is_mine:
                self._courier = Courier(self._root, self._place)
            self._runs[run_id] = None
            self._ended.discard(run_id)
            self._courier.tell("follow", run_id)

    def end(self, run_id: str) -> None:
        with _TELLING:
            if self._courier is not None and run_id not in self._ended:
                self._ended.add(run_id)
                self._courier.tell("finish", run_id)

    def flush(self, seconds: float) -> Pending:
        """See `WandbTracker.flush`."""
        if self._courier is not None:
            self._courier.wait(self._ended, seconds)
        store = Store(self._root)
        pending = Ledger(store, self._place.key).pending(self._ended)
        store.close()
        if pending and self._courier is not None:
            pending.reasons = list(dict.fromkeys(self._courier.problems.values()))
        return pending

    def settle(self) -> None:
        """Waits for the courier, and tells what was not delivered and how to deliver it."""
        if self._courier is None:
            return
        courier, self._courier = self._courier, None
        runs, self._runs, self._ended = list(self._runs), {}, set()
        store = Store(self._root)  # its own connection: a tracker's may be closed by now
        ledger = Ledger(store, self._place.key)
        if courier.is_mine:
            courier.settle(ledger.pending(runs).bytes)
        pending = ledger.pending(runs)
        store.close()
        if pending:
            root = [] if self._root == Path("runs").absolute() else ["--root", str(self._root)]
            command = shlex.join(["python", "-m", "tracking", "push", *root, *self._place.flags])
            reason = next(iter(dict.fromkeys(courier.problems.values())), "it did not show them when it was asked")
            print(
                f"not delivered to W&B ({self._place}): {pending}; {reason}.\n"
                f"Everything is kept in {self._root}. This delivers it:\n  {command}",
                file=sys.stderr,
                flush=True,
            )


_DELIVERIES: dict[tuple[Path, Place], _Delivery] = {}


def _delivery(tracker: WandbTracker) -> _Delivery:
    key = tracker.store.root, tracker.place
    with _TELLING:
        if key not in _DELIVERIES:
            if not _DELIVERIES:
                atexit.register(_settle_all)
            _DELIVERIES[key] = _Delivery(*key)
        return _DELIVERIES[key]


def _settle_all() -> None:
    for delivery in _DELIVERIES.values():
        delivery.settle()
