"""A sweep's tables are of exactly its own cells' scores, and its cells count as the latest of their names."""

import dataclasses
import json

import pytest

from conf.errors import EdgewiseError
from infer.identity import infer_run_id
from sweeps.grid import GROUP_VARIABLE, Combination, GridCell, conclude, start_sweep
from sweeps.results import CellResult, make_results_latest
from sweeps.states import CellState
from tests.synthetic_scores import synthetic_grid, write_grid
from tests.training import SMALL
from tests.wandb_server import ENTITY
from tracking import open_tracker
from tracking.interface import ArtifactDraft, TrackingError
from tracking.removal import remove
from tracking.store import Store
from tracking.upkeep import verify
from tracking.wandb.project import WandbProject
from tracking.wandb.server import Server
from train.identity import cell_name, train_run_id
from train.stopping import Stopped

SIZES = ("nano", "micro")


@pytest.fixture
def grid(compose, tmp_path, monkeypatch, without_pictures):
    """A function: the cells of two sizes by two seeds, trained for so many steps."""
    monkeypatch.setenv(GROUP_VARIABLE, "")

    def make(steps, *overrides, seeds=(0, 1)):
        cells = []
        for size in SIZES:
            config = compose(
                *(one for one in SMALL if not one.startswith("size.")),
                f"size={size}",
                f"train.steps={steps}",
                f"tracking.root={tmp_path / 'runs'}",
                f"metrics.out={tmp_path / 'out'}",
                "metrics.resamples=10",
                *overrides,
            )
            combination = Combination(config)
            cells += [GridCell(combination, seed) for seed in seeds]
        return cells

    return make


@pytest.fixture
def run_cell(tmp_path):
    """A function that does what a job does, without training: logs a model and scores of it, by its config."""

    def run(cell, content, tracker=None, other_settings=""):
        tracker = tracker or open_tracker(cell.config.tracking)
        config = cell.resolved
        name, size = cell_name(config), config.size.name
        [scores] = synthetic_grid(
            {size: (10 + len(size), 1.5)}, seeds={size: [cell.seed]}, examples=40, dataset="demo", seed=content
        )
        [path] = write_grid([dataclasses.replace(scores)], tmp_path / "scores")
        (tmp_path / "weights").write_text(f"{name} {content}")
        named = {"dataset": {"name": "demo"}, "size": {"name": size}, "seed": cell.seed, "identity": "x"}
        with tracker.start_run(train_run_id(config), job_type="train", config=named) as run:
            model = run.log_artifact(ArtifactDraft(f"model-{name}", "model", {}, {"weights": tmp_path / "weights"}))
        scored = {"dataset": {"name": "demo"}, "model": model.digest, "split": config.infer.split, "identity": "y"}
        metadata = {key: value for key, value in vars(scores.metadata).items() if key != "config"}
        draft = ArtifactDraft(f"scores-{name}-test", "scores", metadata, {"scores.parquet": path})
        with tracker.start_run(
            infer_run_id(config, model.digest) + other_settings, job_type="infer", config=scored
        ) as run:
            run.use_artifact(model)
            return run.log_artifact(draft)

    return run


def inputs(tmp_path):
    listed = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))["inputs"]
    return {one["name"]: one["digest"] for one in listed}


def test_a_sweep_s_tables_are_of_its_own_cells_after_others_were_tried(grid, run_cell, tracker, tmp_path, capsys):
    """A grid of 400 steps; two cells tried with 60; 400 again, where every cell is skipped."""
    sweep = start_sweep(cells := grid(400))
    own = {artifact.name: artifact.digest for artifact in (run_cell(cell, content=1) for cell in cells)}
    assert conclude(sweep) == 0 and inputs(tmp_path) == own

    tried = start_sweep(some := grid(60, seeds=(0,)))
    others = {artifact.name: artifact.digest for artifact in (run_cell(cell, content=2) for cell in some)}
    assert conclude(tried) == 0 and inputs(tmp_path) == others
    assert "latest again" not in capsys.readouterr().out

    assert conclude(start_sweep(grid(400))) == 0
    assert inputs(tmp_path) == own
    said = capsys.readouterr().out
    assert "latest again, as this sweep's own: model-demo-nano-s0:v0, scores-demo-nano-s0-test:v0" in said
    for cell in cells:
        name = cell_name(cell.config)
        assert tracker.artifact(f"model-{name}").ref == f"model-{name}:v0"
        assert tracker.artifact(f"scores-{name}-test").digest == own[f"scores-{name}-test"]
    assert not verify(tracker).problems
    assert Store(tmp_path / "runs").artifact("metrics-demo:latest").metadata["inputs"] == own


def test_on_wandb_too_the_sweep_s_own_cells_count(grid, run_cell, wandb_server, tmp_path):
    place = ("tracking=wandb", f"tracking.entity={ENTITY}", "tracking.project=results")
    own = {}
    for steps, content in ((400, 1), (60, 2), (400, 1)):
        sweep = start_sweep(cells := grid(steps, *place, seeds=(0,)))
        if steps == 60 or not own:
            logged = {(a := run_cell(cell, content, sweep.tracker)).name: a.digest for cell in cells}
            own = own or logged
        assert conclude(sweep) == 0
        assert not sweep.tracker.flush()
    assert inputs(tmp_path) == own
    there = Server(WandbProject.chosen(ENTITY, "results"))
    assert {name: there.artifact(name).digest for name in own} == own
    assert there.artifact("metrics-demo").metadata["inputs"] == own
    assert len(there.versions("metrics-demo")) == 2


@pytest.fixture
def tabulated(monkeypatch):
    """The scores, name to digest, of each table that is made; none is computed."""
    made = []

    def metrics_of_scores(config, tracker, scores, progress):
        made.append({artifact.name: artifact.digest for artifact in scores})

    monkeypatch.setattr("metrics.stage.metrics_of_scores", metrics_of_scores)
    monkeypatch.setattr("metrics.output.headline.print_headline", lambda *given: None)
    return made


def test_a_cell_that_was_scored_with_other_settings_alone_is_not_done(grid, run_cell, tracker, tabulated, capsys):
    sweep = start_sweep(cells := grid(400))
    own = {(a := run_cell(cell, content=1)).name: a.digest for cell in cells[:3]}
    run_cell(cells[3], content=1, other_settings="-beams")
    assert conclude(sweep) == 1 and tabulated == [own]
    shown = capsys.readouterr()
    assert "demo micro seed 1: not scored with this sweep's settings" in shown.out
    assert "1 of 4 cells are not done; the same command does what is missing" in shown.err
    assert f"`python -m tracking show RUN --root {tracker.root}` shows why a run failed" in shown.err


def test_a_cell_stays_done_when_a_scoring_of_it_with_other_settings_dies(grid, run_cell, tracker, tabulated, capsys):
    sweep = start_sweep(cells := grid(400))
    own = {(a := run_cell(cell, content=1)).name: a.digest for cell in cells}
    other = {"dataset": {"name": "demo"}, "model": tracker.artifact("model-demo-nano-s0").digest, "split": "test"}
    tracker.start_run("infer-beams", job_type="infer", config=other).finish("failed", "killed")
    assert conclude(sweep) == 0 and tabulated == [own]
    assert "killed" not in capsys.readouterr().out


def test_the_failure_of_this_sweep_s_own_scoring_is_said_though_another_went_through(grid, run_cell, tracker, capsys):
    [cell, *_] = grid(400)
    sweep = start_sweep([cell])
    run_cell(cell, content=1, other_settings="-beams")
    model = tracker.artifact("model-demo-nano-s0").digest
    own = {"dataset": {"name": "demo"}, "model": model, "split": "test"}
    tracker.start_run(infer_run_id(cell.resolved, model), job_type="infer", config=own).finish("failed", "no memory")
    assert conclude(sweep) == 1
    assert "failed demo nano seed 0: no memory" in capsys.readouterr().out


def test_tables_that_can_not_be_made_are_no_cells_that_are_not_done(grid, run_cell, tracker, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("something else")
    sweep = start_sweep(cells := grid(400))
    for cell in cells:
        run_cell(cell, content=1)
    assert conclude(sweep) == 1
    shown = capsys.readouterr()
    assert "the tables of 1 of 1 datasets were not made: see the error above" in shown.err
    assert "not done" not in shown.err and "holds files but no summary.json" in shown.err
    record = tracker.run(sweep.run.id)
    assert (record.state, record.summary) == ("failed", {"cells": 4, "not_done": 0, "without_tables": 1})


def test_a_file_system_s_error_in_the_tables_is_said_and_ends_the_run(grid, run_cell, tracker, monkeypatch, capsys):
    def refuse(*given):
        raise OSError(30, "Read-only file system", "/a/out")

    monkeypatch.setattr("metrics.stage.metrics_of_scores", refuse)
    sweep = start_sweep(cells := grid(400))
    for cell in cells:
        run_cell(cell, content=1)
    assert conclude(sweep) == 1
    assert "error: metrics of demo: [Errno 30] Read-only file system: '/a/out'" in capsys.readouterr().err
    assert tracker.run(sweep.run.id).state == "failed"


def test_scores_of_another_split_than_the_default_make_the_tables(grid, run_cell, tabulated):
    sweep = start_sweep(cells := grid(400, "infer.split=validation"))
    own = {(a := run_cell(cell, content=1)).name: a.digest for cell in cells}
    assert conclude(sweep) == 0 and tabulated == [own]


def test_where_the_data_is_gone_the_runs_say_which_scores_there_are(grid, run_cell, tabulated, monkeypatch):
    sweep = start_sweep(cells := grid(400))
    own = {(a := run_cell(cell, content=1)).name: a.digest for cell in cells}

    def gone(*given):
        raise EdgewiseError("dataset.path: no such folder")

    monkeypatch.setattr("sweeps.results.finished_cell", gone)
    assert conclude(sweep) == 0 and tabulated == [own]


def test_a_cell_whose_scores_were_removed_is_not_in_the_tables(grid, run_cell, tracker, tabulated, capsys):
    sweep = start_sweep(cells := grid(400))
    own = {(a := run_cell(cell, content=1)).name: a.digest for cell in cells}
    remove(tracker, ["scores-demo-nano-s0-test"])
    del own["scores-demo-nano-s0-test"]
    assert conclude(sweep) == 1 and tabulated == [own]
    assert "demo nano seed 0: its scores were removed" in capsys.readouterr().out


def test_an_alias_that_can_not_be_moved_stops_no_sweep(grid, run_cell, tracker, monkeypatch, capsys):
    cell = grid(400)[0]
    scores = run_cell(cell, content=1)
    run_cell(grid(60)[0], content=2)

    def refuse(*given):
        raise TrackingError("the disk is full")

    monkeypatch.setattr(tracker, "move_alias", refuse)
    make_results_latest([CellResult(CellState(cell.cell(), "done"), None, scores)], tracker)
    assert capsys.readouterr() == ("", "latest: the disk is full\n")


def test_a_signal_while_the_tables_are_made_stops_the_sweep_s_run(grid, tracker, monkeypatch):
    def stop(states):
        raise Stopped(15)

    sweep = start_sweep(grid(400))
    monkeypatch.setattr("sweeps.grid.print_grid", stop)
    with pytest.raises(Stopped):
        conclude(sweep)
    assert tracker.run(sweep.run.id).state == "stopped"
