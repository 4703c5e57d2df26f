"""What Figures 1-3 show: quality and outcomes by how uncertain the smallest model is."""

from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.bootstrap import OutcomeSamples
from metrics.bootstrap.resampling import Resampling, interval
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.outcomes import OutcomeCodes
from metrics.statistics.switcher import DeferralOrder, sums_at, sums_at_knots
from metrics.statistics.text import corpus_bleu
from metrics.statistics.uncertainty import log_probabilities, log_second

THRESHOLDS = 61  # of Figure 2
_BAND_RESAMPLES = 200  # of Figure 2's bands, as its caption says: enough for a band
_LEAST_LOG10 = -12.0


@dataclass
class BucketQuality:
    """Figure 3: quality of every size in 100 equal-count buckets of the smallest size's margin, ascending."""

    quality: dict[str, np.ndarray]  # [100], accuracy or BLEU / 100, 0-1
    band: dict[str, tuple[np.ndarray, np.ndarray]]


def bucket_quality(deferral: DeferralOrder, size: SizeRuns, runs: slice) -> np.ndarray:
    """Mean over those runs of the quality in 100 equal-count buckets, most certain first: [100].

    Ties are split evenly: of accuracy that is the expected value over their order, of BLEU that of the expected
    statistics.
    """
    positions = np.arange(101) * deferral.examples / 100
    if size.correct is not None:
        right = size.correct[runs].view(np.int8)
        sums = sums_at(deferral, sums_at_knots(deferral, right), positions).mean(axis=0)  # [101]
        return np.diff(sums)[::-1] / (deferral.examples / 100)
    assert size.bleu_stats is not None
    of_runs = []
    for stats in size.bleu_stats[runs]:
        sums = sums_at(deferral, sums_at_knots(deferral, stats.T), positions)  # [10, 101]
        # without its rounding a difference of sums is a few hundredths of a count, or none
        of_runs.append(corpus_bleu(np.round(np.diff(sums, axis=1)[:, ::-1].T, 9)) / 100)
    return np.mean(of_runs, axis=0)


@dataclass
class Outcomes:
    """Figures 1 and 2, of the smallest and the largest size."""

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
    """`margins` [R, n] are the smallest size's scores, natural logs."""
    small, large = grid.sizes[0], grid.sizes[-1]
    classes = grid.task == "classification"
    log10 = margins / np.log(10.0)
    finite = log10[np.isfinite(log10)]
    lowest = np.floor(finite.min()) if len(finite) else -1.0
    # margins end at 1 (all alike); a grid of equal steps in log₁₀, from there down to the most certain example
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
    resampling = Resampling(runs, grid.examples, min(config.resamples, _BAND_RESAMPLES), config.seed)
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
