"""The embedded backend: runs, artifacts and edges in ROOT/store.db, file contents under ROOT/blobs/.

Any number of processes may write to one store at once. Whatever was returned is kept: a kill at any moment leaves a
store in which each version is whole or absent (stray files are collected by `python -m tracking gc`).
"""

import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tracking.artifact import StoredArtifact
from tracking.blobs import Blobs
from tracking.database import Connection, Database, Row, decode, encode
from tracking.digest import manifest_digest
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
from tracking.process import code_version, is_alive
from tracking.run import StoredRun, add_edge, check_type, insert_version

__all__ = ["Store", "StoredArtifact", "StoredRun", "is_alive"]

TAKEOVER_AFTER = 60.0  # seconds without a heartbeat after which a run on another host may be taken over
MIN_PREFIX = 6  # hex digits of a digest that a reference must give


class Store(Tracker):
    """The store at `root`, made there unless `create` is false.

    Raises TrackingError when there is none to open, when the directory cannot hold one, and when `store.db` there is
    no store or one of a newer schema.
    """

    def __init__(self, root: Path | str, *, create: bool = True) -> None:
        self.root = Path(root).expanduser().absolute()
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
    ) -> "StoredRun":
        """See `Tracker`. Raises TrackingError while another living process runs this run."""
        if not re.fullmatch(r"[^/\\#?%:\s]{1,128}", run_id):
            raise TrackingError(
                f"run id {run_id!r}: expected at most 128 characters, none of them / \\ # ? % : or space"
            )
        encoded = encode(dict(config), f"the config of run {run_id}")
        version = code_version()
        now = time.time()
        with self.database.write() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            old = _record(row) if row else None
            if old:
                _check_free(old)
            if old and restart:
                connection.execute("DELETE FROM history WHERE run = ?", (run_id,))
                connection.execute("DELETE FROM edges WHERE run = ?", (run_id,))
                connection.execute("DELETE FROM media WHERE run = ?", (run_id,))
            kept = old if old and not restart else None  # what a resumed run keeps unless it is told anew
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
            }
            _put_run(connection, values)
        return StoredRun(self, run_id, summary)

    def run(self, run_id: str) -> RunRecord | None:
        """The run's record, or None if there is no such run."""
        with self.database.read() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        return _record(row) if row else None

    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        wanted = {"job_type": job_type, "group_name": group, "state": state}
        wanted = {column: value for column, value in wanted.items() if value is not None}
        where = "".join(f" AND {column} = :{column}" for column in wanted)
        with self.database.read() as connection:
            rows = connection.execute(f"SELECT * FROM runs WHERE 1{where} ORDER BY started, rowid", wanted).fetchall()
        return [_record(row) for row in rows]

    def history(self, run_id: str, *, start: int = -(1 << 62)) -> list[dict[str, float]]:
        """See `Tracker`; from step `start` on. Raises NotFound if there is no such run."""
        with self.database.read() as connection:
            _check_run(connection, run_id)
            query = "SELECT step, point FROM history WHERE run = ? AND step >= ? ORDER BY step"
            return [{"step": step, **decode(point)} for step, point in connection.execute(query, (run_id, start))]

    def media(self, run_id: str) -> list[Media]:
        """What a run logged to look at, by key."""
        if not self.database.has("media"):
            return []
        with self.database.read() as connection:
            rows = connection.execute("SELECT * FROM media WHERE run = ? ORDER BY key", (run_id,)).fetchall()
        return [
            Media(
                row["key"],
                row["kind"],
                decode(row["content"]),
                None if row["md5"] is None else ArtifactFile(row["size"], row["md5"]),
            )
            for row in rows
        ]

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
            connection.executemany("INSERT INTO history VALUES (?, ?, ?)", points)

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
                for alias in aliases:
                    connection.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", (draft.name, alias, id))
                return self.load(connection, [id])[0]

    def adopt_edge(self, kind: str, run_id: str, artifact: StoredArtifact) -> None:
        """Records that a run logged or used a version, as another store did."""
        with self.database.write() as connection:
            query = "SELECT id FROM versions WHERE name = ? AND digest = ?"
            id = connection.execute(query, (artifact.name, artifact.digest)).fetchone()[0]
            add_edge(connection, kind, run_id, id, heartbeat=False)

    def edges(self, run_id: str) -> list[tuple[str, StoredArtifact]]:
        """What a run logged and used, as (`logged` or `used`, version), in the order in which it did."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT kind, artifact FROM edges WHERE run = ? ORDER BY rowid", (run_id,)
            ).fetchall()
            artifacts = self.load(connection, [row["artifact"] for row in rows])
        return [(row["kind"], artifact) for row, artifact in zip(rows, artifacts, strict=True)]

    def artifact(self, ref: str) -> StoredArtifact:
        """See `Tracker`; a name goes before a digest prefix of the same letters.

        Raises NotFound, naming what there is, and TrackingError for a prefix that several versions share.
        """
        name, colon, alias = ref.partition(":")
        with self.database.read() as connection:
            known = connection.execute("SELECT 1 FROM collections WHERE name = ?", (name,)).fetchone()
            if not known and not colon and re.fullmatch(rf"[0-9a-fA-F]{{{MIN_PREFIX},32}}", ref):
                return self._by_digest(connection, ref)
            if not known:
                raise _unknown_name(connection, ref, name)
            alias = alias if colon else "latest"
            if number := re.fullmatch(r"v(\d{1,18})", alias):
                query, key = "SELECT id FROM versions WHERE name = ? AND version = ?", int(number[1])
            else:
                query, key = "SELECT artifact FROM aliases WHERE name = ? AND alias = ?", alias  # type: ignore[assignment]
            row = connection.execute(query, (name, key)).fetchone()
            if not row:
                raise _unknown_alias(connection, ref, name)
            return self.load(connection, [row[0]])[0]

    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        return [*self.versions(name, type=type)]

    def versions(self, name: str = "*", *, type: str | None = None) -> list[StoredArtifact]:
        """`artifacts`, each known to be this backend's: with its size and the time it was made."""
        with self.database.read() as connection:
            query = (
                "SELECT v.id, v.name FROM versions v JOIN collections c USING (name) WHERE ?1 IS NULL OR c.type = ?1"
            )
            rows = connection.execute(query + " ORDER BY v.name, v.version", (type,)).fetchall()
            return self.load(connection, [row["id"] for row in rows if fnmatchcase(row["name"], name)])

    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        """The runs that logged this version, in the order in which they did."""
        return self._runs_of("logged", artifact)

    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        """The runs that used this version, in the order in which they did."""
        return self._runs_of("used", artifact)

    def inputs(self, run_id: str) -> list[Artifact]:
        """The versions a run used, in order of use. Raises NotFound if there is no such run."""
        return self._artifacts_of("used", run_id)

    def outputs(self, run_id: str) -> list[Artifact]:
        """The versions a run logged, in the order it did. Raises NotFound if there is no such run."""
        return self._artifacts_of("logged", run_id)

    def _runs_of(self, kind: str, artifact: Artifact) -> list[RunRecord]:
        query = (
            "SELECT r.* FROM runs r JOIN edges e ON e.run = r.id JOIN versions v ON e.artifact = v.id "
            "WHERE e.kind = ? AND v.name = ? AND v.digest = ? ORDER BY e.rowid"
        )
        with self.database.read() as connection:
            return [_record(row) for row in connection.execute(query, (kind, artifact.name, artifact.digest))]

    def _artifacts_of(self, kind: str, run_id: str) -> list[Artifact]:
        with self.database.read() as connection:
            _check_run(connection, run_id)
            query = "SELECT artifact FROM edges WHERE kind = ? AND run = ? ORDER BY rowid"
            return [*self.load(connection, [row[0] for row in connection.execute(query, (kind, run_id))])]

    def _by_digest(self, connection: Connection, prefix: str) -> StoredArtifact:
        query = "SELECT id, name, version, digest FROM versions WHERE digest GLOB ? ORDER BY name, version"
        rows = connection.execute(query, (prefix.lower() + "*",)).fetchall()
        if not rows:
            raise NotFound(f"no artifact is named {prefix}, and no digest starts so; see `python -m tracking ls`")
        if len(rows) > 1:
            matches = ", ".join(f"{row['name']}:v{row['version']} ({row['digest']})" for row in rows)
            raise TrackingError(f"digest prefix {prefix} fits several versions, name one of them: {matches}")
        return self.load(connection, [rows[0]["id"]])[0]

    def load(self, connection: Connection, ids: list[int]) -> list[StoredArtifact]:
        """The versions with these row ids, in that order."""
        among = encode(ids, "row ids")
        query = (
            "SELECT v.*, c.type FROM versions v JOIN collections c USING (name) "
            "WHERE v.id IN (SELECT value FROM json_each(?))"
        )
        found = {
            row["id"]: StoredArtifact(
                name=row["name"],
                type=row["type"],
                version=row["version"],
                digest=row["digest"],
                aliases=[],
                metadata=decode(row["metadata"]),
                files={},
                created=row["created"],
                blobs=self.blobs,
            )
            for row in connection.execute(query, (among,))
        }
        query = "SELECT * FROM files WHERE artifact IN (SELECT value FROM json_each(?)) ORDER BY artifact, name"
        for row in connection.execute(query, (among,)):
            found[row["artifact"]].files[row["name"]] = ArtifactFile(row["size"], row["md5"])
        query = "SELECT artifact, alias FROM aliases WHERE artifact IN (SELECT value FROM json_each(?))"
        for row in connection.execute(query + " ORDER BY alias != 'latest', alias", (among,)):
            found[row["artifact"]].aliases.append(row["alias"])
        return [found[id] for id in ids]


# ---- rows


def _record(row: Row) -> RunRecord:
    values = dict(row)
    values["group"] = values.pop("group_name")
    for column in ("config", "summary", "tags"):
        values[column] = decode(values[column])
    return RunRecord(**values)


def _put_run(connection: Connection, values: Mapping[str, Any]) -> None:
    updates = ", ".join(f"{column} = excluded.{column}" for column in values if column != "id")
    connection.execute(
        f"INSERT INTO runs ({', '.join(values)}) VALUES ({', '.join(':' + column for column in values)}) "
        f"ON CONFLICT (id) DO UPDATE SET {updates}",
        values,
    )


def _check_free(record: RunRecord) -> None:
    mine = record.host == socket.gethostname() and record.pid == os.getpid()
    if mine or not is_alive(record, stale_after=TAKEOVER_AFTER):
        return
    raise TrackingError(
        f"run {record.id} is being run now by process {record.pid} on {record.host} (last sign of life "
        f"{max(0.0, time.time() - record.heartbeat):.0f} s ago): wait for its end, or stop that process and start again"
    )


def _check_run(connection: Connection, run_id: str) -> None:
    if not connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone():
        raise NotFound(f"no run has the id {run_id}; see `python -m tracking ls --runs`")


def _unknown_name(connection: Connection, ref: str, name: str) -> NotFound:
    names = [row[0] for row in connection.execute("SELECT name FROM collections")]
    close = get_close_matches(name, names)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return NotFound(
        f"no artifact {ref!r}: {hint}expected name:alias, name:vN, or at least {MIN_PREFIX} hex digits of a digest; "
        "see `python -m tracking ls`"
    )


def _unknown_alias(connection: Connection, ref: str, name: str) -> NotFound:
    aliases = [row[0] for row in connection.execute("SELECT alias FROM aliases WHERE name = ? ORDER BY alias", (name,))]
    last = connection.execute("SELECT max(version) FROM versions WHERE name = ?", (name,)).fetchone()[0]
    versions = "v0" if not last else f"v0 to v{last}"
    return NotFound(f"no artifact {ref!r}: {name} has versions {versions} and aliases {', '.join(aliases)}")
