"""Compares ensembles of small runs with the larger model, and with a switcher that costs as much.

Spending FLOPs on more runs of the small model is the other way to spend them: k runs by mean probability, or by
majority vote, against one small run that defers by margin until it costs as much.
"""

from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.intervals import InfluentialExamples, t_estimate
from metrics.beyond.cost import at_cost, at_fraction, relative_cost, unknown_flops
from metrics.beyond.table import PAIR, BeyondTable, Observer, interval_entries, pair_entries
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.components import Variance, variance_of_ensembles
from metrics.statistics.uncertainty import divided_by_tokens, label_tokens
from metrics.tables.table import Column, Row

MEAN_PROBABILITY, MAJORITY = "mean_probability", "majority_vote"
_TITLES = {MEAN_PROBABILITY: "Mean probability", MAJORITY: "Majority vote"}
_MOST_MEMBER_COUNTS = 6
_ROWS_AT_A_TIME = 4096


class EnsemblesBesideSwitchers(Observer):
    """Keeps each size's ensembles, and the switchers to compare them with."""

    needs_right_or_wrong = True
    deployable_only = True

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.ensembles: dict[str, Ensembles] = {}  # by small size

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if view.larger and len(view.size.seeds) >= 2:
            self.ensembles[view.size.name] = ensembles_of(
                self.grid,
                view.size,
                view.resampling,
                view.influential,
                self.config.length_normalized,
                view.parallel_map,
            )

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        single = [size.name for size in self.grid.sizes[:-1] if len(size.seeds) < 2]
        return [
            *super().gaps(),
            *unknown_flops(self.grid),
            *(f"{name} has one seed: no ensembles of it." for name in single),
        ]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, combination, k)."""
        confidence = self.config.confidence
        rows: list[Row] = []
        for pair in analysis.pairs:
            if pair.small not in self.ensembles:
                continue
            ensembles = self.ensembles[pair.small]
            ratio = relative_cost(self.grid, pair.small, pair.large)
            curves = self.samples[analysis.context, pair.small].curve[pair.large, "margin"]
            curve = pair.curve["margin"]
            for combination, accuracy in ensembles.accuracy.items():
                for row, k in enumerate(ensembles.members):
                    fraction = min(1.0, (k - 1) * ratio)
                    value, samples = float(accuracy[row].mean()), ensembles.samples[combination][row]
                    switched = float(at_fraction(curve[:, None], fraction)[0])
                    gains = at_fraction(curves, fraction) - samples
                    # one run alone is no ensemble: its quality has one interval everywhere
                    own = analysis.quality[pair.small] if k == 1 else ensembles.estimate(combination, k, confidence)
                    rows.append(
                        {
                            **pair_entries(analysis, pair.small, pair.large),
                            "combination_title": _TITLES[combination],
                            "combination": combination,
                            "members": k,
                            "cost": 100 * k * ratio,
                            **interval_entries("ensemble", own, 100),
                            "deferred": 100 * fraction,
                            **interval_entries("switcher", at_cost(k * ratio, ratio, curve, curves, confidence), 100),
                            **interval_entries("difference", estimate(switched - value, gains, confidence), 100),
                            **interval_entries("large_accuracy", analysis.quality[pair.large], 100),
                        }
                    )
        return rows


ENSEMBLES = BeyondTable(
    name="ensembles",
    title="Ensembles of small runs, and a switcher at equal cost",
    reading=(
        "k runs of the small model together, in FLOPs of one pass of the larger model, against one small run that "
        "defers by margin until it costs as much (at most: all examples deferred). Difference above 0: deferring "
        "is the better use of these FLOPs. Intervals are of examples and runs. Ensembles of few runs share members, so "
        "their spread says little: a run counts as if it moved an ensemble of k by a k-th of what it moves its own "
        "accuracy."
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
    observer=EnsemblesBesideSwitchers,
    rows=EnsemblesBesideSwitchers.rows,
)


def member_counts(runs: int) -> list[int]:
    """Returns how many members ensembles of so many runs have: 1, 2, 3, 5, 10, 20 … up to all runs, at most six."""
    usual = [k for k in (1, 2, 3, 5, 10, 20, 50, 100) if k < runs]
    return [*usual[: _MOST_MEMBER_COUNTS - 1], runs]


@dataclass
class Ensembles:
    """Holds the accuracy of one size's ensembles: of R for each k in `members`.

    The ensemble that starts with run i has the k - 1 runs after it too; after the last run comes the first.
    """

    size: str
    members: list[int]
    accuracy: dict[str, np.ndarray]  # combination -> [len(members), R], fractions
    samples: dict[str, np.ndarray]  # combination -> [len(members), B], means over ensembles
    variance: dict[str, list[Variance]]  # combination -> that of the mean over ensembles, of each k; empty without any

    def estimate(self, combination: str, k: int, confidence: float) -> Estimate:
        """Returns the mean accuracy of the ensembles of k with its t interval, or without one."""
        row = self.members.index(k)
        value = float(self.accuracy[combination][row].mean())
        if not self.variance:
            return Estimate(value)
        return t_estimate(value, self.variance[combination][row], confidence, 0.0, 1.0)


def ensembles_of(
    grid: Grid,
    size: SizeRuns,
    resampling: Resampling,
    influential: InfluentialExamples | None,
    length_normalized: bool = False,
    parallel_map: ParallelMap = map,
) -> Ensembles:
    """Returns the ensembles of a size that has two runs or more, and `correct`.

    Classes have the probabilities that uncertainty is of: `length_normalized` as in `log_probabilities`.

    Examples are resampled for all ensembles alike. A run that is drawn more or less often moves every mean over
    ensembles as it moves the mean over the runs themselves: `variance_of_ensembles` says why. There are variances where
    `influential` says of which examples.
    """
    assert size.correct is not None
    runs, n = size.correct.shape
    members = member_counts(runs)
    right: dict[str, np.ndarray] = {}  # combination -> [len(members), R, n], chance of being right
    if size.task == "classification":
        target = grid.target.recoded(grid.classes)
        tokens = label_tokens(size, len(grid.classes)) if length_normalized else None
        right[MEAN_PROBABILITY] = mean_probability(size.log_likelihoods, target, members, tokens, parallel_map)
        right[MEAN_PROBABILITY][members.index(1)] = size.correct  # one model answers as it did, also where classes tie
    right[MAJORITY] = majority_vote(size.prediction, size.correct, members, parallel_map)
    accuracy, samples, variance = {}, {}, {}
    drawn = resampling.seeds[size.name].T / runs  # [R, B]
    for name, values in right.items():
        columns = np.concatenate([np.ones((1, n), np.float32), values.reshape(-1, n)])
        sums = resampling.total_sums(columns.T)  # [1 + len(members) · R, B]
        shares = (sums[1:] / sums[0]).reshape(len(members), runs, -1)
        accuracy[name] = values.mean(axis=2, dtype=np.float64)
        moved = np.einsum("rb,rb->b", shares[members.index(1)], drawn - 1 / runs)  # by the runs
        samples[name] = shares.mean(axis=1) + moved
        if influential is not None:
            variance[name] = [
                variance_of_ensembles(some, size.correct, influential.rows, influential.clusters) for some in values
            ]
    return Ensembles(size.name, members, accuracy, samples, variance)


def mean_probability(
    log_likelihoods: np.ndarray,
    target: np.ndarray,
    members: list[int],
    tokens: np.ndarray | None = None,
    parallel_map: ParallelMap = map,
) -> np.ndarray:
    """Returns the chance that the class with the highest mean probability is right, for R ensembles of each size.

    Log-likelihoods [R, n, K] and targets [n] -> [len(members), R, n] float32; classes that tie share the chance.
    `tokens` [K] are the labels' token counts, by which their log-likelihoods are divided first; None: they are not.
    Lakshminarayanan et al. 2017: probabilities are averaged, not their logarithms.
    """
    runs, n, classes = log_likelihoods.shape
    right = np.zeros((len(members), runs, n), dtype=np.float32)

    def fill(start: int) -> None:
        some = slice(start, min(start + _ROWS_AT_A_TIME, n))
        values = divided_by_tokens(log_likelihoods[:, some], tokens)
        values = np.exp(values - values.max(axis=2, keepdims=True))
        probability = np.ascontiguousarray((values / values.sum(axis=2, keepdims=True)).transpose(0, 2, 1))  # [R, K, m]
        count = probability.shape[2]
        place = target[some].astype(np.intp) * count + np.arange(count)  # of the right class, in [K, m]
        for first in range(runs):
            # summed anew from each first run on: a sum from which runs are taken away would break ties at random
            total = np.zeros(probability.shape[1:])
            for step in range(members[-1]):
                total += probability[(first + step) % runs]
                if step + 1 not in members:
                    continue
                best = total == total.max(axis=0)  # the mean's order is the sum's, [K, m]
                tied = np.add.reduce(best.view(np.int8), axis=0, dtype=np.int32)
                right[members.index(step + 1), first, some] = best.reshape(-1).take(place) / tied

    list(parallel_map(fill, range(0, n, _ROWS_AT_A_TIME)))
    return right


def majority_vote(
    prediction: np.ndarray, correct: np.ndarray, members: list[int], parallel_map: ParallelMap = map
) -> np.ndarray:
    """Returns the chance that the most frequent prediction is right, for R ensembles of each size in `members`.

    Predictions [R, n] int and correctness [R, n] bool -> [len(members), R, n] float32. Predictions that tie are drawn
    at random. Predictions that are equal must be equally right.
    """
    runs, n = prediction.shape
    right = np.zeros((len(members), runs, n), dtype=np.float32)
    small_count = np.int8 if runs < 128 else np.int16

    def counted(which: np.ndarray) -> np.ndarray:
        """Counts along the first axis, of the R runs: bool [R, m] -> [m], in as few bytes as hold R."""
        count: np.ndarray = np.add.reduce(which.view(np.int8), axis=0, dtype=small_count)
        return count

    def fill(start: int) -> None:
        some = slice(start, start + _ROWS_AT_A_TIME)
        own, is_right = prediction[:, some], correct[:, some]
        same = (own[:, None] == own[None]).view(np.int8)  # [R, R, m]
        for first in range(runs):
            members_so_far: list[int] = []
            votes = np.zeros(own.shape, dtype=small_count)  # of each member's own prediction
            for step in range(members[-1]):
                new = (first + step) % runs
                for one in members_so_far:
                    votes[one] += same[one, new]
                    votes[new] += same[one, new]
                votes[new] += 1
                members_so_far.append(new)
                if step + 1 not in members:
                    continue
                # runs that are no members have no votes, and a member has one at least
                top = votes == votes.max(axis=0)
                # a prediction with v votes is counted v times among its members: each counts 1/v, and v is the most
                right[members.index(step + 1), first, some] = counted(top & is_right) / counted(top)

    list(parallel_map(fill, range(0, n, _ROWS_AT_A_TIME)))
    return right
