"""Keeps runs, artifacts and edges in ROOT/store.db and file contents under ROOT/blobs/: the embedded backend.

Any number of processes may write to one store at once. Whatever was returned is kept: a kill at any moment leaves a
store in which each version is whole or absent (stray files are collected by `python -m tracking gc`).
"""

import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from conf.secrets import without_secrets
from conf.version import product_version
from tracking.artifact import StoredArtifact
from tracking.blobs import Blobs
from tracking.database import Connection, Database, Row
from tracking.digest import manifest_digest
from tracking.drafts import check_aliases
from tracking.interface import (
    Artifact,
    ArtifactDraft,
    ArtifactFile,
    Media,
    NotFound,
    RunRecord,
    Tracker,
    TrackingError,
)
from tracking.json_text import decode, encode
from tracking.process import DEAD_AFTER, code_version, is_alive_row, mark_in, process_mark
from tracking.run import StoredRun
from tracking.staging import StagingDirectory
from tracking.versions import Versions, add_edge, check_type, insert_version, move_aliases, row_id


class Store(Tracker):
    """Opens the store at `root`, which is made there unless `create` is false.

    Raises TrackingError when there is none to open, when the directory cannot hold one, and when `store.db` there is
    no store or one of a newer schema.
    """

    def __init__(self, root: Path | str, *, create: bool = True) -> None:
        self.root = Path(os.path.expanduser(root)).absolute()  # as the config has it, and `--root`
        path = self.root / "store.db"
        if create:
            self._prepare(path)
        elif not path.is_file():
            raise TrackingError(
                f"no store at {root}: expected a directory with a store.db in it; name it with --root DIR "
                "(tracking.root of the runs), or train something first (python -m train …)"
            )
        self.database = Database(path, create=create)
        self.blobs = Blobs(self.root)
        self._versions = Versions(self.database, self.blobs)
        if create:
            self.blobs.make()

    def _prepare(self, path: Path) -> None:
        reason = None
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror
        else:
            if not os.access(self.root, os.W_OK | os.X_OK):
                reason = "the directory is not writable"
            elif path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
                reason = "its store.db is not a writable file"
        if reason:
            raise TrackingError(
                f"cannot keep runs in {self.root}: {reason}. Give a directory that can be written (tracking.root=DIR)"
            )

    def close(self) -> None:
        """Closes the database; only needed where open files matter, for the end of the process does the same."""
        self.database.close()

    # ---- runs

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
    ) -> StoredRun:
        """Starts or resumes a run as `Tracker` says. Raises TrackingError while another living process runs it."""
        if not re.fullmatch(r"[^/\\#?%:\s]{1,128}", run_id):
            raise TrackingError(
                f"run id {run_id!r}: expected at most 128 characters, none of them / \\ # ? % : or space"
            )
        encoded = encode(without_secrets(dict(config)), f"the config of run {run_id}")
        version = f"{product_version()}+{code_version()}"
        with suppress(OSError):
            self.blobs.collect_strays(grace=3600.0)  # of processes that were killed
        now = time.time()
        with self.database.write() as connection:
            row = connection.execute(f"{self._select_runs()} WHERE id = ?", (run_id,)).fetchone()
            old = self._record(row) if row else None  # a damaged row is written anew
            if row:
                _check_free(row)
            if row and restart:
                connection.execute("DELETE FROM history WHERE run = ?", (run_id,))
                connection.execute("DELETE FROM edges WHERE run = ?", (run_id,))
                connection.execute("DELETE FROM media WHERE run = ?", (run_id,))
                connection.execute("UPDATE runs SET edges = '' WHERE id = ?", (run_id,))  # their sum, if damaged
            kept = old if old and not restart else None  # what a resumed run keeps unless the caller gives it anew
            summary = kept.summary if kept else {}
            values: dict[str, Any] = {
                "id": run_id,
                "job_type": job_type,
                "name": name or (kept.name if kept else run_id),
                "group_name": group if group is not None or not kept else kept.group,
                "state": "running",
                "config": encoded,
                "summary": encode(summary, "the summary"),
                "tags": encode(list(tags) or (kept.tags if kept else []), "the tags"),
                "code_version": version,
                "started": kept.started if kept else now,
                "ended": None,
                "heartbeat": now,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "error": None,
                "process": process_mark(os.getpid()),
            }
            _put_run(connection, values)
        return StoredRun(self.database, self.blobs, self.root, run_id, summary)

    def run(self, run_id: str) -> RunRecord | None:
        """Returns the run's record, or None if there is no such run."""
        with self.database.read() as connection:
            row = connection.execute(f"{self._select_runs()} WHERE id = ?", (run_id,)).fetchone()
        return self._record(row) if row else None

    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        """Returns the runs that have all that is given, oldest first."""
        wanted = {"job_type": job_type, "group_name": group, "state": state}
        wanted = {column: value for column, value in wanted.items() if value is not None}
        where = "".join(f" AND {column} = :{column}" for column in wanted)
        with self.database.read() as connection:
            query = f"{self._select_runs()} WHERE 1{where} ORDER BY started, rowid"
            rows = connection.execute(query, wanted).fetchall()
        return self._records(rows)

    def _select_runs(self) -> str:
        return f"SELECT *, {self.database.is_sound('runs')} AS is_sound FROM runs"

    def _records(self, rows: Iterable[Row]) -> list[RunRecord]:
        return [record for row in rows if (record := self._record(row)) is not None]

    def _record(self, row: Row) -> RunRecord | None:
        """Returns the record of a run's row with `is_sound`; None, reported, where the row is damaged."""
        columns = {field.name: _COLUMNS.get(field.name, field.name) for field in fields(RunRecord)}
        values = {name: row[column] for name, column in columns.items() if name != "process"}
        try:
            if not row["is_sound"]:
                raise ValueError
            for name, kind in (("config", dict), ("summary", dict), ("tags", list)):
                values[name] = decode(values[name])
                if not isinstance(values[name], kind):
                    raise ValueError
        except ValueError:
            self.database.report_damage(f"the row of run {row['id']} is damaged")
            return None
        return RunRecord(**values, process=mark_in(row))

    def history(self, run_id: str, *, start: int = -(1 << 62)) -> list[dict[str, float]]:
        """Returns a run's points in order of step, from `start` on. Raises NotFound if there is no such run."""
        with self.database.read() as connection:
            _check_run(connection, run_id)
            sound = self.database.is_sound("history")
            query = f"SELECT step, point, {sound} FROM history WHERE run = ? AND step >= ? ORDER BY step"
            rows = connection.execute(query, (run_id, start)).fetchall()
        points = []
        for step, point, is_sound in rows:
            try:
                if not is_sound:
                    raise ValueError
                points.append({"step": step, **decode(point)})
            except (ValueError, TypeError):
                self.database.report_damage(f"step {step} of run {run_id} is damaged")
        return points

    def media(self, run_id: str) -> list[Media]:
        """Returns what a run logged to look at, by key."""
        if not self.database.has("media"):
            return []
        with self.database.read() as connection:
            sound = self.database.is_sound("media")
            query = f"SELECT *, {sound} AS is_sound FROM media WHERE run = ? ORDER BY key"
            rows = connection.execute(query, (run_id,)).fetchall()
        found = []
        for row in rows:
            try:
                if not row["is_sound"]:
                    raise ValueError
                file = None if row["md5"] is None else ArtifactFile(row["size"], row["md5"])
                found.append(Media(row["key"], row["kind"], decode(row["content"]), file))
            except ValueError:
                self.database.report_damage(f"{row['kind']} {row['key']} of run {run_id} is damaged")
        return found

    def adopt_run(self, record: RunRecord, history: Iterable[Mapping[str, float]]) -> None:
        """Takes over a run as another store kept it; one that is here with this id is replaced, not its edges."""
        with self.database.write() as connection:
            values = {**vars(record), "group_name": record.group}
            del values["group"]
            for column in ("config", "summary", "tags"):
                values[column] = encode(values[column], f"the {column} of run {record.id}")
            _put_run(connection, values)
            connection.execute("DELETE FROM history WHERE run = ?", (record.id,))
            points = [
                (record.id, int(point["step"]), encode({k: v for k, v in point.items() if k != "step"}, "the metrics"))
                for point in history
            ]
            connection.executemany("INSERT INTO history (run, step, point) VALUES (?, ?, ?)", points)

    def temporary_directory(self) -> StagingDirectory:
        """Returns a directory for temporary files below the store, as `Tracker` says. Raises TrackingError."""
        return StagingDirectory(self.blobs.scratch)

    # ---- artifacts

    def adopt_artifact(self, artifact: Artifact, files: Mapping[str, Path], aliases: Iterable[str]) -> StoredArtifact:
        """Takes over a version as another store kept it, its content in `files`; its number stays where that is free.

        Raises TrackingError where the files do not give its digest.
        """
        draft = ArtifactDraft(artifact.name, artifact.type, artifact.metadata)
        metadata = encode(draft.metadata, f"the metadata of artifact {draft.name}")
        while True:
            put = self.blobs.put(files)
            if manifest_digest(put) != artifact.digest:
                raise TrackingError(
                    f"{artifact.ref}: what arrived has digest {manifest_digest(put)}: expected {artifact.digest}"
                )
            with self.database.write() as connection:
                if not all(self.blobs.holds(file) for file in put.values()):  # `gc` took one: see log_artifact
                    continue
                check_type(connection, draft)
                id = insert_version(connection, draft, put, metadata, wanted=artifact.version)
                move_aliases(connection, draft.name, aliases, id)
                return self._versions.load(connection, [id])[id]

    def move_alias(self, artifact: Artifact, alias: str) -> None:
        """Moves an alias as `Tracker` says: `latest` too, and never to what could be a version's own name.

        Raises TrackingError for what can be no alias, and NotFound where the version is not in this store.
        """
        check_aliases([alias])
        with self.database.write() as connection:
            move_aliases(connection, artifact.name, [alias], row_id(connection, artifact), again=True)

    def adopt_edge(self, kind: str, run_id: str, artifact: StoredArtifact) -> None:
        """Records that a run `logged` or `used` a version, as another store did."""
        with self.database.write() as connection:
            add_edge(connection, kind, run_id, row_id(connection, artifact), heartbeat=False)

    def edges(self, run_id: str) -> list[tuple[str, StoredArtifact]]:
        """Returns what a run logged and used, as (`logged` or `used`, version), in the order in which it did."""
        return self._versions.edges(run_id)

    def artifact(self, ref: str) -> StoredArtifact:
        """Returns the version that a reference names; a name goes before a digest prefix of the same letters.

        Raises NotFound, naming what there is, and TrackingError for a prefix that several versions share.
        """
        return self._versions.get(ref)

    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        """Returns every version whose name matches the glob, by name and version."""
        return [*self.versions(name, type=type)]

    def versions(self, name: str = "*", *, type: str | None = None) -> list[StoredArtifact]:
        """Returns what `artifacts` does, as this backend's class: with the size and the time of creation."""
        return self._versions.matching(name, type=type)

    def load_versions(self, connection: Connection, ids: list[int]) -> dict[int, StoredArtifact]:
        """Returns the versions with these row ids, by id, in a transaction; damaged ones are left out."""
        return self._versions.load(connection, ids)

    def version_rows(self) -> list[tuple[int, str, int]]:
        """Returns the row id, name and number of every version, damaged or not."""
        with self.database.read() as connection:
            return [tuple(row) for row in connection.execute("SELECT id, name, version FROM versions")]

    def undecodable_rows(self) -> list[tuple[str, str, str]]:
        """Returns the table, the name and the fault of each row that holds what was never written there."""
        found = []
        with self.database.read() as connection:
            for table, (name, columns) in _JSON_COLUMNS.items():
                if self.database.has(table):
                    for row in connection.execute(f"SELECT {name} AS name, {', '.join(columns)} FROM {table}"):
                        found += [(table, str(row["name"]), fault) for c in columns if (fault := _fault(row[c], c))]
        return found

    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs that logged this version, in the order in which they did."""
        return self._records(self._versions.run_rows("logged", artifact))

    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        """Returns the runs that used this version, in the order in which they did."""
        return self._records(self._versions.run_rows("used", artifact))

    def inputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions a run used, in order of use. Raises NotFound if there is no such run."""
        return self._artifacts_of("used", run_id)

    def outputs(self, run_id: str) -> list[Artifact]:
        """Returns the versions a run logged, in the order it did. Raises NotFound if there is no such run."""
        return self._artifacts_of("logged", run_id)

    def _artifacts_of(self, kind: str, run_id: str) -> list[Artifact]:
        with self.database.read() as connection:
            _check_run(connection, run_id)
        return [artifact for edge, artifact in self._versions.edges(run_id) if edge == kind]


# ---- rows

# The columns that hold JSON, and an expression that names a row of the table.
_JSON_COLUMNS = {
    "runs": ("id", ("config", "summary", "tags")),
    "history": ("run || ' step ' || step", ("point",)),
    "versions": ("name || ':v' || version", ("metadata",)),
    "media": ("run || ' ' || key", ("content",)),
}


def _fault(text: Any, column: str) -> str | None:
    try:
        value = decode(text)
    except ValueError as error:
        return f"{column} is no JSON ({error})"
    wanted = list if column == "tags" else dict
    return None if isinstance(value, wanted) else f"{column} is no {wanted.__name__}"


_COLUMNS = {"group": "group_name"}  # of a record's fields that have another name in the table


def _put_run(connection: Connection, values: Mapping[str, Any]) -> None:
    updates = ", ".join(f"{column} = excluded.{column}" for column in values if column != "id")
    connection.execute(
        f"INSERT INTO runs ({', '.join(values)}) VALUES ({', '.join(':' + column for column in values)}) "
        f"ON CONFLICT (id) DO UPDATE SET {updates}",
        values,
    )


def _check_free(row: Row) -> None:
    """Raises TrackingError while another living process runs the run of a row, which may be damaged elsewhere."""
    id, host, pid, heartbeat = (row[column] for column in ("id", "host", "pid", "heartbeat"))
    mine = (host, pid) == (socket.gethostname(), os.getpid())
    if not mine and is_alive_row(row):
        age = time.time() - heartbeat
        gone = f"; if {host} is gone, start again in {DEAD_AFTER - age:.0f} s" if host != socket.gethostname() else ""
        raise TrackingError(
            f"run {id} is being run now by process {pid} on {host} (last sign of life {max(0.0, age):.0f} s ago): "
            f"wait for its end, or stop that process and start again{gone}"
        )


def _check_run(connection: Connection, run_id: str) -> None:
    if not connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone():
        raise NotFound(f"no run has the id {run_id}; see `python -m tracking ls --runs`")
