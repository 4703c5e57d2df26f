"""`verify` names what is wrong; `collect` takes only what nobody names."""

import os
import sqlite3
import time

import pytest

from tracking.interface import ArtifactDraft
from tracking.store import Store
from tracking.upkeep import collect, verify


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    with store.start_run("r", job_type="train", config={}) as run:
        for name, contents in (("one", {"a": "shared", "b": "1"}), ("two", {"a": "shared", "c": "2"})):
            draft = ArtifactDraft(name, "model")
            for file, content in contents.items():
                source = tmp_path / f"{name}-{file}"
                source.write_text(content)
                draft.add_file(source, file)
            run.log_artifact(draft)
    yield store
    store.close()


def blob(store: Store, name: str, file: str):
    artifact = store.artifact(name)
    return artifact.blobs.path(artifact.files[file].md5)


def rewrite(store: Store, sql: str) -> None:
    with sqlite3.connect(store.root / "store.db") as connection:
        connection.execute(sql)
    connection.close()


def found(store: Store) -> list[tuple[str | None, str | None, str]]:
    return [(p.artifact, p.file, p.problem.split(":")[0].split()[0]) for p in verify(store).problems]


def test_a_whole_store_verifies_and_reads_a_shared_blob_once(store):
    progress = []
    result = verify(store, lambda done, total: progress.append((done, total)))
    assert (result.artifacts, result.files, result.bytes, result.problems) == (2, 4, 8, [])
    assert progress == [(6, 8), (7, 8), (8, 8)]


def test_altered_missing_and_unreadable_blobs_are_named_with_every_version(store):
    blob(store, "one", "a").chmod(0o644)
    blob(store, "one", "a").write_text("sharef")
    blob(store, "one", "b").unlink()
    blob(store, "two", "c").unlink()
    blob(store, "two", "c").mkdir()
    assert found(store) == [
        ("one:v0", "a", "altered"),
        ("one:v0", "b", "missing"),
        ("two:v0", "a", "altered"),
        ("two:v0", "c", "unreadable"),
    ]


def test_verify_does_not_believe_what_was_read_before(store):
    artifact, path = store.artifact("one"), blob(store, "one", "b")
    artifact.file("b")
    before = path.stat()
    path.chmod(0o644)
    path.write_text("x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a failing disk does it
    assert found(store) == [("one:v0", "b", "altered")]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE versions SET digest = '00' WHERE name = 'one'",
        "UPDATE files SET name = 'x' WHERE name = 'b'",
        "UPDATE files SET name = '../x' WHERE name = 'b'",
        "DELETE FROM files WHERE name = 'b'",
    ],
)
def test_a_tampered_record_is_named(store, sql):
    rewrite(store, sql)
    assert [(artifact, file) for artifact, file, _ in found(store)] == [("one:v0", None)]


def test_a_tampered_md5_or_size_is_named(store):
    rewrite(store, "UPDATE files SET size = 17 WHERE name = 'b'")
    rewrite(store, "UPDATE files SET md5 = 'x' WHERE name = 'c'")
    problems = verify(store).problems
    assert [(p.artifact, p.file) for p in problems] == [("one:v0", "b"), ("two:v0", None), ("two:v0", "c")]
    assert "17" in problems[0].problem and "store.db was altered" in problems[1].problem
    assert str(problems[0]).startswith("one:v0: b: altered: ")


def test_a_damaged_database_is_reported(store):
    store.close()
    with open(store.root / "store.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 12)
    damaged = Store(store.root, create=False)
    problems = verify(damaged).problems
    assert problems and all(problem.problem.startswith("store.db") for problem in problems)
    damaged.close()


def test_collect_takes_old_unnamed_blobs_alone(store):
    store.blobs.put({"x": store.root.parent / "one-a"})  # named by both versions
    (store.root.parent / "lost").write_text("lost")
    lost = store.blobs.path(store.blobs.put({"x": store.root.parent / "lost"})["x"].md5)
    (store.root / "blobs/notes.txt").write_text("someone's")
    result = collect(store)
    assert (result.temporary, result.blobs, result.bytes) == (0, 0, 0) and lost.exists()
    hours_ago = time.time() - 2 * 3600
    for path in store.blobs.all():
        os.utime(path, (hours_ago, hours_ago))
    result = collect(store)
    assert (result.temporary, result.blobs, result.bytes) == (0, 1, 4) and not lost.exists()
    assert (store.root / "blobs/notes.txt").exists() and not verify(store).problems
    assert collect(store).blobs == 0
