"""Sends one run of the store to W&B: begins it, follows it, ends it, and asks for all of it.

Everything is read from the store, so that following a run as it goes and pushing it later are the same thing.
"""

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.errors import last_line
from tracking.artifact import StoredArtifact
from tracking.delivery import Accounts, Ledger
from tracking.interface import Media, RunRecord, TrackingError
from tracking.json_text import decode, encode
from tracking.redact import redacted
from tracking.store import Store
from tracking.wandb.causes import is_taken_id
from tracking.wandb.confirmation import Undelivered, confirm_version, give_latest_back
from tracking.wandb.records import (
    OWN_KEY,
    OWN_METADATA_KEY,
    RELOGGED,
    SUPERSEDED,
    attempt_id,
    media_keys,
    own_summary,
    record_of,
    split_attempt,
)
from tracking.wandb.sdk import (
    REQUEST_TIMEOUT,
    Unreachable,
    call_with_timeout,
    run_settings,
    start_service,
    upload_seconds,
)
from tracking.wandb.server import Server
from tracking.wandb.words import Marks, as_shown

if TYPE_CHECKING:
    import wandb

_LONGEST_TAG = 64  # characters that W&B takes
_LONGEST_ID = 110  # with room for the number of an attempt; W&B takes 128


class Session:
    """Sends one run. Whatever a run used must be at W&B before `send_edge` is called for it."""

    def __init__(
        self, store: Store, ledger: Ledger, server: Server, run_id: str, folder: Path, *, check_content: bool = False
    ) -> None:
        self.run_id = run_id
        self._store, self._ledger, self._server, self._folder = store, ledger, server, folder
        self._check_content = check_content
        self._next_step = 0
        self._sent_edges: set[tuple[str, str, str]] = set()
        self._relogged: list[list[str]] = []
        self._run: wandb.Run | None = None

    def begin(self) -> None:
        """Starts the run at W&B, or resumes it; one that was started afresh here gets a new attempt there."""
        start_service()
        import wandb

        record = self._record()
        self.remote = self._begin_attempt()
        project, server = self._server.project, self._server
        try:
            self._run = wandb.init(
                entity=server.entity,
                project=project.name,
                id=self.remote,
                name=redacted(record.name),
                group=record.group,
                job_type=record.job_type,
                tags=[tag[:_LONGEST_TAG] for tag in record.tags],
                resume="allow",
                settings=run_settings(project, self._folder),
            )
        except Exception as error:
            if is_taken_id(error):  # for good: the next try takes the next id
                self._ledger.begin_run(self.run_id, attempt_id(self._base, self._number + 1))
            raise
        self._update_config(record)
        if self._run.resumed and (there := self._server.fetch_run(self.remote)) is not None:
            self._relogged = own_summary(there).get("relogged", [])
        for kind, artifact in self._store.edges(self.run_id):
            # Not once more: it would take `latest` back from a version that came after.
            if self._ledger.has_edge(kind, self.run_id, artifact):
                self._sent_edges.add((kind, artifact.name, artifact.digest))
        own = {"state": "running", "relogged": self._relogged, "store": Accounts(self._store).store_name()}
        self._open_run.summary.update({OWN_KEY: own})
        self._next_step = self._run.starting_step

    def _begin_attempt(self) -> str:
        known = self._ledger.remote(self.run_id)
        self._base, number = self._first_id(), 1
        if known is None:
            remote = self._base
        else:
            remote, stale = known
            self._base, number = split_attempt(remote)
            if stale and (old := self._server.fetch_run(remote)) is not None:
                old.tags = [*(tag for tag in old.tags if tag != SUPERSEDED), SUPERSEDED]  # type: ignore[attr-defined]
                with self._server.explained(f"the tags of {remote}"):
                    old.update()
                number += 1
                remote = attempt_id(self._base, number)
        self._number = number
        self._ledger.begin_run(self.run_id, remote)
        return remote

    def _first_id(self) -> str:
        """Returns the id of the run's first attempt at W&B: the store's own, and a sweep's with the store's name.

        Two machines may run one sweep. Each has a run of the same id in its store; at W&B they are two, in one group.
        """
        if self._record().job_type != "sweep":
            return self.run_id
        return f"{self.run_id[: _LONGEST_ID - 9]}-{Accounts(self._store).store_name()}"

    def _record(self) -> RunRecord:
        record = self._store.run(self.run_id)
        assert record is not None
        return record

    def _update_config(self, record: RunRecord) -> None:
        config, marks = as_shown(redacted(record.config))
        own = {"run": self._base, "code_version": record.code_version, "started": record.started, **marks.as_json()}
        values = {**config, OWN_KEY: own}
        self._open_run.config.update(values, allow_val_change=True)  # type: ignore[no-untyped-call]  # the SDK's

    def edges(self) -> list[tuple[str, StoredArtifact]]:
        """Returns the edges that this session has still to send, in order."""
        return [
            (kind, artifact)
            for kind, artifact in self._store.edges(self.run_id)
            if (kind, artifact.name, artifact.digest) not in self._sent_edges
        ]

    def send_points(self) -> None:
        """Sends the points of the history that W&B has not; it takes steps in order, and a step only once."""
        for point in self._store.history(self.run_id, start=self._next_step):
            step = int(point["step"])
            self._open_run.log({key: value for key, value in point.items() if key != "step"}, step=step)
            self._next_step = step + 1

    def send_edge(self, kind: str, artifact: StoredArtifact) -> None:
        """Sends a version that the run logged, or the fact that it used one; returns when the server has taken it."""
        if kind == "logged":
            self._log(artifact)
        else:
            version = self._ledger.version(artifact)
            path = f"{self._server.path}/{artifact.name}:v{version}"
            call_with_timeout(
                3 * REQUEST_TIMEOUT, lambda: self._open_run.use_artifact(path), f"the use of {artifact.ref}"
            )
        self._sent_edges.add((kind, artifact.name, artifact.digest))

    def _log(self, artifact: StoredArtifact) -> None:
        import wandb

        artifact.check_entries()
        if self._check_content:
            self._delete_damaged(artifact)
        metadata, marks = as_shown(redacted(decode(encode(artifact.metadata, f"the metadata of {artifact.ref}"))))
        if marks.texts:  # the metadata's empty mappings are kept
            metadata[OWN_METADATA_KEY] = Marks(marks.texts).as_json()
        draft = wandb.Artifact(artifact.name, artifact.type, metadata=metadata)
        for name, file in artifact.files.items():
            # Neither copied aside nor into a cache, and by a relative path (see `working_directory`).
            path = artifact.blobs.path(file.md5).relative_to(self._store.root)
            draft.add_file(str(path), name=name, policy="immutable", skip_cache=True)
        if draft.digest != artifact.digest:
            raise TrackingError(f"{artifact.ref} has digest {draft.digest} by the SDK: expected {artifact.digest}")
        self._open_run.log_artifact(draft, aliases=[alias for alias in artifact.aliases if alias != "latest"])
        seconds = upload_seconds(artifact.size)
        call_with_timeout(seconds, lambda: draft.wait(timeout=int(seconds)), f"the upload of {artifact.ref}")
        found = confirm_version(self._ledger, self._server, artifact, artifact.aliases)
        give_latest_back(self._store, self._ledger, self._server, found)
        with self._server.explained(f"what logged {artifact.ref}"):
            creator = found.remote.logged_by()
        if creator is not None and creator.id == self.remote:
            self._ledger.confirm_edge("logged", self.run_id, artifact)
        elif (entry := [artifact.type, artifact.name, artifact.digest]) not in self._relogged:
            self._relogged.append(entry)  # another run, or this one before it was restarted, is its creator

    def _delete_damaged(self, artifact: StoredArtifact) -> None:
        """Deletes the version at W&B where its content is not what was logged, so that it is logged anew."""
        found = self._server.find_version(artifact)
        if found is None:
            return
        try:
            with self._server.temporary_directory() as folder:
                found.download(folder)
        except Unreachable:
            raise
        except TrackingError:
            with self._server.explained(f"the deletion of {artifact.ref}, which is damaged there"):
                found.remote.delete(delete_aliases=True)
            self._server.forget_answers()

    def end(self) -> None:
        """Sends what is left of the run, ends it, and asks the server for all of it. Raises Undelivered by name."""
        record = self._record()
        stamp = self._ledger.stamp(self.run_id)
        run, shown = self._open_run, set()
        if run.resumed and (there := self._server.fetch_run(self.remote)) is not None:
            shown = media_keys(there)
        media = [item for item in self._store.media(self.run_id) if summary_key(item) not in shown]
        if media:
            from tracking.wandb.media import sdk_object

            run.log({item.key: sdk_object(item, self._store.blobs, self._folder) for item in media})
        own: dict[str, Any] = {"state": record.state, "ended": record.ended, "error": redacted(last_line(record.error))}
        if self._relogged:
            own["relogged"] = self._relogged
            run.tags = (*(run.tags or ()), RELOGGED)
        self._update_config(record)
        summary, marks = as_shown(redacted(record.summary))
        own |= marks.as_json()
        self._open_run.summary.update({**summary, OWN_KEY: {k: v for k, v in own.items() if v is not None}})
        self._run = None
        run.finish(exit_code=0 if record.state == "finished" else 1)
        self._confirm(record, media)
        self._ledger.confirm_run(self.run_id, self.remote, stamp)

    def abandon(self) -> threading.Thread:
        """Gives the run up and returns the thread that ends it, as failed, when the SDK has done with it."""
        run, self._run = self._run, None

        def finish() -> None:
            with suppress(Exception):
                if run is not None:
                    run.finish(exit_code=1)

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        return thread

    @property
    def _open_run(self) -> "wandb.Run":
        if self._run is None:
            raise Unreachable(f"run {self.run_id} is not open at W&B")
        return self._run

    def _confirm(self, record: RunRecord, media: list[Media]) -> None:
        found = self._server.fetch_run(self.remote)
        if found is None:
            raise Undelivered(f"run {self.run_id}: W&B does not show it")
        shown = record_of(found)
        expected = {"state": record.state, "config": redacted(record.config), "summary": redacted(record.summary)}
        for key, value in expected.items():
            if not _equal(value, getattr(shown, key)):
                raise Undelivered(f"run {self.run_id}: W&B shows another {key}")
        if missing := {summary_key(item) for item in media} - media_keys(found):
            raise Undelivered(f"run {self.run_id}: W&B does not show {', '.join(sorted(missing))}")
        steps = {point["step"] for point in self._store.history(self.run_id) if len(point) > 1}
        if lost := steps - {point["step"] for point in self._server.history_of(found)}:
            raise Undelivered(
                f"run {self.run_id}: W&B does not show {len(lost):,} of {len(steps):,} points of its history"
            )
        edges = self._store.edges(self.run_id)
        there = {
            "logged": {(a.name, a.digest) for a in self._server.outputs_of(found)} if edges else set(),
            "used": {(a.name, a.digest) for a in self._server.inputs_of(found)} if edges else set(),
        }
        for kind, artifact in edges:
            if (artifact.name, artifact.digest) not in there[kind]:
                raise Undelivered(f"run {self.run_id}: W&B does not show that it {kind} {artifact.ref}")
            self._ledger.confirm_edge(kind, self.run_id, artifact)


def summary_key(media: Media) -> str:
    """Returns the key of the run's summary under which W&B shows something; of a chart, that of the table behind it."""
    return f"{media.key}_table" if media.kind == "lines" else media.key


def _equal(sent: Any, shown: Any) -> bool:
    """Returns whether two values are the same to JSON; NaN equals NaN, and 1 equals 1.0."""
    if isinstance(sent, dict) and isinstance(shown, dict):
        return sent.keys() == shown.keys() and all(_equal(sent[key], shown[key]) for key in sent)
    if isinstance(sent, (list, tuple)) and isinstance(shown, (list, tuple)):
        return len(sent) == len(shown) and all(_equal(a, b) for a, b in zip(sent, shown, strict=True))
    if isinstance(sent, float) and isinstance(shown, (int, float)):
        return sent == shown or (sent != sent and shown != shown)
    return bool(sent == shown)
