"""Ensembles of small runs beside the larger model and beside a switcher that costs as much.

Spending FLOPs on more runs of the small model is the other way to spend them: k runs by mean probability, or by
majority vote, against one small run that defers by margin until it costs as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.beyond.cost import at_cost, at_fraction, relative_cost
from metrics.beyond.table import PAIR, Column, Table, interval_of, of_pair
from metrics.bootstrap import SwitcherSamples
from metrics.bootstrap.resampling import Resampling, estimate
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import Grid, SizeRuns
from metrics.tables.paper import Row

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
            *PAIR,
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


def ensembles_of(grid: Grid, size: SizeRuns, resampling: Resampling, each: ParallelMap = map) -> Ensembles:
    """Ensembles of a size with two runs or more and with `correct`; resampled, one counts as often as the run that it
    starts with was drawn.
    """
    assert size.correct is not None
    runs, n = size.correct.shape
    members = member_counts(runs)
    right: dict[str, np.ndarray] = {}  # combination -> [len(members), R, n], chance of being right
    if size.task == "classification":
        target = grid.target.recoded(grid.classes)
        right[MEAN_PROBABILITY] = mean_probability(size.log_likelihoods, target, members, each)
        right[MEAN_PROBABILITY][members.index(1)] = size.correct  # one model answers as it did, also where classes tie
    right[MAJORITY] = majority_vote(size.prediction, size.correct, members)
    accuracy, samples = {}, {}
    drawn = resampling.seeds[size.name].T / runs  # [R, B]
    for name, values in right.items():
        columns = np.concatenate([np.ones((1, n), np.float32), values.reshape(-1, n)])
        sums = resampling.total_sums(columns.T)  # [1 + len(members) · R, B]
        shares = (sums[1:] / sums[0]).reshape(len(members), runs, -1)
        accuracy[name] = values.mean(axis=2, dtype=np.float64)
        samples[name] = np.einsum("krb,rb->kb", shares, drawn)
    return Ensembles(size.name, members, accuracy, samples)


def mean_probability(
    log_likelihoods: np.ndarray, target: np.ndarray, members: list[int], each: ParallelMap = map
) -> np.ndarray:
    """Whether the class with the highest mean probability is the target, for R ensembles of each size in `members`.

    Log-likelihoods [R, n, K] and targets [n] -> [len(members), R, n] float32; classes that tie share the chance.
    Lakshminarayanan et al. 2017: probabilities are averaged, not their logarithms.
    """
    runs, n, classes = log_likelihoods.shape
    right = np.zeros((len(members), runs, n), dtype=np.float32)

    def fill(start: int) -> None:
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

    list(each(fill, range(0, n, _ROWS_AT_A_TIME * 4)))
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


def ensembles(
    analysis: Analysis,
    results: Mapping[str, Ensembles],
    samples: Mapping[str, SwitcherSamples],
    confidence: float,
) -> list[Row]:
    """One row a (small, large, combination, k); `results` and `samples` by small size."""
    rows: list[Row] = []
    for pair in analysis.pairs:
        if pair.small not in results:
            continue
        result = results[pair.small]
        ratio = relative_cost(analysis.grid, pair.small, pair.large)
        curves = samples[pair.small].curve[pair.large, "margin"]
        curve = pair.curve["margin"]
        for combination, accuracy in result.accuracy.items():
            for row, k in enumerate(result.members):
                fraction = min(1.0, (k - 1) * ratio)
                value, drawn = float(accuracy[row].mean()), result.samples[combination][row]
                switched = float(at_fraction(curve[:, None], fraction)[0])
                gains = at_fraction(curves, fraction) - drawn
                rows.append(
                    {
                        **of_pair(analysis, pair.small, pair.large),
                        "combination_title": _TITLES[combination],
                        "combination": combination,
                        "members": k,
                        "cost": 100 * k * ratio,
                        **interval_of("ensemble", estimate(value, drawn, confidence), 100),
                        "deferred": 100 * fraction,
                        **interval_of("switcher", at_cost(k * ratio, ratio, curve, curves, confidence), 100),
                        **interval_of("difference", estimate(switched - value, gains, confidence), 100),
                        **interval_of("large_accuracy", analysis.quality[pair.large], 100),
                    }
                )
    return rows
