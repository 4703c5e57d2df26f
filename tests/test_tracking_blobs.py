"""Files by their content, and the temporary ones on the way there."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracking.blobs import Blobs
from tracking.digest import hash_file, manifest_digest, md5_hex
from tracking.interface import ArtifactFile, TrackingError


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path)


def test_put_copies_hashes_and_names_by_content(blobs, tmp_path):
    content = os.urandom(3 * 2**20 + 17)  # not a multiple of the buffer
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "empty").touch()
    files = blobs.put({name: tmp_path / name for name in ("x", "link", "empty")})
    assert files["x"] == files["link"] == hash_file(tmp_path / "x")
    path = blobs.path(files["x"].md5)
    assert path.name == md5_hex(files["x"].md5) == hashlib.md5(content).hexdigest()
    assert path.read_bytes() == content and not path.is_symlink() and blobs.holds(files["x"])
    assert files["empty"].size == 0 and blobs.holds(files["empty"])
    assert len(list(blobs.all())) == 2 and not list(blobs.scratch.iterdir())


def test_holds_asks_for_the_size_too(blobs, tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    file = blobs.put({"x": tmp_path / "x"})["x"]
    assert not blobs.holds(ArtifactFile(4, file.md5))
    blobs.path(file.md5).unlink()
    assert not blobs.holds(file)


@pytest.mark.parametrize("md5", ["", "../../x", "YWJj", "é", "A" * 24, "1B2M2Y8AsgTpgAmY7PhCfg"])
def test_a_path_is_only_made_from_an_md5(blobs, md5):
    with pytest.raises(TrackingError, match="no base64 MD5"):
        blobs.path(md5)


def test_manifest_digest_is_by_name_not_by_order():
    a, b = ArtifactFile(1, "x"), ArtifactFile(2, "y")
    assert manifest_digest({"b": b, "a": a}) == manifest_digest({"a": a, "b": b}) != manifest_digest({"a": b, "b": a})


def test_a_full_disk_leaves_nothing(blobs, tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrackingError, match="No space left"):
        blobs.put({"x": tmp_path / "x"})
    assert not list(blobs.all()) and not list(blobs.scratch.iterdir())


HOLD = """
import sys, time
from pathlib import Path
from tracking.blobs import Blobs
with Blobs(Path(sys.argv[1])).temporary_file() as (path, file):
    file.write(b"x" * 1000); file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_temporary_file_is_collected_when_and_only_when_its_writer_is_dead(blobs):
    blobs.scratch.mkdir()
    checkout = Path(__file__).resolve().parent.parent
    child = subprocess.Popen([sys.executable, "-c", HOLD, blobs.scratch.parent], cwd=checkout, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"writing\n"
        (path,) = blobs.scratch.iterdir()
        os.utime(path, (0, 0))  # however old
        assert blobs.collect_strays(0.0) == [] and path.exists()
    finally:
        child.kill()
        child.communicate()
    assert blobs.collect_strays(3600.0) == [1000] and not path.exists()


def test_where_files_cannot_be_locked_age_tells(blobs, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    blobs.scratch.mkdir()
    young, old = blobs.scratch / "young", blobs.scratch / "old"
    for path in (young, old):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert blobs.collect_strays(3600.0) == [1] and young.exists() and not old.exists()
    with blobs.temporary_file() as (path, _):
        assert path.exists()


def test_a_writer_whose_new_file_was_collected_before_it_was_locked_takes_another(blobs, monkeypatch):
    blobs.scratch.mkdir()
    lock, collected = fcntl.flock, []

    def slow(file, how):
        if not collected:
            collected.append(Path(file.name))
            Path(file.name).unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with blobs.temporary_file() as (path, file):
        file.write(b"x")
        assert path.exists() and path != collected[0]
    assert not path.exists()
