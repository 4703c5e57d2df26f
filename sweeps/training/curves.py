"""Reads the training curves of a grid's cells from the store, thinned to what a small chart can show."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from sweeps.runs import Cell, CellRuns
from sweeps.states import CellState, cell_states
from tracking.interface import RunRecord, Tracker

ALL_POINTS = 24_000  # of all cells' curves of one kind: about a tenth of a megabyte for each 10,000
TRAINING_KEYS = ("loss", "z_loss", "token_accuracy")  # what every step logs; others that end so are evaluations
DIVERGED_TIMES, DIVERGED_NATS = 2.0, 0.5  # how far a loss has to end above its lowest value


@dataclass(frozen=True)
class Curve:
    """Holds one quantity's points by rising step; `name` is its key in the history, "" where it has no points."""

    name: str = ""
    steps: Sequence[int] = ()
    values: Sequence[float] = ()

    @property
    def last(self) -> float | None:
        """Returns the last value; None where there is none."""
        return self.values[-1] if self.values else None


@dataclass(frozen=True)
class CellTraining:
    """Holds what the store knows of a cell's training; `last` has the final value of each quantity, not thinned."""

    state: CellState
    loss: Curve = field(default_factory=Curve)
    evaluation_loss: Curve = field(default_factory=Curve)
    accuracy: Curve = field(default_factory=Curve)  # of the evaluations, 0-1
    parameters: int | None = None  # of the model
    steps: int | None = None  # that it was to take
    last_step: int | None = None
    kept_step: int | None = None  # where the evaluations chose
    seconds: float | None = None  # from the start of its run to the end
    examples_per_second: float | None = None  # the median of what was logged, so that compiling does not count
    has_diverged: bool = False

    @property
    def cell(self) -> Cell:
        """Returns which cell it is."""
        return self.state.cell

    @property
    def stands_out(self) -> bool:
        """Tells whether the cell failed or its loss diverged."""
        return self.state.state == "failed" or self.has_diverged


def cell_trainings(tracker: Tracker, cells: Sequence[Cell]) -> list[CellTraining]:
    """Returns the training of each cell, in their order; a cell without a run has its state alone."""
    runs = CellRuns(tracker)
    most = max(20, min(200, ALL_POINTS // max(len(cells), 1)))
    trainings = []
    for cell, state in zip(cells, cell_states(tracker, cells), strict=True):
        run = runs.training(cell)
        trainings.append(CellTraining(state) if run is None else training_of(state, run, tracker.history(run.id), most))
    return trainings


def training_of(
    state: CellState, run: RunRecord, history: Sequence[Mapping[str, float]], most: int = 200
) -> CellTraining:
    """Returns a cell's training from its run and its history, with curves of at most `most` points."""
    evaluated = [key for point in history for key in point if key not in TRAINING_KEYS]
    loss = _curve(history, "loss")
    rates = [point["examples_per_second"] for point in history if _is_number(point.get("examples_per_second"))]
    settings = run.config.get("train", {})
    return CellTraining(
        state,
        loss=thinned(loss, most),
        evaluation_loss=thinned(_curve(history, _first(evaluated, "_loss")), most),
        accuracy=thinned(_curve(history, _first(evaluated, "_accuracy")), most),
        parameters=run.summary.get("parameters"),
        steps=settings.get("steps"),
        last_step=int(history[-1]["step"]) if history else None,
        kept_step=run.summary.get("kept_step"),
        seconds=None if run.ended is None else run.ended - run.started,
        examples_per_second=statistics.median(rates) if rates else None,
        has_diverged=has_diverged(loss.values),
    )


def has_diverged(losses: Sequence[float]) -> bool:
    """Tells whether a training loss ends far above its lowest value: the last tenth, averaged, over the lowest such.

    Far is twice as much, and half a nat a token more.
    """
    width = max(len(losses) // 10, 1)
    sums = list(accumulate(losses, initial=0.0))
    means = [(sums[i + width] - sums[i]) / width for i in range(len(losses) - width + 1)]
    if not means:
        return False
    return means[-1] > DIVERGED_TIMES * min(means) and means[-1] > min(means) + DIVERGED_NATS


def thinned(curve: Curve, most: int) -> Curve:
    """Returns at most `most` points of a curve, 3 or more: the lowest and highest of equal stretches, and the last.

    So a spike that lasts one step stays.
    """
    count = len(curve.steps)
    if count <= most:
        return curve
    stretches = (most - 1) // 2
    kept = {count - 1}
    for i in range(stretches):
        stretch = range(i * count // stretches, (i + 1) * count // stretches)
        kept |= {min(stretch, key=curve.values.__getitem__), max(stretch, key=curve.values.__getitem__)}
    places = sorted(kept)
    return Curve(curve.name, [curve.steps[i] for i in places], [curve.values[i] for i in places])


def _curve(history: Iterable[Mapping[str, float]], key: str) -> Curve:
    """Returns the finite values of a key of the history."""
    points = [(int(point["step"]), float(point[key])) for point in history if _is_number(point.get(key))]
    return Curve(key if points else "", [step for step, _ in points], [value for _, value in points])


def _first(keys: Iterable[str], ending: str) -> str:
    return next((key for key in keys if key.endswith(ending)), "")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
