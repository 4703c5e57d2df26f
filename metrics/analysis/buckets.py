"""Computes what Figures 1-3 show: quality and outcomes by how uncertain the smallest model is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.bootstrap import OutcomeSamples
from metrics.bootstrap.resampling import Resampling, interval
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.outcomes import OutcomeCodes
from metrics.statistics.switcher import DeferralOrder, sums_at, sums_at_knots
from metrics.statistics.text import corpus_bleu
from metrics.statistics.uncertainty import log_probabilities, log_second

THRESHOLDS = 61  # on Figure 2's x-axis
_BAND_RESAMPLES = 200  # for Figure 2's bands, as its caption says
_LEAST_LOG10 = -12.0  # where Figure 2's x-axis ends at the latest


@dataclass
class BucketQuality:
    """Holds Figure 3: the quality of every size in 100 equal-count buckets of the smallest size's margin.

    Buckets are most certain first; quality is accuracy or BLEU / 100, 0-1.
    """

    quality: dict[str, np.ndarray]  # size -> [100], mean over the runs that rank, and over the runs of the size
    band: dict[str, tuple[np.ndarray, np.ndarray]]  # size -> the ends of the intervals, [100] each


def bucket_quality(
    grid: Grid, orders: Sequence[DeferralOrder], parallel_map: ParallelMap = map
) -> dict[str, np.ndarray]:
    """Computes Figure 3: the quality of every size in 100 buckets, size -> [100], means over the runs that rank.

    `orders` are those in which the margins of the smallest size's runs defer. Of that size it is the quality of the run
    that ranks, of the others the mean of all runs.
    """

    def ranked_by(run: int) -> list[np.ndarray]:
        """Computes the quality of each size in the buckets of one run: [100] each."""
        return [
            run_bucket_quality(orders[run], size, slice(run, run + 1) if size is grid.sizes[0] else slice(None))
            for size in grid.sizes
        ]

    quality = {size.name: np.zeros(100) for size in grid.sizes}
    for ranked in parallel_map(ranked_by, range(len(orders))):
        for name, values in zip(quality, ranked, strict=True):
            quality[name] += values / len(orders)
    return quality


def run_bucket_quality(deferral: DeferralOrder, size: SizeRuns, runs: slice) -> np.ndarray:
    """Computes the quality in 100 equal-count buckets, most certain first, as a mean over some runs of a size: [100].

    Ties are split evenly: of accuracy that is the expected value over their order, of BLEU that of the expected
    statistics.
    """
    positions = np.arange(101) * deferral.examples / 100
    quality: np.ndarray
    if size.correct is not None:
        right = size.correct[runs].view(np.int8)
        sums = sums_at(deferral, sums_at_knots(deferral, right), positions).mean(axis=0)  # [101]
        quality = np.diff(sums)[::-1] / (deferral.examples / 100)
        return quality
    assert size.bleu_stats is not None
    by_run = []
    for stats in size.bleu_stats[runs]:
        sums = sums_at(deferral, sums_at_knots(deferral, stats.T), positions)  # [10, 101]
        # without its rounding a difference of sums is a few hundredths of a count, or none
        by_run.append(corpus_bleu(np.round(np.diff(sums, axis=1)[:, ::-1].T, 9)) / 100)
    quality = np.mean(by_run, axis=0)
    return quality


@dataclass
class Outcomes:
    """Holds what Figures 1 and 2 show of the smallest and the largest size."""

    names: tuple[str, ...]  # K outcomes
    log_uncertainty: np.ndarray  # [n] float64, natural log, of the smallest size's first seed: of p₂, or of the margin
    of_second: bool  # whether it is of p₂, the second most likely class
    small_right: np.ndarray | None  # [n] bool, of that run
    outcome: np.ndarray | None  # [n] int8, place in `names`, of that run and the largest size's first
    thresholds: np.ndarray  # [T], descending margins
    fraction: np.ndarray | None  # [T, K]
    band: tuple[np.ndarray, np.ndarray] | None  # [T, K] each
    examples: np.ndarray | None  # [T], mean over small runs of how many examples are at least as uncertain


def outcomes(grid: Grid, margins: np.ndarray, config: Metrics) -> Outcomes:
    """Computes what Figures 1 and 2 show; `margins` [R, n] are the smallest size's scores, natural logs.

    With one size there is no outcome of a pair: those fields are None.
    """
    small, large = grid.sizes[0], grid.sizes[-1]
    classes = grid.task == "classification"
    log10 = margins / np.log(10.0)
    finite = log10[np.isfinite(log10)]
    lowest = np.floor(finite.min()) if len(finite) else -1.0
    # Margins are at most 1, where p₁ = p₂: equal steps in log₁₀ from there down to the most certain example.

    thresholds = np.linspace(0.0, max(min(lowest, -1.0), _LEAST_LOG10), THRESHOLDS)
    codes = OutcomeCodes(small, large)
    result = Outcomes(
        names=codes.names,
        log_uncertainty=log_second(log_probabilities(small, 0, config.length_normalized)) if classes else margins[0],
        of_second=classes,
        small_right=small.correct[0] if small.correct is not None else None,
        outcome=codes.for_run(0)[0] if large is not small else None,
        thresholds=10.0**thresholds,
        fraction=None,
        band=None,
        examples=None,
    )
    if large is small:
        return result
    runs = {size.name: len(size.seeds) for size in grid.sizes}
    resampling = Resampling(runs, grid.examples, min(config.resamples, _BAND_RESAMPLES), config.seed, grid.clusters)
    samples = OutcomeSamples(small, large, codes, THRESHOLDS, resampling)
    pooled = np.zeros((THRESHOLDS, len(codes.names)))
    for run, own in enumerate(log10):
        first = np.searchsorted(-thresholds, -own, side="left")  # the first threshold each example reaches
        group = np.where(first < THRESHOLDS, first, -1)
        inside = group >= 0
        for outcome in codes.for_run(run):
            cell = group[inside] * len(codes.names) + outcome[inside]
            pooled += np.bincount(cell, minlength=pooled.size).reshape(pooled.shape)
        samples.add(run, group)
    counts = np.cumsum(pooled, axis=0)
    total = counts.sum(axis=1, keepdims=True)
    result.fraction = counts / np.where(total > 0, total, np.nan)
    result.examples = total[:, 0] / (len(small.seeds) * len(large.seeds))
    if resampling.resamples:
        result.band = interval(samples.fraction, config.confidence)
    return result
