"""Creates, opens, locks and writes the store's SQLite file. No other module imports sqlite3.

Several processes share the file. Each write is one transaction that takes the write lock at its start and waits its
turn for up to a minute, so that none is lost and none is half done. The journal is a write-ahead log; on a network
file system, where a write-ahead log cannot be shared between hosts, it is SQLite's rollback journal.
"""

import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tracking.interface import TrackingError
from tracking.row_checksums import GUARDED, checksum_sql, edge_checksum_sql, row_checksum, toggle_checksum, triggers

Connection = sqlite3.Connection
Row = sqlite3.Row

SCHEMA_VERSION = 2  # 1 had no checksums
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

# Tables that came later: a store that lacks them gets them with the first write.
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
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY, entity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removed_versions (
    name TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, removed REAL NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID
"""
_ADDED = re.findall(r"EXISTS (\w+)", _ADDITIONS)


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
        self._reported: set[str] = set()
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self.is_open = True
        self._durable: bool | None = None
        self._is_ready = False  # for writing: upgraded, and with the triggers of this connection
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
        if self._create and not self.path.exists():  # for its owner alone: configs may hold what was typed by mistake
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?{options}",
            uri=True,
            timeout=LOCK_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = Row
        # Damaged text may be no UTF-8; its row is recognised by the checksum.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
        connection.create_function("toggle_checksum", 2, toggle_checksum, deterministic=True)
        return connection

    def _check_or_initialize(self) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA temp_store = MEMORY")  # the triggers are no reason for a file
        blank = self._is_blank()
        if not blank:
            self._check_identity()  # first of all: nothing is changed in a database that is not ours
        elif not self._create:
            raise TrackingError(f"{self.path} is empty: no store was made there yet")
        if self._create:
            self._set_journal("DELETE" if on_network_file_system(self.path) else "WAL")
        if blank:
            with self._transaction() as connection:
                if self._is_blank():  # else another process made the tables while this one waited for the lock
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute("PRAGMA user_version = 1")
            self._check_identity()
        if self._create:
            self._prepare_to_write()

    def upgrade(self) -> None:
        """Brings a store of an older schema to this one: tables that came later, and a checksum in each row."""
        is_current = self.pragma("user_version") == SCHEMA_VERSION and "process" in self._columns("runs")
        if is_current and all(map(self.has, _ADDED)):
            return
        with self._transaction() as connection:
            for statement in _ADDITIONS.split(";"):
                connection.execute(statement)
            for table in GUARDED:
                if "checksum" not in self._columns(table):
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT")
                    connection.execute(f"UPDATE {table} SET checksum = {checksum_sql(table)}")
            if "edges" not in self._columns("runs"):
                connection.execute("ALTER TABLE runs ADD COLUMN edges TEXT NOT NULL DEFAULT ''")
                for run, edges in self._edge_sums(connection).items():
                    connection.execute("UPDATE runs SET edges = ? WHERE id = ?", (edges, run))
            if "process" not in self._columns("runs"):  # not guarded, as the heartbeat: it decides nothing in the end
                connection.execute("ALTER TABLE runs ADD COLUMN process TEXT")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            with suppress(OSError):  # another's file
                self.path.chmod(0o600)

    def _columns(self, table: str) -> set[str]:
        return {row["name"] for row in self._connection.execute(f"PRAGMA table_info({table})")}

    def _edge_sums(self, connection: Connection) -> dict[str, str]:
        sums: dict[str, str] = {}
        for run, checksum in connection.execute(f"SELECT e.run, {edge_checksum_sql('e')} FROM edges e"):
            sums[run] = toggle_checksum(sums.get(run, ""), checksum)
        return sums

    def _prepare_to_write(self) -> None:
        if not self._is_ready:
            self.upgrade()
            for statement in triggers():
                self._connection.execute(statement)
            self._is_ready = True

    def has(self, table: str) -> bool:
        """Returns whether there is a table of that name: in an older store, one that came later may be missing."""
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return self._connection.execute(query, (table,)).fetchone() is not None

    def _check_identity(self) -> None:
        elsewhere = "keep runs in another directory (tracking.root=DIR; python -m tracking --root DIR)"
        if self.pragma("application_id") != _APPLICATION_ID:
            raise TrackingError(f"{self.path} is a database, but not an Edgewise store: move it away, or {elsewhere}")
        version = self.pragma("user_version")
        if not 1 <= version <= SCHEMA_VERSION:
            raise TrackingError(
                f"{self.path} has schema version {version}, and this checkout knows up to {SCHEMA_VERSION}: update "
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
    def write(self, *, durable: bool = True, patience: float | None = None) -> Iterator[Connection]:
        """Yields a connection in a transaction under the write lock: kept whole, or not at all if the block raises.

        A durable transaction is on the disk when the block has ended. One that is not survives the death of the
        process, but the last ones may be lost when the machine loses power. With `patience` it waits so many seconds
        for the other threads of this process, and then for other processes, and raises TrackingError.
        """
        connection = self._current()
        lock = self._lock
        if not lock.acquire(timeout=-1 if patience is None else patience):
            raise TrackingError(f"{self.path}: another thread of this process has been using it for {patience} s")
        try:
            with self._explained():
                self._prepare_to_write()
                with self._transaction(durable=durable, patience=patience):
                    yield connection
        finally:
            lock.release()

    @contextmanager
    def _transaction(self, *, durable: bool = True, patience: float | None = None) -> Iterator[Connection]:
        connection = self._connection
        with self._lock:
            if durable is not self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            if patience is not None:
                connection.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
            try:
                connection.execute("BEGIN IMMEDIATE")
            finally:
                if patience is not None:
                    connection.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT * 1000:.0f}")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def is_sound(self, table: str, prefix: str = "") -> str:
        """Returns the SQL expression that says whether a row is as it was written; in an older store all count so."""
        if not self._is_ready and "checksum" not in self._columns(table):
            return "1"
        return f"({prefix}checksum IS {checksum_sql(table, prefix)})"

    def report_damage(self, what: str) -> None:
        """Prints once, to standard error, that a row is damaged and left out."""
        if what not in self._reported:
            self._reported.add(what)
            advice = (
                "it is left out. `python -m tracking verify` lists all damage; a copy of the file may have it whole"
            )
            print(f"warning: {self.path}: {what}: {advice}", file=sys.stderr)

    def damage(self) -> list[str]:
        """Returns what SQLite's own checks find wrong with the file; empty if nothing."""
        try:
            with self.read() as connection:
                found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
                found = [] if found == ["ok"] else found
                for row in connection.execute("PRAGMA foreign_key_check"):
                    found.append(f"{row['table']}: a row refers to a row of {row['parent']} that is gone")
        except TrackingError as error:
            return [str(error)]
        return found

    def damaged_rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns the table and the key of each row that is not as it was written. Raises TrackingError."""
        found = []
        with self.read() as connection:
            for table, (_, key) in GUARDED.items():
                if self.has(table):
                    query = f"SELECT {', '.join(key)} FROM {table} WHERE NOT {self.is_sound(table)}"
                    found += [(table, dict(row)) for row in connection.execute(query)]
        return found

    def runs_with_other_edges(self) -> list[str]:
        """Returns the ids of the runs whose edges are not those that were recorded. Raises TrackingError."""
        with self.read() as connection:
            if "edges" not in self._columns("runs"):
                return []
            sums = self._edge_sums(connection)
            rows = connection.execute("SELECT id, edges FROM runs").fetchall()
        return [run for run, edges in rows if (edges or "0").strip("0") != sums.get(run, "0").strip("0")]

    def close(self) -> None:
        """Closes this process's connection."""
        with self._lock:
            if self._pid == os.getpid():
                self.is_open = False
                self._connection.close()


# ---- file systems on which a write-ahead log works

# How the types of file systems begin that hosts share, or a virtual machine and its host.
_NETWORK = (
    *("nfs", "cifs", "smb", "ceph", "afs", "auristorfs", "coda", "9p", "virtiofs", "vboxsf", "prl_fs"),
    *("lustre", "gpfs", "mmfs", "beegfs", "fhgfs", "pvfs", "orangefs", "panfs", "wekafs", "dvs", "ocfs2", "gfs2"),
)
# What a program mounts by FUSE may be shared (sshfs, glusterfs, ceph-fuse, s3fs, rclone, …), but not by these, which
# show a disk or a folder of this machine. A disk that is mounted by FUSE has the type `fuseblk`.
_LOCAL_FUSE = ("fuse-overlayfs", "mergerfs", "bindfs", "unionfs", "gocryptfs", "encfs", "cryfs", "fuse2fs", "fuse-ext2")


def on_network_file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Returns whether `path` lies on a file system that hosts share, by Linux's mount table; False without one.

    Where `path` goes through symbolic links, what they lead to counts.
    """
    try:
        lines = mounts.read_text().splitlines()
        path = path.resolve()
    except (OSError, RuntimeError):  # a loop of links (RuntimeError before Python 3.13)
        return False
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])  # a space is \040
        if path.is_relative_to(point) and len(point) >= best:  # of mounts at one point, the last is the visible one
            best, kind = len(point), right.split()[0]
    if kind == "fuse" or kind.startswith("fuse."):
        return kind.removeprefix("fuse.") not in _LOCAL_FUSE
    return kind.startswith(_NETWORK)
