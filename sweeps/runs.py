"""Finds the runs of a grid's cells by what the runs' configs say. Reads the store alone; starts without JAX."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from conf.schema import PLAIN_TEXT
from tracking.interface import RunRecord, Tracker

CellKey = tuple[str, str, int]


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """Names a place in the grid. `train_run` is the id of the run that trains it, where its config could say."""

    dataset: str
    size: str
    seed: int
    split: str = "test"
    train_run: str | None = None

    @property
    def key(self) -> CellKey:
        """Returns what tells the cells of one grid apart: dataset, size and seed."""
        return self.dataset, self.size, self.seed


def trained_cell(run: RunRecord) -> CellKey | None:
    """Returns the dataset, size and seed that a run trains, or was to train; None for a run of another kind."""
    dataset, size, seed = _name(run, "dataset"), _name(run, "size"), run.config.get("seed")
    if run.job_type != "train" or dataset is None or size is None or not isinstance(seed, int):
        return None
    return dataset, size, seed


def is_prepared(run: RunRecord) -> bool:
    """Returns whether a training run came as far as the cell's identity.

    A failure before that is kept in a run whose config names the cell alone.
    """
    return "identity" in run.config


def is_pre_training(run: RunRecord) -> bool:
    """Tells whether a training run learns from plain text, by which nothing is scored."""
    dataset = run.config.get("dataset")
    return isinstance(dataset, dict) and dataset.get("task") == PLAIN_TEXT


class CellRuns:
    """Looks up the runs that train and score each cell, in a list of runs that is read once."""

    def __init__(self, tracker: Tracker, runs: Iterable[RunRecord] | None = None) -> None:
        """Takes `runs`, by default all that the tracker has."""
        self._tracker = tracker
        self._training: dict[CellKey, list[RunRecord]] = {}
        self._scoring: dict[tuple[str | None, Any, Any], list[RunRecord]] = {}  # by dataset, model digest and split
        self._begun: dict[CellKey, float] = {}  # when the last grid that has a cell was started
        for run in tracker.runs() if runs is None else runs:
            if (key := trained_cell(run)) is not None:
                self._training.setdefault(key, []).append(run)
            elif run.job_type == "infer":
                scored = _name(run, "dataset"), run.config.get("model"), run.config.get("split")
                self._scoring.setdefault(scored, []).append(run)
            elif run.job_type == "sweep":
                for key in (Cell(**values).key for values in run.config["cells"]):
                    self._begun[key] = max(self._begun.get(key, 0.0), run.config.get("begun", 0.0))

    def training(self, cell: Cell) -> RunRecord | None:
        """Returns the last run that trains this cell; that of `train_run` where the cell has one."""
        runs = self._training.get(cell.key, [])
        return _last(run for run in runs if (run.id == cell.train_run if cell.train_run else is_prepared(run)))

    def unprepared(self, cell: Cell) -> RunRecord | None:
        """Returns the run that keeps a failure of this cell outside its own runs, where there was one.

        One of before the last grid that has the cell was started, maybe with other settings, says nothing any more.
        """
        begun = self._begun.get(cell.key, 0.0)
        runs = self._training.get(cell.key, [])
        return _last(run for run in runs if not is_prepared(run) and last_active(run) >= begun)

    def scoring(self, cell: Cell, training: RunRecord) -> RunRecord | None:
        """Returns the last run that scored the cell's split by a model of the run `training`, and has its scores.

        Where none has, the last one that was to. So a finished cell stays so when it is scored with other settings too,
        whatever becomes of that.
        """
        models = [artifact.digest for artifact in self._tracker.outputs(training.id) if artifact.type == "model"]
        runs = [run for model in models for run in self._scoring.get((cell.dataset, model, cell.split), [])]
        return _last(run for run in runs if self.has_scores(run)) or _last(runs)

    def has_scores(self, run: RunRecord) -> bool:
        """Returns whether a run has finished, and the scores that it logged are still there."""
        return run.state == "finished" and any(artifact.type == "scores" for artifact in self._tracker.outputs(run.id))

    def all_of(self, cell: Cell) -> list[RunRecord]:
        """Returns every run that trains this cell or scores its split, whatever their other settings are."""
        training = self._training.get(cell.key, [])
        models = {a.digest for run in training for a in self._tracker.outputs(run.id) if a.type == "model"}
        scoring = [run for model in models for run in self._scoring.get((cell.dataset, model, cell.split), [])]
        return training + scoring


def known_cells(tracker: Tracker) -> list[Cell]:
    """Returns the cells of every grid that was started in this store, and of every cell that was trained by itself.

    Of several that name one cell, the one counts that was at work last: a grid or run that goes on keeps its start.
    """
    cells: dict[CellKey, Cell] = {}
    for run in sorted(tracker.runs(), key=last_active):
        if run.job_type == "sweep":
            cells |= {cell.key: cell for cell in (Cell(**values) for values in run.config["cells"])}
        elif (key := trained_cell(run)) is not None:
            train_run = run.id if is_prepared(run) else None
            if key not in cells or train_run is None or cells[key].train_run != train_run:  # else its grid knows more
                cells[key] = Cell(*key, train_run=train_run)
    return sorted(cells.values(), key=lambda cell: cell.key)


def last_active(run: RunRecord) -> float:
    """Returns when a run ended or, of one that has not ended, when it last said that it is alive."""
    return run.heartbeat if run.ended is None else run.ended


def _name(run: RunRecord, part: str) -> str | None:
    """Returns what a run's config names its dataset or size; None where it names none."""
    values = run.config.get(part)
    return values.get("name") if isinstance(values, dict) else None


def _last(runs: Iterable[RunRecord]) -> RunRecord | None:
    return max(runs, key=last_active, default=None)
