"""Pushes an embedded store into W&B and pulls it back, in the order of lineage; both may be cut off and repeated."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tracking.delivery import Ledger, Pending
from tracking.interface import Artifact, Reader, RunRecord, TrackingError
from tracking.lineage import lineage
from tracking.process import is_alive
from tracking.store import Store
from tracking.wandb.account import remember, resolved
from tracking.wandb.courier import Courier
from tracking.wandb.project import WandbProject
from tracking.wandb.sdk import Unreachable
from tracking.wandb.server import Server
from tracking.wandb.server_artifact import ServerArtifact, download_checked

Report = Callable[[str], None]
_UNSHOWN = "W&B did not show all of it when it was asked"


@dataclass
class Push:
    """Holds what a push did: runs that were confirmed, runs that go on, why others failed, and what is pending."""

    delivered: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    problem: str | None = None  # why nothing could be sent at all
    pending: Pending = field(default_factory=Pending)


def push(
    store: Store, project: WandbProject, refs: Iterable[str] = (), *, again: bool = False, report: Report = print
) -> Push:
    """Sends what W&B has not confirmed: the runs that made these artifacts and all upstream of them, or everything.

    With `again` what the delivery record has as confirmed is asked for once more, and sent where it is gone. `report`
    is called with lines about the progress. Raises NotFound for an unknown REF.
    """
    runs, result = _wanted(store, refs), Push()
    result.running = [record.id for record in runs if is_alive(record)]
    for run_id in result.running:
        report(f"{run_id}: still running; it is sent by its own process")
    ended = [record.id for record in runs if record.id not in result.running]
    result.problem = (server := Server(project, staging=store.blobs.scratch)).problem()
    if result.problem is not None:  # what is delivered is as the record knows it, for the entity that it knows
        report(f"nothing was sent: {result.problem}")
        result.pending = Ledger(store, resolved(project, store).key).pending(ended)
        return result
    ledger = Ledger(store, remember(project, store, server.entity).key)
    if again:
        ledger.forget()
    waiting = [run_id for run_id in ended if ledger.pending([run_id])]
    if waiting:
        report(f"sending {len(waiting):,} run{'s' * (len(waiting) != 1)} to {project}")
        if with_text := sum(_holds_text(artifact) for run_id in waiting for artifact in store.outputs(run_id)):
            report(
                f"note: texts of examples are sent too: {with_text:,} artifact{'s' * (with_text != 1)} of scores, and "
                "reports of such, hold them; `infer.keep_text=false force=true` scores without texts"
            )
        _send(store, project, waiting, ledger, result, again, report)
    result.pending = ledger.pending(ended)
    return result


def _holds_text(artifact: Artifact) -> bool:
    """Tells whether an artifact's metadata says that its rows hold texts of examples."""
    return "text" in (artifact.metadata.get("optional_columns") or [])


def _send(
    store: Store, project: WandbProject, runs: list[str], ledger: Ledger, result: Push, again: bool, report: Report
) -> None:
    """Has a courier send runs, and reports of each what the delivery record says in the end."""
    courier = Courier(store.root, project, check_content=again)
    try:
        for run_id in runs:
            courier.send("finish", run_id)
        for run_id in runs:
            courier.wait({run_id})
            if not ledger.pending([run_id]):
                report(f"{run_id}: delivered")
            else:
                report(f"{run_id}: not delivered: {courier.problem(run_id) or _UNSHOWN}")
        courier.conclude(ledger.pending(runs).bytes)  # what failed is tried once more
    finally:
        courier.kill()
    for run_id in runs:
        if not ledger.pending([run_id]):
            result.delivered.append(run_id)
        else:
            result.failed[run_id] = courier.problem(run_id) or courier.problems.get("") or _UNSHOWN


@dataclass
class Pull:
    """Holds what a pull brought: runs, and artifact versions by reference; `running` are runs that still go on."""

    runs: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # by run id or reference: why it could not be brought


def pull(store: Store, project: WandbProject, refs: Iterable[str] = (), *, report: Report = print) -> Pull:
    """Brings runs, history, artifacts and edges from W&B: these artifacts and all upstream of them, or everything.

    A run that is here as it is there, or newer, stays; content is checked against its digest. Tables, charts and
    figures that W&B shows are in the artifacts; they are not brought back from the run's page.
    """
    server, result = Server(project, staging=store.blobs.scratch), Pull()
    ledger = Ledger(store, remember(project, store, server.entity).key)
    for record in _wanted(server, refs):
        if record.state == "running" and is_alive(record):
            result.running.append(record.id)
            report(f"{record.id}: still running; pull it when it is through")
            continue
        try:
            _pull_run(store, server, ledger, record, result, report)
        except Unreachable:
            raise
        except TrackingError as error:  # what is damaged there must not keep back the rest
            result.failed[record.id] = str(error)
            report(f"{record.id}: not brought: {error}")
    return result


def _pull_run(store: Store, server: Server, ledger: Ledger, record: RunRecord, result: Pull, report: Report) -> None:
    if ledger.run_sent_as(record.id) not in (None, record.id):
        return  # this store's own, which has another id there
    here = store.run(record.id)
    if here is None or (record.state == "finished" and here.state != "finished" and not is_alive(here)):
        store.adopt_run(record, server.history(record.id))
        result.runs.append(record.id)
        report(f"{record.id}: brought")
    elif here.state != record.state:
        return  # what is here is newer
    for kind, artifacts in (("used", server.inputs(record.id)), ("logged", server.outputs(record.id))):
        for artifact in artifacts:
            assert isinstance(artifact, ServerArtifact)
            if artifact.ref in result.failed:
                continue
            try:
                _bring(store, ledger, artifact, kind, record.id, result)
            except Unreachable:
                raise
            except TrackingError as error:
                result.failed[artifact.ref] = str(error)
                report(f"{artifact.ref}: not brought: {error}")
    remote = server.last_attempt(record.id)
    if remote is not None and record.id in result.runs:
        ledger.confirm_run(record.id, remote.id, ledger.stamp(record.id))


def _bring(store: Store, ledger: Ledger, artifact: ServerArtifact, kind: str, run_id: str, result: Pull) -> None:
    held = next((twin for twin in store.versions(artifact.name) if twin.digest == artifact.digest), None)
    if held is None:
        with store.temporary_directory() as folder:
            held = store.adopt_artifact(artifact, download_checked(artifact, folder), artifact.aliases)
        result.artifacts.append(held.ref)
    ledger.confirm_artifact(artifact, artifact.version, artifact.aliases)
    store.adopt_edge(kind, run_id, held)
    ledger.confirm_edge(kind, run_id, artifact)


def _wanted(reader: Reader, refs: Iterable[str]) -> list[RunRecord]:
    """Returns the runs to carry over, oldest first: those upstream of the artifacts, or all."""
    refs = list(refs)
    if not refs:
        return reader.runs()
    found = {}
    for ref in refs:
        graph = lineage(reader, ref)
        for near in graph.upstream.runs.values():
            for run_id in near:
                found[run_id] = graph.runs[run_id]
    return sorted(found.values(), key=lambda record: (record.started, record.id))
