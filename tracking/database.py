"""Creates, opens, locks and writes the store's SQLite file. No other module imports sqlite3.

Several processes share the file. Each write is one transaction that takes the write lock at its start and waits its
turn for up to a minute, so that none is lost and none is half done. The journal is a write-ahead log; on a network
file system, where a write-ahead log cannot be shared between hosts, it is SQLite's rollback journal.
"""

import json
import math
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.interface import TrackingError

Connection = sqlite3.Connection
Row = sqlite3.Row

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x45444757  # "EDGW" in the file's header: this database is an Edgewise store
LOCK_TIMEOUT = 60.0  # seconds

_SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, job_type TEXT NOT NULL, name TEXT NOT NULL, group_name TEXT, state TEXT NOT NULL,
    config TEXT NOT NULL, summary TEXT NOT NULL, tags TEXT NOT NULL, code_version TEXT NOT NULL,
    started REAL NOT NULL, ended REAL, heartbeat REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, error TEXT
);
CREATE TABLE history (
    run TEXT NOT NULL REFERENCES runs(id), step INTEGER NOT NULL, point TEXT NOT NULL, PRIMARY KEY (run, step)
) WITHOUT ROWID;
CREATE TABLE collections (name TEXT PRIMARY KEY, type TEXT NOT NULL);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL REFERENCES collections(name), version INTEGER NOT NULL,
    digest TEXT NOT NULL, metadata TEXT NOT NULL, created REAL NOT NULL, UNIQUE (name, version), UNIQUE (name, digest)
);
CREATE INDEX versions_by_digest ON versions(digest);
CREATE TABLE files (
    artifact INTEGER NOT NULL REFERENCES versions(id), name TEXT NOT NULL, size INTEGER NOT NULL, md5 TEXT NOT NULL,
    PRIMARY KEY (artifact, name)
) WITHOUT ROWID;
CREATE INDEX files_by_md5 ON files(md5);
CREATE TABLE aliases (
    name TEXT NOT NULL, alias TEXT NOT NULL, artifact INTEGER NOT NULL REFERENCES versions(id),
    PRIMARY KEY (name, alias)
) WITHOUT ROWID;
CREATE TABLE edges (
    kind TEXT NOT NULL CHECK (kind IN ('logged', 'used')), run TEXT NOT NULL REFERENCES runs(id),
    artifact INTEGER NOT NULL REFERENCES versions(id), UNIQUE (kind, run, artifact)
);
CREATE INDEX edges_by_artifact ON edges(artifact, kind);
"""

# Came later, and only add: a checkout that does not know these tables reads and writes the rest as before.
_ADDITIONS = """
CREATE TABLE IF NOT EXISTS media (
    run TEXT NOT NULL REFERENCES runs(id), key TEXT NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL,
    size INTEGER, md5 TEXT, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivered_runs (
    place TEXT NOT NULL, run TEXT NOT NULL, remote TEXT NOT NULL, stale INTEGER NOT NULL, stamp TEXT,
    PRIMARY KEY (place, run)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivered_artifacts (
    place TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, version INTEGER NOT NULL, aliases TEXT NOT NULL,
    PRIMARY KEY (place, name, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivered_edges (
    place TEXT NOT NULL, kind TEXT NOT NULL, run TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (place, kind, run, name, digest)
) WITHOUT ROWID
"""
_LAST_ADDITION = "delivered_edges"


class Database:
    """Gives one process access to the file at `path`; threads share it, and a forked child gets its own connection.

    Raises TrackingError when the file is missing (and `create` is false), is not a store, was written by a newer
    version of this program, or cannot be written (and `create` is true).
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._create = create
        self._lock = threading.RLock()
        self._abandoned: list[Connection] = []
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._durable: bool | None = None
        with self._explained():
            self._connection = self._connect()
            try:
                self._check_or_initialize()
            except BaseException:
                self._connection.close()
                raise

    def _connect(self) -> Connection:
        if self._create or os.access(self.path.parent, os.W_OK):
            options = "mode=rwc" if self._create else "mode=rw"
        else:  # an archived, read-only store: without a log to read there is nothing to lock
            log = self.path.with_name(self.path.name + "-wal")
            options = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?{options}",
            uri=True,
            timeout=LOCK_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = Row
        return connection

    def _check_or_initialize(self) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        blank = self._is_blank()
        if not blank:
            self._check_identity()  # first of all: nothing is changed in a database that is not ours
        elif not self._create:
            raise TrackingError(f"{self.path} is empty: no store was made there yet")
        if self._create:
            self._set_journal("DELETE" if on_network_file_system(self.path) else "WAL")
        if blank:
            with self.write() as connection:
                if self._is_blank():  # else another process made the tables while this one waited for the lock
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._check_identity()
        if self._create:
            self.add_tables()

    def add_tables(self) -> None:
        """Makes the tables that came after schema version 1, where they are not there yet."""
        if not self.has(_LAST_ADDITION):
            with self.write() as connection:
                for statement in _ADDITIONS.split(";"):
                    connection.execute(statement)

    def has(self, table: str) -> bool:
        """Returns whether there is a table of that name: in an older store, one that came later may be missing."""
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return self._connection.execute(query, (table,)).fetchone() is not None

    def _check_identity(self) -> None:
        elsewhere = "keep runs in another directory (tracking.root=DIR; python -m tracking --root DIR)"
        if self.pragma("application_id") != _APPLICATION_ID:
            raise TrackingError(f"{self.path} is a database, but not an Edgewise store: move it away, or {elsewhere}")
        version = self.pragma("user_version")
        if version != SCHEMA_VERSION:
            raise TrackingError(
                f"{self.path} has schema version {version}, and this checkout knows version {SCHEMA_VERSION}: update "
                f"the checkout, or {elsewhere}"
            )

    def pragma(self, name: str) -> Any:
        """Returns the value of one of SQLite's settings, such as `journal_mode`."""
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _is_blank(self) -> bool:
        # Another process may make the tables between two of these queries; the answer is no then, and rightly so.
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return (self.pragma("user_version"), self.pragma("application_id"), tables) == (0, 0, 0)

    def _set_journal(self, mode: str) -> None:
        # SQLite does not wait for its lock when the journal mode changes, as it does everywhere else.
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                if self.pragma("journal_mode").upper() != mode:
                    self._connection.execute(f"PRAGMA journal_mode = {mode}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns SQLite's errors into messages for the person at the terminal."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                advice = (
                    f"another process held its lock for {LOCK_TIMEOUT:.0f} s; find it (fuser {self.path}) and stop it"
                )
            elif "not a database" in text:
                advice = "the file is no Edgewise store: move it away, or keep runs elsewhere (tracking.root=DIR)"
            elif "full" in text:
                advice = "free some disk space and run the same command again"
            elif "readonly" in text or "unable to open" in text:
                advice = "its directory must be writable; or keep runs elsewhere (tracking.root=DIR)"
            elif "malformed" in text:
                advice = "the file is damaged: restore it from a copy (the files under blobs/ are still whole)"
            else:
                advice = "check the disk and the file's permissions"
            raise TrackingError(f"{self.path}: {text}: {advice}") from error

    def _current(self) -> Connection:
        if self._pid != os.getpid():
            # Forked: using the parent's connection, or closing it, would break the parent's locks. It is only kept.
            self._abandoned.append(self._connection)
            self._lock = threading.RLock()
            self._open()
        return self._connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yields a connection that shows one snapshot of the store to all queries of the block."""
        connection = self._current()
        with self._lock, self._explained():
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Yields a connection in a transaction under the write lock: kept whole, or not at all if the block raises.

        A durable transaction is on the disk when the block has ended. One that is not survives the death of the
        process, but the last ones may be lost when the machine loses power.
        """
        connection = self._current()
        with self._lock, self._explained():
            if durable is not self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def damage(self) -> list[str]:
        """Returns what SQLite's own check finds wrong with the file; empty if nothing."""
        try:
            with self.read() as connection:
                found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
        except TrackingError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Closes this process's connection."""
        with self._lock:
            if self._pid == os.getpid():
                self._connection.close()


# ---- values as the text of a column


def encode(value: Any, what: str) -> str:
    """Returns the JSON text of a value; NaN and infinities are tagged, numpy scalars and paths become plain values.

    Mapping keys become strings, as in JSON. Raises TrackingError naming `what` for a value that JSON cannot hold.
    """
    try:
        try:
            return json.dumps(value, allow_nan=False, default=_plain_value)
        except ValueError:
            return json.dumps(_tagged(value), allow_nan=False, default=_plain_value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TrackingError(
            f"{what} cannot be written as JSON ({error}): expected numbers, strings, lists and mappings"
        ) from error


def decode(text: str) -> Any:
    """Returns the value that `encode` wrote."""
    return json.loads(text, object_hook=_untagged) if '"$float"' in text else json.loads(text)


def _plain_value(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and JAX scalars and arrays
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _tagged(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tagged(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _tagged(_plain_value(value))


def _untagged(value: dict[str, Any]) -> Any:
    return float(value["$float"]) if value.keys() == {"$float"} else value


# ---- file systems on which a write-ahead log works

_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.sshfs", "fuse.glusterfs", "pvfs")


def on_network_file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Returns whether `path` lies on a file system that hosts share, by Linux's mount table; False without one."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])  # a space is \040
        if path.is_relative_to(point) and len(point) >= best:  # of mounts at one point, the last is the visible one
            best, kind = len(point), right.split()[0]
    return kind.startswith(_NETWORK)
