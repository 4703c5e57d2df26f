"""What follows the orders in which a size's runs defer: point estimates, samples, Table 2, Figure 3, percentiles."""

from collections.abc import Mapping
from concurrent.futures import Executor
from math import comb

import numpy as np

from conf.schema import SCORES
from metrics.analysis.buckets import BucketQuality, bucket_quality
from metrics.analysis.shown_examples import Percentiles
from metrics.bootstrap import ChurnSamples, DrawnPairs, RunSamples, switcher_samples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate, interval
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.bleu_switcher import bleu_statistics_of_switchers
from metrics.statistics.churn import CUT_PERCENT, BucketChurn, bucket_churn, differing_in_buckets, differing_pairs
from metrics.statistics.switcher import (
    DeferralOrder,
    PairStatistics,
    SwitcherStatistics,
    deferral_order,
    pair_statistics,
    switcher_statistics,
)

# the scores that depend on the context whose tokens they are of
OF_TOKENS = tuple(score for score in SCORES if "churn" not in score)


class Orders:
    """What follows the orders in which one size's runs defer, by each score."""

    def __init__(
        self,
        grid: Grid,
        place: int,
        scores: Mapping[str, np.ndarray],
        resampling: Resampling,
        table2: "Table2",
        buckets: BucketQuality,
        rows: np.ndarray,
        other_context: "Orders | None",
    ):
        """Of the size at `place` in the grid; `rows` are the examples whose percentiles are wanted.

        Scores that both contexts have alike, as churn, are taken from the other one's where it is there already.
        """
        self._grid, self._scores, self._table2, self._buckets = grid, scores, table2, buckets
        self._small = small = grid.sizes[place]
        larger = grid.sizes[place + 1 :]
        self._smallest = place == 0
        self.point, self.ranks = Switchers(small, larger), Percentiles(len(small.seeds), rows)
        self.samples = switcher_samples(small, larger, resampling) if larger else None
        # the largest size defers to none, but its margins rank Table 2
        self.distinct = distinct_scores(scores) if larger or self._smallest else {"margin": ["margin"]}
        self._missing = [score for score in self.distinct if other_context is None or score in OF_TOKENS]
        for score in self.distinct:
            if other_context is not None and score not in self._missing:
                self.point.take_over(other_context.point, score)
                self.ranks.take_over(other_context.ranks, score)
                if self.samples is not None and other_context.samples is not None:
                    self.samples.take_over(other_context.samples, score)

    def add(self, run: int, pool: Executor) -> None:
        """One run, its scores side by side: a score adds to its own sums alone, run by run, so nothing else counts."""
        drawn = self.samples.run(run) if self.samples is not None else None
        list(pool.map(lambda score: self._add(run, score, drawn), self._missing))

    def _add(self, run: int, score: str, drawn: RunSamples | None) -> None:
        deferral = deferral_order(self._scores[score][run])
        if drawn is not None or self._smallest:
            self.ranks.add(score, deferral)
        if drawn is not None:
            self.point.add(score, run, deferral)
            drawn.add(score, deferral)
        if score == "margin":
            self._table2.add(self._small, run, deferral)
            if self._smallest:
                _add_buckets(self._buckets, self._grid, run, deferral)

    def let_go(self) -> None:
        """Of the scores, which are most of what it holds."""
        self._scores = {}

    def share(self) -> None:
        """Scores that order alike have one's samples."""
        for score, others in self.distinct.items():
            for other in others[1:]:
                if self.samples is not None:
                    self.samples.share(other, score)


def statistics_of(deferral: DeferralOrder, small: SizeRuns, run: int, large: SizeRuns) -> SwitcherStatistics:
    """One small run's switchers to each run of a larger size, judged as the task is."""
    if small.bleu_stats is not None and large.bleu_stats is not None:
        return bleu_statistics_of_switchers(deferral, small.bleu_stats[run], large.bleu_stats)
    assert small.correct is not None and large.correct is not None
    return switcher_statistics(deferral, small.correct[run], large.correct)


class Switchers:
    """The point estimates of one small size's switchers, run by run."""

    def __init__(self, small: SizeRuns, larger: list[SizeRuns]):
        self._small, self._larger = small, larger
        self._runs: dict[tuple[str, str], list[SwitcherStatistics]] = {}  # (large, score) -> by small run

    def add(self, score: str, run: int, deferral: DeferralOrder) -> None:
        for large in self._larger:
            of = statistics_of(deferral, self._small, run, large)
            self._runs.setdefault((large.name, score), []).append(of)

    def take_over(self, other: "Switchers", score: str) -> None:
        """A score's statistics, of all runs."""
        for large in self._larger:
            self._runs[large.name, score] = other._runs[large.name, score]

    def pair(self, large: SizeRuns, distinct: Mapping[str, list[str]]) -> dict[str, PairStatistics]:
        of = {
            score: pair_statistics(self._small.name, large.name, score, self._runs[large.name, score])
            for score in distinct
        }
        alike = {other: of[score].renamed(other) for score, others in distinct.items() for other in others}
        return {score: alike[score] for score in SCORES if score in alike}


class Table2:
    """Churn of the largest size with two seeds, by the margins of every size."""

    def __init__(self, grid: Grid, resampling: Resampling, notes: list[str]):
        self._sizes, self._resampling = grid.sizes, resampling
        self._churning = next((size for size in reversed(grid.sizes) if len(size.seeds) >= 2), None)
        self._in_buckets: dict[str, list[np.ndarray]] = {size.name: [] for size in grid.sizes}
        self._samples: dict[str, ChurnSamples] = {}
        if self._churning is None:
            notes.append("No size has two seeds: no churn, so Table 2 is empty.")
            return
        if self._churning is not grid.sizes[-1]:
            notes.append(
                f"{grid.sizes[-1].name} has one seed, so Table 2 is of {self._churning.name}, the largest size with "
                "two or more."
            )
        if len(self._churning.seeds) == 2:
            notes.append(
                f"{self._churning.name} has two seeds, hence one pair: Table 2's intervals resample its examples, not "
                "the pair."
            )
        self._differing = differing_pairs(self._churning.prediction)
        self._pairs = DrawnPairs(self._churning, resampling)

    def add(self, size: SizeRuns, run: int, deferral: DeferralOrder) -> None:
        if self._churning is None:
            return
        self._in_buckets[size.name].append(differing_in_buckets(deferral, self._differing))
        if size.name not in self._samples:
            self._samples[size.name] = ChurnSamples(self._pairs, size)
        self._samples[size.name].add(run, deferral)

    def overall(self, confidence: float) -> Estimate | None:
        """Over all buckets: the share of examples on which two runs differ. None without two runs."""
        if self._churning is None:
            return None
        runs, n = self._churning.prediction.shape
        samples = np.diff(CUT_PERCENT) / 100 @ self._samples[self._churning.name].churn
        return estimate(self._differing.sum() / (n * comb(runs, 2)), samples, confidence)

    def rows(self, confidence: float) -> list[tuple[str, str, BucketChurn, tuple[np.ndarray, np.ndarray]]]:
        if self._churning is None:
            return []
        runs, n = self._churning.prediction.shape
        return [
            (
                *(size.name, self._churning.name),
                bucket_churn(np.array(self._in_buckets[size.name]), runs, n),
                interval(self._samples[size.name].churn, confidence),
            )
            for size in self._sizes
        ]


def distinct_scores(scores: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Scores that are one array, as margin and entropy of two classes are, by the first of them."""
    groups: dict[str, list[str]] = {}
    for score, values in scores.items():
        first = next((known for known in groups if scores[known] is values), score)
        groups.setdefault(first, []).append(score)
    return groups


def _add_buckets(buckets: BucketQuality, grid: Grid, run: int, deferral: DeferralOrder) -> None:
    """Figure 3: of the size that ranks, the ranking run; of the others, all runs."""
    for size in grid.sizes:
        runs = slice(run, run + 1) if size is grid.sizes[0] else slice(None)
        buckets.quality[size.name] += bucket_quality(deferral, size, runs) / len(grid.sizes[0].seeds)
