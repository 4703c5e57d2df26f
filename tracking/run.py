"""A run in progress in the embedded store: what it logs and uses, each call one transaction."""

import time
import traceback as tracebacks
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.artifact import StoredArtifact
from tracking.database import Connection, encode
from tracking.digest import manifest_digest
from tracking.drafts import check_aliases, check_draft, check_lines, check_table, number
from tracking.interface import RUN_STATES, Artifact, ArtifactDraft, ArtifactFile, Run, TrackingError

if TYPE_CHECKING:
    from tracking.store import Store


class StoredRun(Run):
    """A run in progress in the embedded store. Raises TrackingError when used after it has finished."""

    def __init__(self, store: "Store", run_id: str, summary: dict[str, Any]) -> None:
        self.id = run_id
        self._store = store
        self._summary = dict(summary)
        self._finished = False

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Run`. Every value also becomes the summary's. Raises TrackingError for a value that is no number."""
        self._check_running()
        point = {key: number(key, value) for key, value in values.items()}
        self._write_summary(point, (self.id, int(step), encode(point, "the metrics")))

    def set_summary(self, values: Mapping[str, Any]) -> None:
        self._check_running()
        self._write_summary(values, None)

    def _write_summary(self, values: Mapping[str, Any], point: tuple[str, int, str] | None) -> None:
        summary = {**self._summary, **values}
        encoded = encode(summary, f"the summary of run {self.id}")
        with self._store.database.write(durable=False) as connection:
            if point:
                connection.execute(
                    "INSERT INTO history VALUES (?, ?, ?) ON CONFLICT (run, step) DO UPDATE SET point = excluded.point",
                    point,
                )
            connection.execute(
                "UPDATE runs SET summary = ?, heartbeat = ? WHERE id = ?", (encoded, time.time(), self.id)
            )
        self._summary = summary

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Run`. Raises TrackingError for too many rows and for a row of another length than the columns'."""
        check_table(key, columns, rows)
        self._log_media(key, "table", {"columns": list(columns), "rows": [list(row) for row in rows]})

    def log_lines(
        self, key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_name: str
    ) -> None:
        """See `Run`. Raises TrackingError for a line of another length than `x`."""
        check_lines(key, x, lines)
        content = {"x": list(x), "lines": {name: list(line) for name, line in lines.items()}}
        self._log_media(key, "lines", {**content, "title": title, "x_name": x_name})

    def log_image(self, key: str, path: Path) -> None:
        self._log_media(key, "image", {}, path)

    def log_html(self, key: str, path: Path) -> None:
        self._log_media(key, "html", {}, path)

    def _log_media(self, key: str, kind: str, content: dict[str, Any], path: Path | None = None) -> None:
        self._check_running()
        encoded = encode(content, f"{kind} {key}")
        store = self._store
        while True:
            file = store.blobs.put({key: path})[key] if path is not None else None
            with store.database.write() as connection:
                if file is not None and not store.blobs.holds(file):  # `gc` took it: see log_artifact
                    continue
                values = (self.id, key, kind, encoded, *((file.size, file.md5) if file else (None, None)))
                connection.execute("INSERT OR REPLACE INTO media VALUES (?, ?, ?, ?, ?, ?)", values)
                return

    def use_artifact(self, artifact: Artifact | str) -> StoredArtifact:
        """See `Run`. Raises NotFound for an artifact that this store does not hold."""
        self._check_running()
        found = self._store.artifact(artifact if isinstance(artifact, str) else artifact.ref)
        if not isinstance(artifact, str) and artifact.digest != found.digest:
            raise TrackingError(
                f"{artifact.ref} with digest {artifact.digest} is from another store; the one at {self._store.root} "
                f"holds {found.digest} by that name"
            )
        with self._store.database.write() as connection:
            query = "SELECT id FROM versions WHERE name = ? AND version = ?"
            add_edge(connection, "used", self.id, connection.execute(query, (found.name, found.version)).fetchone()[0])
        return found

    def log_artifact(self, draft: ArtifactDraft, aliases: Iterable[str] = ("latest",)) -> StoredArtifact:
        """See `Run`. `latest` moves here whatever `aliases` says; a version that is there keeps its metadata.

        Raises TrackingError for a bad name, alias, file or metadata, and for a name that is taken by another type.
        """
        self._check_running()
        check_draft(draft)
        moved = ["latest", *check_aliases(aliases)]
        metadata = encode(draft.metadata, f"the metadata of artifact {draft.name}")
        store = self._store
        with store.database.read() as connection:
            check_type(connection, draft)  # before anything large is copied
        while True:
            files = store.blobs.put(draft.files)
            with store.database.write() as connection:
                # `gc` removes files under this same lock: what is there now stays. What it took before is put again.
                if not all(store.blobs.holds(file) for file in files.values()):
                    continue
                check_type(connection, draft)
                id = insert_version(connection, draft, files, metadata)
                connection.executemany(
                    "INSERT INTO aliases VALUES (?, ?, ?) "
                    "ON CONFLICT (name, alias) DO UPDATE SET artifact = excluded.artifact",
                    [(draft.name, alias, id) for alias in moved],
                )
                add_edge(connection, "logged", self.id, id)
                return store.load(connection, [id])[0]

    def finish(self, state: str = "finished", error: str | None = None) -> None:
        if self._finished:
            return
        if state not in RUN_STATES or state == "running":
            raise TrackingError(f"a run cannot end in state {state!r}: expected finished, failed or stopped")
        if error is not None:
            error = error.encode("utf-8", "backslashreplace").decode()
        now = time.time()
        with self._store.database.write() as connection:
            connection.execute(
                "UPDATE runs SET state = ?, error = ?, ended = ?, heartbeat = ? WHERE id = ?",
                (state, error, now, now, self.id),
            )
        self._finished = True

    def __exit__(self, kind, value, traceback) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish("failed", "".join(tracebacks.format_exception(kind, value, traceback)))

    def _check_running(self) -> None:
        if self._finished:
            raise TrackingError(f"run {self.id} has ended: start it again (start_run) to add to it")


def insert_version(
    connection: Connection,
    draft: ArtifactDraft,
    files: Mapping[str, ArtifactFile],
    metadata: str,
    *,
    wanted: int | None = None,
) -> int:
    """The row id of the version with this content, which is inserted unless it is there.

    It gets the number that is `wanted` where that is free, else the next one.
    """
    digest = manifest_digest(files)
    query = "SELECT id FROM versions WHERE name = ? AND digest = ?"
    if row := connection.execute(query, (draft.name, digest)).fetchone():
        return row["id"]
    connection.execute("INSERT INTO collections VALUES (?, ?) ON CONFLICT DO NOTHING", (draft.name, draft.type))
    query = "SELECT coalesce(max(version) + 1, 0) FROM versions WHERE name = ?"
    version = connection.execute(query, (draft.name,)).fetchone()[0]
    if wanted is not None:
        query = "SELECT 1 FROM versions WHERE name = ? AND version = ?"
        version = version if connection.execute(query, (draft.name, wanted)).fetchone() else wanted
    id = connection.execute(
        "INSERT INTO versions (name, version, digest, metadata, created) VALUES (?, ?, ?, ?, ?)",
        (draft.name, version, digest, metadata, time.time()),
    ).lastrowid
    assert id is not None
    connection.executemany(
        "INSERT INTO files VALUES (?, ?, ?, ?)", [(id, name, file.size, file.md5) for name, file in files.items()]
    )
    return id


def add_edge(connection: Connection, kind: str, run_id: str, artifact: int, *, heartbeat: bool = True) -> None:
    """Records once that a run `logged` or `used` the version with this row id, as its sign of life if `heartbeat`."""
    connection.execute("INSERT INTO edges VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (kind, run_id, artifact))
    if heartbeat:
        connection.execute("UPDATE runs SET heartbeat = ? WHERE id = ?", (time.time(), run_id))


def check_type(connection: Connection, draft: ArtifactDraft) -> None:
    row = connection.execute("SELECT type FROM collections WHERE name = ?", (draft.name,)).fetchone()
    if row and row["type"] != draft.type:
        raise TrackingError(
            f"artifact {draft.name} has type {row['type']!r}, and {draft.type!r} was given: a name has one type; "
            "choose another name"
        )
