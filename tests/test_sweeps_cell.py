"""A cell that another process is at work on has not failed."""

import dataclasses
import os

import pytest

from infer.identity import infer_run_id
from sweeps.cell import run_cell
from sweeps.runs import known_cells
from sweeps.states import cell_states
from tests.training import SMALL
from tracking.interface import ArtifactDraft, TrackingError
from train.identity import train_run_id
from train.pretrained.find import resolved


@pytest.fixture
def config(compose, tmp_path):
    return resolved(compose(*SMALL, f"tracking.root={tmp_path / 'runs'}"))


@pytest.fixture
def model(config, tracker, tmp_path):
    """The cell's model, trained."""
    (tmp_path / "weights").write_text("weights")
    named = {"dataset": {"name": "demo"}, "size": {"name": "nano"}, "seed": 0, "identity": "x"}
    with tracker.start_run(train_run_id(config), job_type="train", config=named) as run:
        return run.log_artifact(ArtifactDraft("model-demo-nano-s0", "model", {}, {"weights": tmp_path / "weights"}))


def held_elsewhere(tracker, run_id, **given):
    """Has another process, which lives, run it."""
    tracker.start_run(run_id, **given)
    tracker.adopt_run(dataclasses.replace(tracker.run(run_id), pid=os.getppid()), [])


def test_a_cell_that_another_process_scores_is_said_to_run_elsewhere(config, model, tracker, monkeypatch, capsys):
    named = {"dataset": {"name": "demo"}, "model": model.digest, "split": "test"}
    held_elsewhere(tracker, infer_run_id(config, model.digest), job_type="infer", config=named)

    def finish_cell(*given):
        raise TrackingError("run infer-… is running already")

    monkeypatch.setattr("sweeps.cell.finish_cell", finish_cell)
    assert not run_cell(config)
    assert capsys.readouterr().err == "demo-nano-s0: is run elsewhere: run infer-… is running already\n"
    assert not tracker.runs(state="failed")
    assert [found.state for found in cell_states(tracker, known_cells(tracker))] == ["running"]


def test_a_failure_of_a_cell_that_nobody_else_runs_is_kept(config, model, tracker, monkeypatch, capsys):
    def finish_cell(*given):
        raise TrackingError("no rows")

    monkeypatch.setattr("sweeps.cell.finish_cell", finish_cell)
    assert not run_cell(config)
    assert capsys.readouterr().err == "demo-nano-s0: failed: no rows\n"
    assert [run.id for run in tracker.runs(state="failed")] == ["train-demo-nano-s0-unprepared"]
