"""The SQLite file: values in and out, transactions, who may write."""

import json
import math
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import database
from tracking.database import Database, on_network_file_system
from tracking.interface import TrackingError
from tracking.json_text import decode, encode
from tracking.store import Store

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def same(a, b) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b) or math.isnan(a) and math.isnan(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


@given(VALUES)
def test_values_come_back_as_they_went_in_and_are_strict_json(value):
    text = encode(value, "x")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert same(decode(text), value)


def test_what_json_cannot_hold_is_named():
    circle: list = []
    circle.append(circle)
    for value in (object(), {1, 2}, b"x", {(1, 2): 3}, circle, [math.nan, object()]):
        with pytest.raises(TrackingError, match="the config cannot be written as JSON"):
            encode(value, "the config")


def test_a_transaction_that_raises_leaves_nothing(tmp_path):
    base = Database(tmp_path / "store.db", create=True)

    def interrupted():
        with base.write() as connection:
            connection.execute("INSERT INTO collections (name, type) VALUES ('a', 'b')")
            raise KeyboardInterrupt

    def refused():
        with base.write() as connection:
            connection.execute("INSERT INTO collections (name, type) VALUES ('c', 'd')")
            connection.execute("INSERT INTO aliases (name, alias, artifact) VALUES ('a', 'b', 17)")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(TrackingError, match="FOREIGN KEY"):
        refused()
    with base.read() as connection:
        assert connection.execute("SELECT * FROM collections").fetchall() == []
    base.close()


def test_the_journal_is_wal_and_artifacts_are_durable(tmp_path):
    base = Database(tmp_path / "store.db", create=True)
    assert base.pragma("journal_mode") == "wal"
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with base.write(durable=durable) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone()[0] == level
    base.close()


def test_a_lock_that_is_never_released_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "LOCK_TIMEOUT", 0.05)
    base = Database(tmp_path / "store.db", create=True)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TrackingError, match="locked.*stop it"), base.write():
        pytest.fail("the lock was another's")
    with base.read() as connection:  # a reader waits for no writer
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 0
    other.execute("ROLLBACK")
    with base.write():
        pass
    other.close()
    base.close()


def test_a_damaged_file_is_reported_not_crashed_on(tmp_path):
    base = Database(tmp_path / "store.db", create=True)
    with base.write() as connection:
        connection.executemany(
            "INSERT INTO collections (name, type) VALUES (?, 'x')", [(f"n{i:060}",) for i in range(2000)]
        )
    assert base.damage() == []
    base.close()
    with open(tmp_path / "store.db", "r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * 8 * 4096)
    damaged = Database(tmp_path / "store.db", create=False)
    assert damaged.damage()
    damaged.close()


def as_nobody(action) -> int:
    """Runs `action` in a forked child without root's rights; its exit status, 0 if it raised nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_read_only_directory_takes_no_runs_but_shows_those_it_has():
    with tempfile.TemporaryDirectory() as directory:  # not tmp_path: root's is closed to others
        root = Path(directory, "runs")
        store = Store(root)
        with store.start_run("r", job_type="train", config={}) as run:
            run.log({"loss": 1.0}, 1)
        store.close()
        empty = Path(directory, "empty")
        empty.mkdir()
        for path, mode in ((Path(directory), 0o755), (root, 0o555), (root / "store.db", 0o444), (empty, 0o555)):
            path.chmod(mode)

        def look() -> None:
            for path in (root, empty):
                with pytest.raises(TrackingError, match="cannot keep runs in .*not writable"):
                    Store(path)
            reader = Store(root, create=False)
            assert reader.history("r") == [{"step": 1, "loss": 1.0}]
            with pytest.raises(TrackingError, match="readonly.*must be writable"):
                reader.start_run("s", job_type="train", config={})

        before = sorted(root.iterdir())
        try:
            assert as_nobody(look) == 0
            assert sorted(root.iterdir()) == before and not list(empty.iterdir())
        finally:
            root.chmod(0o755)
            empty.chmod(0o755)


def test_network_file_systems_are_told_by_the_mount_table(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /home rw - nfs4 server:/home rw\n"
        "31 30 8:2 / /home/local\\040disk rw shared:2 master:1 - xfs /dev/sdb1 rw\n"
        "32 22 0:41 / /scratch rw - ext4 /dev/sdc rw\n"
        "33 32 0:42 / /scratch rw - lustre x@tcp:/x rw\n"
    )
    answers = {
        "/home/me/runs": True,
        "/homer/runs": False,
        "/home/local disk/runs": False,
        "/scratch/runs": True,
        "/srv": False,
    }
    assert {path: on_network_file_system(Path(path), table) for path in answers} == answers
    assert not on_network_file_system(Path("/home"), tmp_path / "no table")


def test_a_link_to_a_network_file_system_is_one(tmp_path):
    shared, link = tmp_path / "shared", tmp_path / "home/runs"
    for folder in (shared, link.parent):
        folder.mkdir()
    link.symlink_to("../shared/runs")  # which is not there yet
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / {shared.resolve()} rw - nfs4 server:/x rw\n")
    assert on_network_file_system(link / "store.db", table)
    assert not on_network_file_system(link.parent / "store.db", table)
    (tmp_path / "loop").symlink_to("loop")
    assert not on_network_file_system(tmp_path / "loop", table)


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        *(
            (kind, True)
            for kind in ("nfs", "smb3", "ceph", "lustre", "beegfs", "gpfs", "afs", "pvfs2", "9p", "virtiofs")
        ),
        *((f"fuse.{kind}", True) for kind in ("ceph-fuse", "sshfs", "glusterfs", "s3fs", "juicefs", "rclone")),
        ("fuse", True),  # a program that doesn't say which
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk")),
        *((f"fuse.{kind}", False) for kind in ("fuse-overlayfs", "mergerfs", "gocryptfs")),
    ],
)
def test_which_types_of_file_systems_hosts_share(tmp_path, kind, shared):
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - {kind} somewhere rw\n")
    assert on_network_file_system(Path("/runs/store.db"), table) is shared


def test_on_a_network_file_system_there_is_no_write_ahead_log(tmp_path, monkeypatch):
    Store(tmp_path).close()
    monkeypatch.setattr(database, "on_network_file_system", lambda path: True)
    store = Store(tmp_path)  # a store that was made on a local disk and then moved
    assert store.database.pragma("journal_mode") == "delete"
    with store.start_run("r", job_type="train", config={}) as run:
        run.log({"loss": 1.0}, 1)
    assert not (tmp_path / "store.db-wal").exists() and store.run("r").state == "finished"
    store.close()
