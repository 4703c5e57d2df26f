"""Temporary files: beside the store, gone in the end, and after a kill collected by the next run and by gc."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import REPO
from tests.wandb_server import ENTITY
from tests.wandb_server.http import wait_until
from tracking.__main__ import main
from tracking.blobs import Blobs
from tracking.interface import ArtifactDraft, TrackingError
from tracking.staging import StagingDirectory, collect_directory
from tracking.store import Store
from tracking.upkeep import collect

HOLD = """
import sys
from tracking.store import Store
store = Store(sys.argv[1])
with store.temporary_directory() as folder:
    (folder / "large").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.readline()
"""


def hold(root):
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], cwd=REPO, stdin=pipe, stdout=pipe, text=True)
    return child, Path(child.stdout.readline().strip())


def test_a_temporary_directory_lies_beside_the_store_and_goes_in_the_end(tmp_path):
    store = Store(tmp_path / "runs")
    with store.temporary_directory() as folder:
        (folder / "file").write_text("x")
        assert folder.is_relative_to(store.root) and folder.parent.stat().st_mode & 0o777 == 0o700
        assert collect(store, grace=0.0).temporary == 0 and (folder / "file").exists()
    assert not list(store.blobs.scratch.iterdir())
    with pytest.raises(KeyError), store.temporary_directory() as folder:
        raise KeyError
    assert not list(store.blobs.scratch.iterdir())


@pytest.mark.parametrize("by", ["the next run", "gc"])
def test_what_a_kill_leaves_is_collected_and_what_is_in_use_is_not(tmp_path, by):
    store = Store(tmp_path / "runs")
    (dead, left), (alive, used) = hold(store.root), hold(store.root)
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert (left / "large").exists()
    if by == "gc":
        result = collect(store, grace=3600.0)
        assert (result.temporary, result.bytes) == (1, 1000)
    else:
        with store.start_run("r", job_type="train", config={}):
            pass
    assert not left.parent.exists() and (used / "large").exists()
    alive.communicate("go on\n")
    assert alive.returncode == 0 and not list(store.blobs.scratch.iterdir())


def test_a_forked_child_does_not_take_the_directory_away(tmp_path):
    directory = StagingDirectory(tmp_path)
    child = os.fork()
    if child == 0:
        directory.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert directory.path.is_dir()
    directory.close()
    assert not list(tmp_path.iterdir())


def collected(path):
    shutil.rmtree(path.parent)  # as a collector that had the lock just before


def being_collected(path):
    raise BlockingIOError


@pytest.mark.parametrize("happens", [collected, being_collected])
def test_a_new_directory_that_is_collected_before_it_is_locked_is_replaced(tmp_path, monkeypatch, happens):
    lock, taken = fcntl.flock, []

    def late(file, how):
        if not taken:
            taken.append(Path(file.name))
            happens(taken[0])
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with StagingDirectory(tmp_path) as folder:
        (folder / "file").write_text("x")
        assert folder.parent != taken[0].parent
        assert collect_directory(folder.parent, 0.0) is None


def test_on_nfs_what_is_in_use_is_not_collected_however_old(tmp_path, monkeypatch):
    lock = fcntl.flock

    def as_nfs(file, how):
        if not file.writable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # flock(2): of a file that is not open for writing
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    blobs = Blobs(tmp_path)
    blobs.scratch.mkdir()
    with StagingDirectory(blobs.scratch) as folder, blobs.temporary_file() as (file, _):
        for path in (folder.parent, file):
            os.utime(path, (0, 0))
        assert blobs.collect_strays(3600.0) == [] and folder.exists() and file.exists()


def test_where_none_can_be_made_the_error_names_the_folder(tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(TrackingError, match=f"no temporary directory can be made in {tmp_path}/file: "):
        StagingDirectory(tmp_path / "file")


JOB = """
import sys
from pathlib import Path
from conf.schema import Tracking
from tracking import open_tracker
from tracking.interface import ArtifactDraft
root, mode = sys.argv[1:]
tracker = open_tracker(Tracking(backend="wandb", root=root, project="staging"))
with tracker.start_run(f"train-{mode}", job_type="train", config={}) as run:
    with tracker.temporary_directory() as folder:
        (folder / "content").write_text("weights")
        run.log_artifact(ArtifactDraft("model-x", "model", files={"content": folder / "content"}))
    run.log_table("rows", ["a"], [[1]])
    tracker.artifacts("model-*")
    if mode == "killed":
        print("halfway", flush=True)
        sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["finished", "killed"])
def test_a_wandb_job_leaves_nothing_behind_in_the_systems_folder_or_the_store(wandb_server, tmp_path, mode):
    folder, root = tmp_path / "system", tmp_path / ("long-" * 30) / "runs"  # longer than a socket's address may be
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder), "WANDB_ENTITY": ENTITY}
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, str(root), mode],
        cwd=REPO, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if mode == "killed":
        assert job.stdout.readline() == "halfway\n"
        job.kill()
    job.communicate(timeout=120)
    if mode == "killed":  # the courier goes on to the run's end, and then the job's own directory is left

        def state():
            project = wandb_server.state.projects.get("staging")
            return project and "train-killed" in project.runs and project.runs["train-killed"].state

        wait_until(lambda: state() == "failed", 90)
        wait_until(lambda: len(list((root / "tmp").iterdir())) <= 1, 60)
    assert sorted(folder.iterdir()) == []
    assert main(["gc", "--root", str(root)]) == 0
    assert sorted((root / "tmp").iterdir()) == []


def test_a_version_from_wandb_is_fetched_beside_the_store(wandb_server, tmp_path, monkeypatch):
    store = Store(tmp_path / "runs")
    (tmp_path / "file").write_text("content")
    with store.start_run("train-y", job_type="train", config={}) as run:
        run.log_artifact(ArtifactDraft("model-y", "model", files={"file": tmp_path / "file"}))
    place = ["--entity", ENTITY, "--project", "fetched"]
    assert main(["push", "--root", str(store.root), *place]) == 0
    full = tmp_path / "full"
    full.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    full.chmod(0o500)
    assert main(["pull", "--root", str(tmp_path / "pulled"), *place]) == 0
    assert list(full.iterdir()) == []
