"""An output takes its place whole, one process at a time, and what a killed process left is cleared away."""

import os
import signal
import subprocess
import sys

import pytest

from conf.schema import Config, Dataset, Metrics
from metrics.output.replace import MARK, TRAINING_PAGE, OutputError, replaced
from metrics.stage import compute_metrics
from tests.metrics_runs import log_scores
from tests.support import REPO
from tests.synthetic_scores import synthetic_grid
from tracking.interface import ArtifactDraft
from tracking.store import Store

# Writes an output and is killed: "inside" before it is whole, "between" after the earlier one was moved away.
KILLED = """
import os, sys
from pathlib import Path
from metrics.output.replace import MARK, replaced
out, moment = Path(sys.argv[1]), sys.argv[2]
rename, moves = Path.rename, []
def die(self, target):
    moves.append(target)
    if moment == "between" and len(moves) == 2:
        os.kill(os.getpid(), 9)
    return rename(self, target)
Path.rename = die
with replaced(out) as directory:
    (directory / MARK).write_text("new")
    if moment == "inside":
        os.kill(os.getpid(), 9)
    if moment == "wait":
        print("writing", flush=True)
        sys.stdin.readline()
"""


def start(out, moment):
    command = [sys.executable, "-c", KILLED, str(out), moment]
    return subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def write(out, text):
    with replaced(out) as directory:
        (directory / MARK).write_text(text)


def config(out, **metrics):
    return Config(dataset=Dataset(name="imdb"), metrics=Metrics(out=str(out), resamples=5, beyond=False, **metrics))


def test_a_run_logs_its_own_output_whatever_another_writes_to_the_same_place(tmp_path, monkeypatch, without_pictures):
    store, out = Store(tmp_path / "runs"), tmp_path / "out"
    log_scores(store, synthetic_grid(seeds=2, examples=40, dataset="imdb"), tmp_path / "scores")
    compute_metrics(config(tmp_path / "alone"), store)
    expected = {name: file.md5 for name, file in store.artifact("metrics-imdb:v0").files.items()}
    store.close()
    second = Store(tmp_path / "second")
    log_scores(second, synthetic_grid(seeds=2, examples=40, dataset="imdb"), tmp_path / "scores")
    add_file, told = ArtifactDraft.add_file, []

    def another_run_comes_first(self, path, name=None):
        monkeypatch.setattr(ArtifactDraft, "add_file", add_file)
        with pytest.raises(OutputError, match=r"metrics\.out=.*out is being written by another run") as error:
            compute_metrics(config(out, committee="mean_probability"), second)
        told.append(str(error.value))
        return add_file(self, path, name)

    monkeypatch.setattr(ArtifactDraft, "add_file", another_run_comes_first)
    compute_metrics(config(out), second)
    assert f"process {os.getpid()} on " in told[0] and "give this one another metrics.out" in told[0]
    assert {name: file.md5 for name, file in second.artifact("metrics-imdb:v0").files.items()} == expected
    assert {run.state for run in second.runs(job_type="metrics")} == {"finished"}  # who is told starts no run
    compute_metrics(config(out, committee="mean_probability"), second)  # now it may
    assert second.artifact("metrics-imdb").version == 1
    second.close()


def test_another_process_is_told_and_a_killed_one_holds_nothing(tmp_path):
    out = tmp_path / "out"
    child = start(out, "wait")
    assert child.stdout.readline() == "writing\n"
    (tmp_path / "link").symlink_to(tmp_path)
    for same in (out, tmp_path / "link" / "out"):
        with pytest.raises(OutputError, match=rf"is being written by another run of metrics \(process {child.pid} on "):
            write(same, "mine")
    write(tmp_path / "out.new", "mine")  # another place, though its private files are named much alike
    child.kill()
    child.communicate()
    assert (tmp_path / ".out.lock").exists()
    write(out, "mine")
    assert (out / MARK).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out", "out.new"]


@pytest.mark.parametrize("moment", ["inside", "between"])
def test_the_earlier_output_survives_a_kill_and_nothing_else_does(tmp_path, moment):
    out = tmp_path / "out"
    write(out, "old")
    child = start(out, moment)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert out.exists() == (moment == "inside")
    (tmp_path / ".out.new.notes").mkdir()  # a person's own
    with replaced(out) as directory:
        assert (out / MARK).read_text() == "old"
        (directory / MARK).write_text("new")
    assert (out / MARK).read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.new.notes", "out"]


def test_what_the_block_raises_is_not_taken_for_the_directory_s(tmp_path):
    with pytest.raises(OSError, match="of something else") as error, replaced(tmp_path / "out"):
        raise OSError("of something else")
    assert error.type is OSError
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_s_training_page_is_carried_over_and_alone_stands_in_no_way(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / TRAINING_PAGE).write_text("curves")
    for content in ("first", "second"):
        with replaced(out) as directory:
            (directory / MARK).write_text(content)
        assert (out / MARK).read_text() == content and (out / TRAINING_PAGE).read_text() == "curves"
    (out / MARK).unlink()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files but no"), replaced(out):
        pass
