"""Ensembles of small runs beside the larger model and beside a switcher that costs as much.

Spending FLOPs on more runs of the small model is the other way to spend them: k runs by mean probability, or by
majority vote, against one small run that defers by margin until it costs as much.
"""

from dataclasses import dataclass

import numpy as np

from metrics.analysis import Analysis
from metrics.beyond.cost import at_cost, at_fraction, relative_cost, resampled_curves
from metrics.beyond.table import KEYS, Column, Table, interval_of
from metrics.grid import Grid, SizeRuns
from metrics.intervals import Chunk, estimate
from metrics.tables import Row

MEAN_PROBABILITY, MAJORITY = "mean_probability", "majority_vote"
_TITLES = {MEAN_PROBABILITY: "Mean probability", MAJORITY: "Majority vote"}
_MOST_MEMBER_COUNTS = 6
_ROWS_AT_A_TIME = 4096


def ensembles_table() -> Table:
    return Table(
        name="ensembles",
        title="Ensembles of small runs, and a switcher at equal cost",
        reading=(
            "k runs of the small model together, in FLOPs of one pass of the larger model, against one small run that "
            "defers by margin until it costs as much (at most: all examples deferred). Difference above 0: deferring "
            "is the better use of these FLOPs. Intervals resample examples, the runs of both sizes, and with a run the "
            "ensembles that start with it; ensembles of many runs share members, which makes theirs narrow."
        ),
        columns=(
            *(Column(key, key.capitalize()) for key in KEYS),
            Column("combination_title", "Combined by"),
            Column("combination", "combination", shown=False),
            Column("members", "k", "", "d"),
            Column("cost", "Cost", "%", ".1f"),
            Column("ensemble", "Ensemble's accuracy", "%", ".2f", interval=True),
            Column("deferred", "Deferred", "%", ".1f"),
            Column("switcher", "Switcher's accuracy", "%", ".2f", interval=True),
            Column("difference", "Switcher minus ensemble", "points", "+.2f", interval=True),
            Column("large_accuracy", "Larger model's", "%", ".2f", interval=True),
        ),
    )


def member_counts(runs: int) -> list[int]:
    """1, 2, 3, 5, 10, 20 … up to all runs, at most six."""
    usual = [k for k in (1, 2, 3, 5, 10, 20, 50, 100) if k < runs]
    return [*usual[: _MOST_MEMBER_COUNTS - 1], runs]


@dataclass
class Ensembles:
    """Ensembles of one size: for each k in `members` R of them, run i with the k - 1 runs after it, around the end."""

    size: str
    members: list[int]
    accuracy: dict[str, np.ndarray]  # combination -> [len(members), R], fractions
    samples: dict[str, np.ndarray]  # combination -> [len(members), B], means over ensembles


class EnsembleSamples:
    """Ensembles of one size under resampling; an ensemble counts as often as the run that it starts with was drawn."""

    def __init__(self, grid: Grid, size: SizeRuns, resamples: int):
        self.size = size
        runs, n = size.correct.shape
        self.members = member_counts(runs)
        self._right: dict[str, np.ndarray] = {}  # combination -> [len(members), R, n] float32, chance of being right
        if size.log_likelihoods is not None:
            self._right[MEAN_PROBABILITY] = mean_probability(size.log_likelihoods, _codes(grid), self.members)
        self._right[MAJORITY] = majority_vote(size.prediction, size.correct, self.members)
        self.result = Ensembles(
            size=size.name,
            members=self.members,
            accuracy={name: right.mean(axis=2, dtype=np.float64) for name, right in self._right.items()},
            samples={name: np.full((len(self.members), resamples), np.nan) for name in self._right},
        )

    def add(self, chunk: Chunk) -> None:
        runs, n = self.size.correct.shape
        drawn = chunk.seeds[self.size.name] / runs  # [b, R]
        for name, right in self._right.items():
            flat = right.reshape(-1, n)
            sums = np.zeros((chunk.weights.shape[1], len(flat)))
            for start in range(0, n, _ROWS_AT_A_TIME):
                some = slice(start, min(start + _ROWS_AT_A_TIME, n))
                sums += chunk.weights[some].T.astype(np.float32) @ flat[:, some].T
            per_ensemble = sums.reshape(len(sums), len(self.members), runs) / n
            self.result.samples[name][:, chunk.index] = np.einsum("bkr,br->kb", per_ensemble, drawn)


def _codes(grid: Grid) -> np.ndarray:
    """Targets as indices into the grid's classes, [n] int."""
    codes = {name: code for code, name in enumerate(grid.classes)}
    return np.array([codes[target] for target in grid.target])


def mean_probability(log_likelihoods: np.ndarray, target: np.ndarray, members: list[int]) -> np.ndarray:
    """Whether the class with the highest mean probability is the target, for R ensembles of each size in `members`.

    Log-likelihoods [R, n, K] and targets [n] -> [len(members), R, n] float32; classes that tie share the chance.
    Lakshminarayanan et al. 2017: probabilities are averaged, not their logarithms.
    """
    runs, n, classes = log_likelihoods.shape
    right = np.zeros((len(members), runs, n), dtype=np.float32)
    for start in range(0, n, _ROWS_AT_A_TIME * 4):
        some = slice(start, min(start + _ROWS_AT_A_TIME * 4, n))
        values = log_likelihoods[:, some].astype(np.float64)
        values = np.exp(values - values.max(axis=2, keepdims=True))
        probability = values / values.sum(axis=2, keepdims=True)
        for row, k in enumerate(members):
            for first in range(runs):
                # summed anew for each ensemble: a running sum's rounding would break ties at random
                mean = sum(probability[(first + step) % runs] for step in range(k))
                best = mean == mean.max(axis=1, keepdims=True)
                own = np.take_along_axis(best, target[some, None], axis=1)[:, 0]
                right[row, first, some] = own / best.sum(axis=1)
    return right


def majority_vote(prediction: np.ndarray, correct: np.ndarray, members: list[int]) -> np.ndarray:
    """The chance that the most frequent prediction is right, for R ensembles of each size in `members`.

    Predictions [R, n] int and correctness [R, n] bool -> [len(members), R, n] float32. Predictions that tie are drawn
    at random. Predictions that are equal must be equally right.
    """
    runs, n = prediction.shape
    right = np.zeros((len(members), runs, n), dtype=np.float32)
    for row, k in enumerate(members):
        for first in range(runs):
            chosen = (first + np.arange(k)) % runs
            votes = np.zeros((k, n), dtype=np.int16)  # of each member's own prediction
            for one in range(k):
                for other in range(k):
                    votes[one] += prediction[chosen[one]] == prediction[chosen[other]]
            top = votes == votes.max(axis=0)
            # a prediction with v votes is counted v times among its members: each counts 1/v, and here v is the most
            right[row, first] = (top & correct[chosen]).sum(axis=0) / top.sum(axis=0)
    return right


def ensembles(analysis: Analysis, samples: dict[str, EnsembleSamples], confidence: float) -> list[Row]:
    """One row a (small, large, combination, k), for small sizes with two runs or more; `samples` by size, filled in."""
    rows: list[Row] = []
    for pair in analysis.pairs:
        if pair.small not in samples:
            continue
        result = samples[pair.small].result
        ratio = relative_cost(analysis.grid, pair.small, pair.large)
        curves = resampled_curves(analysis, pair.small, pair.large, "margin")
        curve = pair.curve["margin"]
        for combination, accuracy in result.accuracy.items():
            for row, k in enumerate(result.members):
                fraction = min(1.0, (k - 1) * ratio)
                value, drawn = float(accuracy[row].mean()), result.samples[combination][row]
                switched = float(at_fraction(curve[:, None], fraction)[0])
                gains = at_fraction(curves, fraction) - drawn
                rows.append(
                    {
                        **dict(zip(KEYS, (analysis.grid.dataset, pair.small, pair.large), strict=True)),
                        "combination_title": _TITLES[combination],
                        "combination": combination,
                        "members": k,
                        "cost": 100 * k * ratio,
                        **interval_of("ensemble", estimate(value, drawn, confidence), 100),
                        "deferred": 100 * fraction,
                        **interval_of("switcher", at_cost(k * ratio, ratio, curve, curves, confidence), 100),
                        **interval_of("difference", estimate(switched - value, gains, confidence), 100),
                        **interval_of("large_accuracy", analysis.accuracy[pair.large], 100),
                    }
                )
    return rows
