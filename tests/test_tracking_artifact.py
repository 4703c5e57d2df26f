"""Reading a version's files: altered bytes, names that would escape, symbolic links in the way."""

import os
import shutil
import sqlite3

import pytest

from tracking.interface import ArtifactDraft, NotFound, TrackingError
from tracking.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    for name, content in (("a", b"first"), ("b", b"second")):
        (tmp_path / name).write_bytes(content)
    draft = ArtifactDraft("m", "model", files={"a": tmp_path / "a", "deep/er/b": tmp_path / "b"})
    with store.start_run("r", job_type="train", config={}) as run:
        run.log_artifact(draft)
    yield store
    store.close()


def blob(store: Store, name: str):
    artifact = store.artifact("m")
    return artifact.blobs.path(artifact.files[name].md5)


def alter(path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def tree(directory) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def rewrite(store: Store, sql: str, *values) -> None:
    with sqlite3.connect(store.root / "store.db") as connection:
        connection.execute(sql, values)
    connection.close()


def test_file_is_a_read_only_path_of_what_was_logged(store, tmp_path):
    (tmp_path / "a").write_bytes(b"changed after it was logged")
    path = store.artifact("m").file("a")
    assert path.read_bytes() == b"first" and path.stat().st_mode & 0o222 == 0
    with pytest.raises(NotFound, match="a, deep/er/b"):
        store.artifact("m").file("c")


def test_an_altered_file_is_never_handed_out(store, tmp_path):
    artifact = store.artifact("m")
    assert artifact.file("a").read_bytes() == b"first"
    alter(blob(store, "a"), b"forst")  # the size is the same
    for ask in (lambda: artifact.file("a"), lambda: artifact.download(tmp_path / "out")):
        with pytest.raises(TrackingError, match=r"m:v0: file 'a' was altered.*force=true"):
            ask()
    assert artifact.file("deep/er/b").read_bytes() == b"second"
    blob(store, "a").unlink()
    for ask in (lambda: artifact.file("a"), lambda: artifact.download(tmp_path / "out")):
        with pytest.raises(TrackingError, match=r"m:v0: file 'a' cannot be read"):
            ask()
    assert not (tmp_path / "out").exists()


def test_logging_the_same_content_again_mends_it(store, tmp_path):
    alter(blob(store, "a"), b"forst")
    draft = ArtifactDraft("m", "model", files={"a": tmp_path / "a", "deep/er/b": tmp_path / "b"})
    with store.start_run("r2", job_type="train", config={}) as run:
        assert run.log_artifact(draft).ref == "m:v0"
    assert store.artifact("m").file("a").read_bytes() == b"first"


def test_download(store, tmp_path):
    out = tmp_path / "some/where"
    assert store.artifact("m").download(out) == out
    assert tree(out) == {"a": b"first", "deep/er/b": b"second"}
    assert os.access(out / "a", os.W_OK)
    (out / "a").write_bytes(b"altered here")
    (out / "mine").write_bytes(b"mine")
    kept = (out / "deep/er/b").stat()
    store.artifact("m").download(str(out))
    assert tree(out) == {"a": b"first", "deep/er/b": b"second", "mine": b"mine"}
    after = (out / "deep/er/b").stat()
    assert (after.st_ino, after.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)  # an equal file is left alone


def test_a_download_that_fails_leaves_the_directory_as_it_was(store, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(b"old")
    alter(blob(store, "deep/er/b"), b"sec")
    with pytest.raises(TrackingError, match="deep/er/b"):
        store.artifact("m").download(out)
    assert tree(out) == {"a": b"old"} and [path.name for path in out.iterdir()] == ["a"]
    shutil.rmtree(out)
    with pytest.raises(TrackingError, match="deep/er/b"):
        store.artifact("m").download(out / "x/y")
    assert not out.exists()


def test_download_follows_no_symbolic_link_to_the_outside(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_bytes(b"precious")
    for link, target in (("deep", outside), ("deep", "../outside"), ("deep", "../not/there"), ("deep", "deep")):
        out = tmp_path / "out"
        out.mkdir()
        (out / link).symlink_to(target)
        with pytest.raises(TrackingError):
            store.artifact("m").download(out)
        assert not (out / "a").exists()
        shutil.rmtree(out)
    # A link in the place of a file is replaced, not written through; one that stays inside is followed.
    (tmp_path / "out/inside/er").mkdir(parents=True)
    (tmp_path / "out/deep").symlink_to("inside")
    (tmp_path / "out/a").symlink_to(outside / "b")
    store.artifact("m").download(tmp_path / "out")
    assert not (tmp_path / "out/a").is_symlink() and (tmp_path / "out/a").read_bytes() == b"first"
    assert (tmp_path / "out/inside/er/b").read_bytes() == b"second"
    assert tree(outside) == {"b": b"precious"} and not (tmp_path / "not").exists()


def test_download_refuses_a_directory_in_the_place_of_a_file(store, tmp_path):
    (tmp_path / "out/a").mkdir(parents=True)
    with pytest.raises(TrackingError, match="is a directory"):
        store.artifact("m").download(tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrackingError, match="could not be copied"):
        store.artifact("m").download(tmp_path / "file")
    (tmp_path / "out2").mkdir()
    (tmp_path / "out2/deep").write_text("x")
    with pytest.raises(TrackingError):
        store.artifact("m").download(tmp_path / "out2")
    assert tree(tmp_path / "out2") == {"deep": b"x"}


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "x/../../escaped"])
def test_a_tampered_name_does_not_escape(store, tmp_path, name):
    rewrite(store, "UPDATE files SET name = ? WHERE name = 'a'", name)
    out = tmp_path / "out/in"
    with pytest.raises(TrackingError, match="file name"):
        store.artifact("m").download(out)
    with pytest.raises(TrackingError, match="file name"):
        store.artifact("m").file(name)
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE files SET name = 'c' WHERE name = 'a'",
        "UPDATE files SET md5 = (SELECT md5 FROM files WHERE name = 'deep/er/b')",
        "UPDATE files SET md5 = '../../../../etc/passwd' WHERE name = 'a'",
        "DELETE FROM files WHERE name = 'a'",
        "UPDATE versions SET digest = 'x'",
    ],
)
def test_a_tampered_file_list_is_noticed(store, tmp_path, sql):
    rewrite(store, sql)
    for ask in (lambda a: a.download(tmp_path / "out"), lambda a: a.file("deep/er/b")):
        with pytest.raises(TrackingError, match="altered"):
            ask(store.artifact("m"))
    assert not (tmp_path / "out").exists()
