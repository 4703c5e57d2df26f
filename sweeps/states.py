"""Finds how far each cell of a grid is, by the runs that train and score it. Starts without JAX."""

import dataclasses
from collections.abc import Iterable

from conf.errors import last_line
from sweeps.runs import Cell, CellRuns, is_pre_training, last_active
from tracking import is_alive
from tracking.interface import RunRecord, Tracker

STATES = ("done", "running", "failed", "missing")


@dataclasses.dataclass(frozen=True)
class CellState:
    """Says how far a cell is. `state` is one of STATES, `run` the id of the run that it comes from.

    `step` is the last one that a running cell has logged; `error` is the last line of why it is not done.
    """

    cell: Cell
    state: str
    run: str | None = None
    step: int | None = None
    error: str | None = None


def cell_states(tracker: Tracker, cells: Iterable[Cell]) -> list[CellState]:
    """Returns the state of each cell, by the runs that train and score it."""
    runs = CellRuns(tracker)
    return [_cell_state(cell, runs, tracker) for cell in cells]


def _cell_state(cell: Cell, runs: CellRuns, tracker: Tracker) -> CellState:
    """Returns the state of a cell: done when it is trained and scored, else that of its last run.

    A model that is pre-trained on plain text is done without scores.
    """
    training = runs.training(cell)
    scoring = runs.scoring(cell, training) if training is not None and training.state == "finished" else None
    last = scoring or training
    is_done = scoring is not None and runs.has_scores(scoring)
    if training is not None and training.state == "finished" and is_pre_training(training):
        is_done = True
    failure = runs.unprepared(cell)
    if is_done and cell.train_run:
        failure = None  # it is of other settings than the run that the cell names
    if failure is not None and (last is None or last_active(failure) > last_active(last)):
        return unfinished(cell, failure, tracker)
    if last is None:
        return CellState(cell, "missing")
    if is_done:
        return CellState(cell, "done", last.id)
    if last.state == "finished":
        error = "trained, not scored" if scoring is None else "its scores were removed"
        return CellState(cell, "missing", last.id, error=error)
    return unfinished(cell, last, tracker)


def unfinished(cell: Cell, run: RunRecord, tracker: Tracker) -> CellState:
    """Returns the state of a cell whose training or scoring, this run, has not finished."""
    if is_alive(run):
        history = tracker.history(run.id)
        return CellState(cell, "running", run.id, step=int(history[-1]["step"]) if history else 0)
    if run.state == "running":
        return CellState(cell, "failed", run.id, error=f"process {run.pid} on {run.host} died")
    if run.state == "stopped":  # by a signal, after saving: it is to be run, from there on
        return CellState(cell, "missing", run.id, error=run.error)
    return CellState(cell, "failed", run.id, error=last_line(run.error) or run.state)
