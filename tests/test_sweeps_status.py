"""The state of a cell, and the run that keeps its failure, are found by what the runs' configs say."""

import json
import os
import socket
import time

import pytest

from conf.errors import EdgewiseError
from sweeps.cell import keep_failure
from sweeps.runs import Cell, known_cells
from sweeps.states import CellState, cell_states
from sweeps.status import main, print_grid
from tracking.interface import ArtifactDraft
from tracking.removal import remove

CELL = Cell("demo", "nano", 0)


@pytest.fixture
def log_run(tracker, tmp_path):
    """A function that logs a run and, where `model` is given, a model with this content; returns the model.

    A run that scores logs scores.
    """

    def log(run_id, job_type, config, model=None, state="finished", error=None):
        run = tracker.start_run(run_id, job_type=job_type, config=config)
        logged = None
        if job_type == "infer" and state == "finished":
            (tmp_path / "scores").write_text(run_id)
            run.log_artifact(ArtifactDraft("scores-x", "scores", files={"scores": tmp_path / "scores"}))
        if model is not None:
            (tmp_path / "weights").write_text(model)
            logged = run.log_artifact(ArtifactDraft("model-x", "model", files={"weights": tmp_path / "weights"}))
        if state != "running":
            run.finish(state, error)
        return logged

    return log


def training(dataset="demo", size="nano", seed=0):
    return {"dataset": {"name": dataset}, "size": {"name": size}, "seed": seed, "identity": "0123456789ab"}


def scoring(model, split="test", dataset="demo"):
    return {"dataset": {"name": dataset}, "model": model.digest, "split": split, "identity": "ba9876543210"}


def state(tracker, cell=CELL):
    [found] = cell_states(tracker, [cell])
    return found.state, found.run, found.error


def test_a_cell_is_missing_then_trained_then_done(tracker, log_run):
    assert state(tracker) == ("missing", None, None)
    model = log_run("train-any", "train", training(), "a")
    assert state(tracker) == ("missing", "train-any", "trained, not scored")
    log_run("infer-any", "infer", scoring(model))
    assert state(tracker) == ("done", "infer-any", None)


def test_a_done_cell_stays_so_whatever_becomes_of_another_scoring_of_it(tracker, log_run):
    model = log_run("train-any", "train", training(), "a")
    log_run("infer-any", "infer", scoring(model))
    log_run("infer-beams", "infer", scoring(model), state="failed", error="no memory")
    assert state(tracker) == ("done", "infer-any", None)
    remove(tracker, ["scores-x"])
    assert state(tracker) == ("failed", "infer-beams", "no memory")


def test_a_pre_trained_model_is_done_without_scores(tracker, log_run):
    config = training(dataset="wiki")
    log_run("train-wiki", "train", config | {"dataset": {"name": "wiki", "task": "text"}}, "a")
    assert state(tracker, Cell("wiki", "nano", 0)) == ("done", "train-wiki", None)


def test_a_cell_whose_scores_were_removed_is_missing(tracker, log_run):
    model = log_run("train-any", "train", training(), "a")
    log_run("infer-any", "infer", scoring(model))
    remove(tracker, ["scores-x"])
    assert state(tracker) == ("missing", "infer-any", "its scores were removed")
    remove(tracker, ["model-x"])
    assert state(tracker) == ("missing", "train-any", "trained, not scored")


def test_runs_whose_ids_begin_as_the_cell_s_do_are_not_the_cell_s(tracker, log_run):
    log_run("train-demo-nano-s0-x", "train", training(size="nano-s0-x", seed=1), "b")
    assert state(tracker)[0] == "missing"
    model = log_run("train-demo-nano-s0-y", "train", training(), "a")
    log_run("infer-demo-nano-s0-test-x-0", "infer", scoring(model, split="test-x"))
    assert state(tracker) == ("missing", "train-demo-nano-s0-y", "trained, not scored")
    assert state(tracker, Cell("demo", "nano", 0, split="test-x"))[0] == "done"
    log_run("infer-demo-nano-s0-test-0", "infer", scoring(model, dataset="other"))
    assert state(tracker)[0] == "missing"


def test_scores_of_another_model_of_the_cell_do_not_count(tracker, log_run):
    old = log_run("train-old", "train", training(), "a")
    log_run("infer-old", "infer", scoring(old))
    log_run("train-new", "train", training(), "b")
    assert state(tracker, Cell("demo", "nano", 0, train_run="train-old"))[0] == "done"
    assert state(tracker, Cell("demo", "nano", 0, train_run="train-new"))[0] == "missing"


def test_an_unfinished_run_says_how_far_it_is(tracker, log_run):
    run = tracker.start_run("train-any", job_type="train", config=training())
    run.log({"loss": 1.0}, 7)
    [found] = cell_states(tracker, [CELL])
    assert (found.state, found.step, found.run) == ("running", 7, "train-any")
    run.finish("stopped", "stopped by signal 15")
    assert state(tracker) == ("missing", "train-any", "stopped by signal 15")
    log_run("train-later", "train", training(), state="failed", error="Traceback\n  line\nValueError: no good\n")
    assert state(tracker) == ("failed", "train-later", "ValueError: no good")


def test_a_failure_before_the_cell_s_own_run_is_kept_once(tracker, log_run, compose):
    config = compose("dataset=demo", "size=nano", "seed=0")
    log_run("train-else", "train", training(seed=1), state="failed", error="of seed 1")
    keep_failure(config, tracker, EdgewiseError("no rows"), since=0)
    [kept] = [run for run in tracker.runs(state="failed") if run.config["seed"] == 0]
    assert "no rows" in kept.error and (kept.host, kept.pid) == (socket.gethostname(), os.getpid())
    assert state(tracker) == ("failed", kept.id, "conf.errors.EdgewiseError: no rows")
    assert known_cells(tracker) == [CELL, Cell("demo", "nano", 1, train_run="train-else")]

    keep_failure(config, tracker, EdgewiseError("the same, later"), since=kept.ended)
    assert "no rows" in tracker.run(kept.id).error  # that run has failed since and holds the traceback


def test_a_failure_of_scoring_is_kept_once_and_told_from_that_of_another_split(tracker, log_run, compose):
    config = compose("dataset=demo", "size=nano", "seed=0")
    model = log_run("train-any", "train", training(), "a")
    log_run("infer-other", "infer", scoring(model, split="test-x"), state="failed", error="of test-x")
    keep_failure(config, tracker, EdgewiseError("bad rows"), since=0)
    assert state(tracker) == ("failed", "train-demo-nano-s0-unprepared", "conf.errors.EdgewiseError: bad rows")
    log_run("infer-any", "infer", scoring(model), state="failed", error="of test")
    assert state(tracker) == ("failed", "infer-any", "of test")
    keep_failure(config, tracker, EdgewiseError("of test, again"), since=0)
    assert "bad rows" in tracker.run("train-demo-nano-s0-unprepared").error


def test_a_failure_that_was_overcome_is_no_state(tracker, log_run, compose):
    config = compose("dataset=demo", "size=nano", "seed=0")
    model = log_run("train-any", "train", training(), "a")
    keep_failure(config, tracker, EdgewiseError("bad rows"), since=0)
    log_run("infer-any", "infer", scoring(model))
    assert [found.state for found in cell_states(tracker, known_cells(tracker))] == ["done"]
    keep_failure(config, tracker, EdgewiseError("of other settings"), since=time.time())
    assert state(tracker, Cell("demo", "nano", 0, train_run="train-any"))[0] == "done"
    assert state(tracker)[2] == "conf.errors.EdgewiseError: of other settings"


def grid_of(tracker, train_run, split="test"):
    """Starts the grid's run, or takes it up again, as every sweep of these cells does; returns it."""
    cells = [{"dataset": "demo", "size": "nano", "seed": 0, "split": split, "train_run": train_run}]
    return tracker.start_run("sweep-any", job_type="sweep", config={"cells": cells, "begun": time.time()})


def shown(tracker):
    [found] = cell_states(tracker, known_cells(tracker))
    return found.state, found.run


def test_what_the_last_sweep_found_done_is_done_whatever_was_tried_before(tracker, log_run, compose):
    with grid_of(tracker, "train-a"):
        log_run("infer-a", "infer", scoring(log_run("train-a", "train", training(), "a")))
    with grid_of(tracker, None):  # of settings by which nothing could be prepared
        keep_failure(compose("dataset=demo"), tracker, EdgewiseError("no such file"), since=time.time())
    assert shown(tracker) == ("failed", "train-demo-nano-s0-unprepared")
    with grid_of(tracker, "train-a"):
        assert shown(tracker) == ("done", "infer-a")  # while it runs, too
    assert shown(tracker) == ("done", "infer-a")

    with grid_of(tracker, "train-b"):
        log_run("train-b", "train", training(), state="stopped", error="stopped by signal 15")
    assert shown(tracker) == ("missing", "train-b")
    with grid_of(tracker, "train-a"):
        pass
    assert shown(tracker) == ("done", "infer-a")
    log_run("train-b", "train", training(), state="failed", error="by itself, since")
    assert shown(tracker) == ("failed", "train-b")


def test_a_failure_of_before_the_last_grid_is_none_of_that_grid(tracker, log_run, compose):
    """Such as of other settings, where the grid is stopped before it comes to the cell."""
    with grid_of(tracker, None):
        keep_failure(compose("dataset=demo"), tracker, EdgewiseError("no such file"), since=time.time())
    assert shown(tracker) == ("failed", "train-demo-nano-s0-unprepared")
    grid_of(tracker, "train-a").finish("stopped", "by a signal")
    assert shown(tracker) == ("missing", None)


def test_a_running_grid_s_cells_keep_their_split(tracker, log_run):
    grid = grid_of(tracker, "train-a", split="validation")
    log_run("infer-a", "infer", scoring(log_run("train-a", "train", training(), "a"), split="validation"))
    assert shown(tracker) == ("done", "infer-a")
    grid.finish()


def test_names_are_shown_as_they_are_whatever_markup_they_hold(capsys):
    """Names are checked today; a store of before may hold any."""
    states = [CellState(Cell("[red]data", "[/b]", 0), "failed", "train-x", error="[bold]no")]
    print_grid(states)
    shown = capsys.readouterr().out
    assert "[red]data" in shown and "[/b]" in shown and "[bold]no" in shown


def test_the_store_is_named_as_by_the_other_commands_or_by_a_flag(tracker, log_run, capsys):
    log_run("train-any", "train", training())
    for arguments in (["--root", str(tracker.root)], [f"tracking.root={tracker.root}"]):
        assert main([*arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["counts"]["missing"] == 1
    for override in ("dataset=demo", "tracking.root="):
        assert main([override]) == 1
        assert f"{override}: sweeps.status shows the whole grid" in capsys.readouterr().err
