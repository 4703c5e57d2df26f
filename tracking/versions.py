"""Keeps artifact versions and their edges to runs in the store's database, and finds them again.

A version is a row of `versions` with its rows of `files` and `aliases`; an edge says that a run `logged` or `used` it.
"""

import re
import time
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from tracking.artifact import StoredArtifact
from tracking.blobs import Blobs
from tracking.database import Connection, Database, Row
from tracking.digest import manifest_digest
from tracking.interface import (
    MIN_PREFIX,
    Artifact,
    ArtifactDraft,
    ArtifactFile,
    NotFound,
    TrackingError,
    is_digest_prefix,
)
from tracking.json_text import decode, encode
from tracking.printing import at_time
from tracking.row_checksums import checksum_sql


class Versions:
    """Finds the artifact versions of one store, and the edges between them and its runs."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database, self._blobs = database, blobs

    def get(self, ref: str) -> StoredArtifact:
        """Returns the version that a reference names; a name goes before a digest prefix of the same letters.

        Raises NotFound, naming what there is, and TrackingError for a prefix that several versions share.
        """
        name, colon, alias = ref.partition(":")
        with self._database.read() as connection:
            is_name = connection.execute("SELECT 1 FROM collections WHERE name = ?", (name,)).fetchone()
            if not is_name and not colon and is_digest_prefix(ref):
                return self._by_digest(connection, ref)
            if not is_name:
                raise _unknown_name(connection, ref, name)
            alias = alias if colon else "latest"
            if number := re.fullmatch(r"v(\d{1,18})", alias):
                query = "SELECT id FROM versions WHERE name = ? AND version = ?"
                row = connection.execute(query, (name, int(number[1]))).fetchone()
            else:
                sound = self._database.is_sound("aliases")
                query = f"SELECT artifact FROM aliases WHERE name = ? AND alias = ? AND {sound}"
                row = connection.execute(query, (name, alias)).fetchone()
            if not row:
                raise _unknown_alias(connection, ref, name)
            return self._load_one(connection, row[0], ref)

    def matching(self, name: str = "*", *, type: str | None = None) -> list[StoredArtifact]:
        """Returns every version whose name matches the glob, by name and version."""
        with self._database.read() as connection:
            query = (
                "SELECT v.id, v.name FROM versions v JOIN collections c USING (name) WHERE ?1 IS NULL OR c.type = ?1"
            )
            rows = connection.execute(query + " ORDER BY v.name, v.version", (type,)).fetchall()
            ids = [row["id"] for row in rows if fnmatchcase(row["name"], name)]
            found = self.load(connection, ids)
        return [found[id] for id in ids if id in found]

    def edges(self, run_id: str) -> list[tuple[str, StoredArtifact]]:
        """Returns what a run logged and used, as (`logged` or `used`, version), in the order in which it did."""
        with self._database.read() as connection:
            sound = self._database.is_sound("edges")
            query = f"SELECT kind, artifact FROM edges WHERE run = ? AND {sound} ORDER BY rowid"
            rows = connection.execute(query, (run_id,)).fetchall()
            found = self.load(connection, [row["artifact"] for row in rows])
        return [(row["kind"], found[row["artifact"]]) for row in rows if row["artifact"] in found]

    def run_rows(self, kind: str, artifact: Artifact) -> list[Row]:
        """Returns the rows of the runs that `logged` or `used` a version, in the order in which they did."""
        with self._database.read() as connection:
            query = (
                f"SELECT r.*, {self._database.is_sound('runs', 'r.')} AS is_sound FROM runs r "
                "JOIN edges e ON e.run = r.id JOIN versions v ON e.artifact = v.id WHERE e.kind = ? AND v.name = ? "
                f"AND v.digest = ? AND {self._database.is_sound('edges', 'e.')} ORDER BY e.rowid"
            )
            return connection.execute(query, (kind, artifact.name, artifact.digest)).fetchall()

    def load(self, connection: Connection, ids: list[int]) -> dict[int, StoredArtifact]:
        """Returns the versions with these row ids, by id; those whose row is damaged are reported and left out."""
        among = encode(ids, "row ids")
        query = (
            f"SELECT v.*, c.type, {self._database.is_sound('versions', 'v.')} "
            f"AND {self._database.is_sound('collections', 'c.')} AS is_sound FROM versions v "
            "JOIN collections c USING (name) WHERE v.id IN (SELECT value FROM json_each(?))"
        )
        found = {}
        for row in connection.execute(query, (among,)):
            try:
                if not row["is_sound"]:
                    raise ValueError
                found[row["id"]] = StoredArtifact(
                    name=row["name"],
                    type=row["type"],
                    version=row["version"],
                    digest=row["digest"],
                    aliases=[],
                    metadata=_mapping(decode(row["metadata"])),
                    files={},
                    created=row["created"],
                    blobs=self._blobs,
                )
            except ValueError:
                self._database.report_damage(f"the row of artifact {row['name']}:v{row['version']} is damaged")
        query = "SELECT * FROM files WHERE artifact IN (SELECT value FROM json_each(?)) ORDER BY artifact, name"
        for row in connection.execute(query, (among,)):
            if row["artifact"] in found:  # an altered MD5 shows by the digest; a size must only be a number
                size = row["size"] if isinstance(row["size"], int) else -1
                found[row["artifact"]].files[str(row["name"])] = ArtifactFile(size, str(row["md5"]))
        sound = self._database.is_sound("aliases")
        query = f"SELECT artifact, alias FROM aliases WHERE artifact IN (SELECT value FROM json_each(?)) AND {sound}"
        for row in connection.execute(query + " ORDER BY alias != 'latest', alias", (among,)):
            if row["artifact"] in found:
                found[row["artifact"]].aliases.append(row["alias"])
        return found

    def _load_one(self, connection: Connection, id: int, ref: str) -> StoredArtifact:
        found = self.load(connection, [id])
        if id not in found:
            raise TrackingError(
                f"artifact {ref!r}: its row in {self._database.path} was altered; restore the file from a copy, or run "
                "the run that logged it again with force=true, which writes the row anew"
            )
        return found[id]

    def _by_digest(self, connection: Connection, prefix: str) -> StoredArtifact:
        query = "SELECT id, name, version, digest FROM versions WHERE digest GLOB ? ORDER BY name, version"
        rows = connection.execute(query, (prefix.lower() + "*",)).fetchall()
        if not rows:
            raise NotFound(f"no artifact is named {prefix}, and no digest starts so; see `python -m tracking ls`")
        if len(rows) > 1:
            matches = ", ".join(f"{row['name']}:v{row['version']} ({row['digest']})" for row in rows)
            raise TrackingError(f"digest prefix {prefix} fits several versions, name one of them: {matches}")
        return self._load_one(connection, rows[0]["id"], prefix)


# ---- steps of a transaction


def check_type(connection: Connection, draft: ArtifactDraft) -> None:
    """Raises TrackingError where the draft's name belongs to artifacts of another type."""
    row = connection.execute("SELECT type FROM collections WHERE name = ?", (draft.name,)).fetchone()
    if row and row["type"] != draft.type:
        raise TrackingError(
            f"artifact {draft.name} has type {row['type']!r}, and {draft.type!r} was given: a name has one type; "
            "choose another name"
        )


def insert_version(
    connection: Connection,
    draft: ArtifactDraft,
    files: Mapping[str, ArtifactFile],
    metadata: str,
    *,
    wanted: int | None = None,
) -> int:
    """Returns the row id of the version with this content, which is inserted unless it is there.

    A new version gets the number `wanted` where that is free, else the next one. The number of a version that was
    removed is free for the same content alone.
    """
    digest = manifest_digest(files)
    query = "SELECT id FROM versions WHERE name = ? AND digest = ?"
    if row := connection.execute(query, (draft.name, digest)).fetchone():
        _mend_version(connection, row["id"], files, metadata)
        return int(row["id"])
    connection.execute(
        "INSERT INTO collections (name, type) VALUES (?, ?) ON CONFLICT DO NOTHING", (draft.name, draft.type)
    )
    taken = (
        "SELECT version, digest FROM versions WHERE name = ?1 "
        "UNION SELECT version, digest FROM removed_versions WHERE name = ?1"
    )
    query = f"SELECT coalesce(max(version) + 1, 0) FROM ({taken})"
    version = connection.execute(query, (draft.name,)).fetchone()[0]
    if wanted is not None:
        query = f"SELECT 1 FROM ({taken}) WHERE version = ?2 AND digest != ?3"
        version = version if connection.execute(query, (draft.name, wanted, digest)).fetchone() else wanted
        connection.execute("DELETE FROM removed_versions WHERE name = ? AND version = ?", (draft.name, version))
    id = connection.execute(
        "INSERT INTO versions (name, version, digest, metadata, created) VALUES (?, ?, ?, ?, ?)",
        (draft.name, version, digest, metadata, time.time()),
    ).lastrowid
    assert id is not None
    _insert_files(connection, id, files)
    return id


def _mend_version(connection: Connection, id: int, files: Mapping[str, ArtifactFile], metadata: str) -> None:
    """Writes the rows of a version anew where they are damaged; sound ones stay as they are."""
    query = f"SELECT metadata, {checksum_sql('versions')} IS checksum AS is_sound FROM versions WHERE id = ?"
    row = connection.execute(query, (id,)).fetchone()
    try:
        if not row["is_sound"]:
            raise ValueError
        _mapping(decode(row["metadata"]))
    except ValueError:
        values = (metadata, time.time(), id)
        connection.execute("UPDATE versions SET metadata = ?, created = ? WHERE id = ?", values)
    query = f"SELECT count(*), total({checksum_sql('files')} IS checksum) FROM files WHERE artifact = ?"
    if tuple(connection.execute(query, (id,)).fetchone()) != (len(files), len(files)):
        connection.execute("DELETE FROM files WHERE artifact = ?", (id,))
        _insert_files(connection, id, files)


def _insert_files(connection: Connection, id: int, files: Mapping[str, ArtifactFile]) -> None:
    connection.executemany(
        "INSERT INTO files (artifact, name, size, md5) VALUES (?, ?, ?, ?)",
        [(id, name, file.size, file.md5) for name, file in files.items()],
    )


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, found {value!r}")
    return value


def move_aliases(
    connection: Connection, name: str, aliases: Iterable[str], artifact: int, *, again: bool = False
) -> None:
    """Gives aliases of the artifact `name` to the version with this row id; another version that had one loses it.

    What W&B showed of an alias that moves is no longer what counts: it is to be sent; with `again` also of one that
    the version has already, which another machine may have moved at W&B.
    """
    for alias in aliases:
        query = "SELECT artifact FROM aliases WHERE name = ? AND alias = ?"
        row = connection.execute(query, (name, alias)).fetchone()
        if again or row is None or row["artifact"] != artifact:
            connection.execute(
                "UPDATE delivered_artifacts SET aliases = (SELECT json_group_array(value) FROM json_each(aliases) "
                "WHERE value != ?2) WHERE name = ?1 AND EXISTS (SELECT 1 FROM json_each(aliases) WHERE value = ?2)",
                (name, alias),
            )
        connection.execute(
            "INSERT INTO aliases (name, alias, artifact) VALUES (?, ?, ?) "
            "ON CONFLICT (name, alias) DO UPDATE SET artifact = excluded.artifact",
            (name, alias, artifact),
        )


def row_id(connection: Connection, artifact: Artifact) -> int:
    """Returns the row id of a version. Raises NotFound where the store has no version of that name and content."""
    query = "SELECT id FROM versions WHERE name = ? AND digest = ?"
    row = connection.execute(query, (artifact.name, artifact.digest)).fetchone()
    if row is None:
        raise NotFound(f"{artifact.ref} ({artifact.digest}) is not in this store, or was removed from it just now")
    return int(row[0])


def delete_version(connection: Connection, id: int) -> None:
    """Deletes the version with this row id, its files' rows, aliases and edges; no other content gets its number."""
    query = "SELECT name, version, digest FROM versions WHERE id = ?"
    name, version, digest = connection.execute(query, (id,)).fetchone()
    values = (name, version, digest, time.time())
    connection.execute("INSERT OR REPLACE INTO removed_versions VALUES (?, ?, ?, ?)", values)
    for table in ("delivered_artifacts", "delivered_edges"):  # what W&B has of it is no longer this store's
        connection.execute(f"DELETE FROM {table} WHERE name = ? AND digest = ?", (name, digest))
    for table in ("aliases", "edges", "files"):  # edges before their version, which is part of their run's sum
        connection.execute(f"DELETE FROM {table} WHERE artifact = ?", (id,))
    connection.execute("DELETE FROM versions WHERE id = ?", (id,))
    if not connection.execute("SELECT 1 FROM versions WHERE name = ?", (name,)).fetchone():
        connection.execute("DELETE FROM collections WHERE name = ?", (name,))


def add_edge(connection: Connection, kind: str, run_id: str, artifact: int, *, heartbeat: bool = True) -> None:
    """Records once that a run `logged` or `used` the version with this row id, as its sign of life if `heartbeat`."""
    query = "INSERT INTO edges (kind, run, artifact) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    connection.execute(query, (kind, run_id, artifact))
    if heartbeat:
        connection.execute("UPDATE runs SET heartbeat = ? WHERE id = ?", (time.time(), run_id))


# ---- what to say where there is none


def _removed(connection: Connection, name: str) -> str:
    """Returns which versions of a name were removed, as the end of a sentence; "" where none were."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'removed_versions'").fetchone():
        return ""  # a store that is only read, of before there were removals
    query = "SELECT version, removed FROM removed_versions WHERE name = ? ORDER BY version"
    removed = [f"v{version} ({at_time(seconds)})" for version, seconds in connection.execute(query, (name,))]
    return f"; removed were {', '.join(removed)}" if removed else ""


def _unknown_name(connection: Connection, ref: str, name: str) -> NotFound:
    names = [row[0] for row in connection.execute("SELECT name FROM collections")]
    close = get_close_matches(name, names)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return NotFound(
        f"no artifact {ref!r}: {hint}expected name:alias, name:vN, or at least {MIN_PREFIX} hex digits of a digest; "
        f"see `python -m tracking ls`{_removed(connection, name)}"
    )


def _unknown_alias(connection: Connection, ref: str, name: str) -> NotFound:
    aliases = [row[0] for row in connection.execute("SELECT alias FROM aliases WHERE name = ? ORDER BY alias", (name,))]
    query = "SELECT version FROM versions WHERE name = ? ORDER BY version"
    versions = [row[0] for row in connection.execute(query, (name,))]
    is_gapless = len(versions) > 2 and versions == list(range(versions[0], versions[-1] + 1))
    named = f"v{versions[0]} to v{versions[-1]}" if is_gapless else ", ".join(f"v{version}" for version in versions)
    return NotFound(
        f"no artifact {ref!r}: {name} has versions {named} and aliases {', '.join(aliases)}{_removed(connection, name)}"
    )
