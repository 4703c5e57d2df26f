"""Estimates Table 2: the churn of one size's runs by how uncertain each size is of the example."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

from metrics.analysis.intervals import InfluentialExamples, t_estimate
from metrics.bootstrap import DrawnPairs, churn_samples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate, interval
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.churn import CUT_PERCENT, BucketChurn, bucket_churn, differing_in_buckets, differing_pairs
from metrics.statistics.churn_variance import churn_variance, overall_churn_variance
from metrics.statistics.components import Variance
from metrics.statistics.switcher import DeferralOrder


@dataclass
class ChurningRuns:
    """Holds the runs whose churn Table 2 shows: those of the largest size with two seeds or more."""

    size: SizeRuns
    differing: np.ndarray  # [n] int32, how many pairs of its runs predict differently
    resampling: Resampling

    @cached_property
    def pairs(self) -> DrawnPairs:
        """Returns the pairs of runs that each resample drew: large, and of use only where resamples make intervals."""
        return DrawnPairs(self.size, self.resampling)


@dataclass
class RankedChurn:
    """Holds the churn in five buckets of the margins of one size, the uncertainty size."""

    point: BucketChurn
    samples: np.ndarray  # [5, B], 0-1, most certain half first; B = 0 where variances are known
    variances: list[Variance] | None  # of each bucket; None where the interval is the samples' own

    def interval(self, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of each bucket's interval, [5] each: of t where variances are known, else of the samples."""
        if self.variances is None:
            return interval(self.samples, confidence)
        ends = [
            t_estimate(churn, of_bucket, confidence, 0.0, 1.0)
            for churn, of_bucket in zip(self.point.churn, self.variances, strict=True)
        ]
        return np.array([one.low for one in ends]), np.array([one.high for one in ends])


def churning_runs(grid: Grid, resampling: Resampling) -> ChurningRuns | None:
    """Finds the runs whose churn Table 2 shows; None if no size has two seeds."""
    size = _churning_size(grid)
    if size is None:
        return None
    return ChurningRuns(size, differing_pairs(size.prediction), resampling)


def _churning_size(grid: Grid) -> SizeRuns | None:
    return next((size for size in reversed(grid.sizes) if len(size.seeds) >= 2), None)


def churn_notes(grid: Grid) -> list[str]:
    """Says what a reader of Table 2 should know about which runs it shows."""
    size, largest = _churning_size(grid), grid.sizes[-1]
    if size is None:
        return ["No size has two seeds: no churn, so Table 2 is empty."]
    notes = []
    if size is not largest:
        notes.append(f"{largest.name} has one seed, so Table 2 is of {size.name}, the largest size with two or more.")
    if len(size.seeds) == 2:
        notes.append(
            f"{size.name} has two seeds, hence one pair: Table 2's intervals are of its examples, not of the pair."
        )
    return notes


def ranked_churn(
    churning: ChurningRuns,
    uncertainty_size: SizeRuns,
    orders: Sequence[DeferralOrder],
    parallel_map: ParallelMap,
    influential: InfluentialExamples | None = None,
) -> RankedChurn:
    """Estimates the churn in buckets of one size's margins.

    `orders` are those in which its runs' margins defer; `influential` are the examples whose influence makes the
    intervals, None where resamples do.
    """
    runs, examples = churning.size.prediction.shape
    in_buckets = np.array(
        list(parallel_map(lambda order: differing_in_buckets(order, churning.differing), orders))
    )  # [U, 5]
    return RankedChurn(
        point=bucket_churn(in_buckets, runs, examples),
        samples=churn_samples(churning.pairs, uncertainty_size, orders, parallel_map)
        if influential is None
        else np.zeros((len(CUT_PERCENT) - 1, 0)),
        variances=None
        if influential is None
        else churn_variance(
            churning.size.prediction,
            orders,
            uncertainty_size.name == churning.size.name,
            influential.rows,
            influential.clusters,
            parallel_map,
        ),
    )


def overall_churn(
    churning: ChurningRuns, ranked: RankedChurn, influential: InfluentialExamples | None, confidence: float
) -> Estimate:
    """Estimates the fraction of examples on which two runs differ.

    Its interval is t's, or where there are no `influential` examples that of the samples of all buckets together.
    """
    runs, examples = churning.size.prediction.shape
    value = churning.differing.sum() / (examples * comb(runs, 2))
    if influential is None:
        return estimate(value, np.diff(CUT_PERCENT) / 100 @ ranked.samples, confidence)
    variance = overall_churn_variance(churning.size.prediction, influential.rows, influential.clusters)
    return t_estimate(value, variance, confidence, 0.0, 1.0)
