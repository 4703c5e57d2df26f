"""Keeps the delivery record: what of a store W&B has confirmed that it holds. The record is in the store itself.

A row is written when the server was asked and showed what was sent, never because sending raised no error. Whatever has
no row is `Pending`, whatever the reason, and `python -m tracking push` delivers it. A project is named by its `key`.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tracking.artifact import StoredArtifact
from tracking.database import Connection
from tracking.interface import Artifact, RunRecord
from tracking.json_text import encode
from tracking.store import Store


@dataclass
class Pending:
    """Lists what is not confirmed: ids of runs, references of artifacts, and edges as (kind, run id, reference)."""

    runs: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    edges: list[tuple[str, str, str]] = field(default_factory=list)
    bytes: int = 0  # of the artifacts
    reasons: list[str] = field(default_factory=list)  # why, as far as that is known

    def __bool__(self) -> bool:
        return bool(self.runs or self.artifacts or self.edges)

    def __str__(self) -> str:
        counts = (("run", len(self.runs)), ("artifact", len(self.artifacts)), ("edge", len(self.edges)))
        return ", ".join(f"{n:,} {noun}{'s' * (n != 1)}" for noun, n in counts if n) or "nothing"


class Accounts:
    """Keeps which entity W&B named for an account, which a caller names by a text of its own."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def entity(self, account: str) -> str | None:
        """Returns the entity that was named last; None if there was none."""
        if not self._database.has("accounts"):
            return None
        with self._database.read() as connection:
            row = connection.execute("SELECT entity FROM accounts WHERE account = ?", (account,)).fetchone()
        return row["entity"] if row else None

    def store_name(self) -> str:
        """Returns eight hex digits by which this store differs from others; they are chosen at the first call."""
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO accounts VALUES ('store', ?)", (secrets.token_hex(4),))
            return str(connection.execute("SELECT entity FROM accounts WHERE account = 'store'").fetchone()[0])

    def remember(self, account: str, entity: str) -> None:
        """Notes the entity."""
        if self.entity(account) != entity:
            with self._database.write() as connection:
                connection.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (account, entity))


class Ledger:
    """Reads and writes the delivery record of one store for one W&B project."""

    def __init__(self, store: Store, project: str) -> None:
        self._store, self._project = store, project
        store.database.upgrade()

    # ---- runs

    def remote(self, run_id: str) -> tuple[str, bool] | None:
        """Returns the run's id at W&B, and whether it was restarted here since; None if it was never begun there."""
        with self._store.database.read() as connection:
            query = "SELECT remote, stale FROM delivered_runs WHERE place = ? AND run = ?"
            row = connection.execute(query, (self._project, run_id)).fetchone()
        return (row["remote"], bool(row["stale"])) if row else None

    def run_sent_as(self, remote: str) -> str | None:
        """Returns the run of this store that has this id at W&B, or had it in its first attempt; None for others."""
        with self._store.database.read() as connection:
            query = "SELECT run FROM delivered_runs WHERE place = ? AND (remote = ? OR remote GLOB ? || '-again*')"
            row = connection.execute(query, (self._project, remote, remote)).fetchone()
        return row["run"] if row else None

    def begin_run(self, run_id: str, remote: str) -> None:
        """Notes under which id a run is being sent."""
        self._put_run(run_id, remote, None)

    def confirm_run(self, run_id: str, remote: str, stamp: str) -> None:
        """Notes that the server showed the run as it was when `stamp` was taken."""
        self._put_run(run_id, remote, stamp)

    def _put_run(self, run_id: str, remote: str, stamp: str | None) -> None:
        with self._store.database.write() as connection:
            values = (self._project, run_id, remote, stamp)
            connection.execute("INSERT OR REPLACE INTO delivered_runs VALUES (?, ?, ?, 0, ?)", values)

    def restart_run(self, run_id: str) -> None:
        """Notes that the run was started afresh here: what the server has of it belongs to the past."""
        with self._store.database.write() as connection:
            connection.execute(
                "INSERT INTO delivered_runs VALUES (?, ?, ?, 1, NULL) "
                "ON CONFLICT (place, run) DO UPDATE SET stale = 1, stamp = NULL",
                (self._project, run_id, run_id),
            )
            key = (self._project, run_id)
            connection.execute("DELETE FROM delivered_edges WHERE place = ? AND run = ?", key)

    def forget(self) -> None:
        """Removes every confirmation; under which ids runs were sent stays recorded."""
        with self._store.database.write() as connection:
            connection.execute("UPDATE delivered_runs SET stamp = NULL WHERE place = ?", (self._project,))
            for table in ("delivered_artifacts", "delivered_edges"):
                connection.execute(f"DELETE FROM {table} WHERE place = ?", (self._project,))

    def stamp(self, run_id: str) -> str:
        """Returns a hash of all that W&B is to show of a run; a confirmation of another stamp is out of date."""
        record = self._store.run(run_id)
        assert record is not None
        with self._store.database.read() as connection:
            return _stamp(connection, record)

    # ---- artifacts and edges

    def version(self, artifact: Artifact) -> int | None:
        """Returns the number that the version has at W&B; None where it is not confirmed."""
        with self._store.database.read() as connection:
            query = "SELECT version FROM delivered_artifacts WHERE place = ? AND name = ? AND digest = ?"
            row = connection.execute(query, (self._project, artifact.name, artifact.digest)).fetchone()
        return row["version"] if row else None

    def confirm_artifact(self, artifact: Artifact, version: int, aliases: Iterable[str]) -> None:
        """Notes that the server showed a version, under its number and with these aliases."""
        with self._store.database.write() as connection:
            values = (self._project, artifact.name, artifact.digest, version, json.dumps(sorted(aliases)))
            connection.execute("INSERT OR REPLACE INTO delivered_artifacts VALUES (?, ?, ?, ?, ?)", values)

    def unconfirmed_aliases(self, artifact: StoredArtifact) -> set[str]:
        """Returns the aliases that the version has here and that the server has not shown."""
        with self._store.database.read() as connection:
            query = "SELECT aliases FROM delivered_artifacts WHERE place = ? AND name = ? AND digest = ?"
            row = connection.execute(query, (self._project, artifact.name, artifact.digest)).fetchone()
        return set(artifact.aliases) - set(json.loads(row["aliases"]) if row else ())

    def has_edge(self, kind: str, run_id: str, artifact: Artifact) -> bool:
        """Returns whether the server showed that the run `logged` or `used` the version."""
        with self._store.database.read() as connection:
            query = "SELECT 1 FROM delivered_edges WHERE (place, kind, run, name, digest) = (?, ?, ?, ?, ?)"
            values = (self._project, kind, run_id, artifact.name, artifact.digest)
            return connection.execute(query, values).fetchone() is not None

    def confirm_edge(self, kind: str, run_id: str, artifact: Artifact) -> None:
        """Notes that the server showed that the run `logged` or `used` the version."""
        with self._store.database.write() as connection:
            values = (self._project, kind, run_id, artifact.name, artifact.digest)
            connection.execute("INSERT OR REPLACE INTO delivered_edges VALUES (?, ?, ?, ?, ?)", values)

    # ---- what is missing

    def pending(self, runs: Iterable[str] | None = None) -> Pending:
        """Returns what is not confirmed of these runs, of what they logged and of their edges; of all runs if None."""
        records = self._store.runs()
        wanted = None if runs is None else set(runs)
        found = Pending()
        artifacts: dict[tuple[str, str], StoredArtifact] = {}
        for record in records:
            if wanted is not None and record.id not in wanted:
                continue
            if not self._is_confirmed(record):
                found.runs.append(record.id)
            for kind, artifact in self._store.edges(record.id):
                if kind == "logged":
                    artifacts[artifact.name, artifact.digest] = artifact
                if not self.has_edge(kind, record.id, artifact):
                    found.edges.append((kind, record.id, artifact.ref))
        for artifact in artifacts.values():
            if self.version(artifact) is None or self.unconfirmed_aliases(artifact):
                found.artifacts.append(artifact.ref)
                found.bytes += artifact.size
        return found

    def _is_confirmed(self, record: RunRecord) -> bool:
        with self._store.database.read() as connection:
            query = "SELECT stamp FROM delivered_runs WHERE place = ? AND run = ? AND NOT stale"
            row = connection.execute(query, (self._project, record.id)).fetchone()
            return row is not None and row["stamp"] == _stamp(connection, record)


def _stamp(connection: Connection, record: RunRecord) -> str:
    kept: dict[str, Any] = {
        key: value for key, value in vars(record).items() if key not in ("heartbeat", "host", "pid", "process")
    }
    query = "SELECT count(*), max(step) FROM history WHERE run = ?"
    history = list(connection.execute(query, (record.id,)).fetchone())
    query = "SELECT key, kind, content, md5 FROM media WHERE run = ? ORDER BY key"
    media = [list(row) for row in connection.execute(query, (record.id,))]
    text = encode([sorted(kept.items()), history, media], f"run {record.id}")
    return hashlib.sha256(text.encode()).hexdigest()
