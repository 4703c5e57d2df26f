"""Makes the intervals that need no resampling: Student's t around a mean, from its variance components."""

import math
from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.bootstrap.resampling import Estimate, estimate, interval
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.components import Variance, variance_of_quality, variance_of_resamples

MOST_INFLUENTIAL = 20_000  # examples: of as many, a variance over examples has a relative error of √(2 / 20,000), 1 %
LEAST_CLUSTERS = 512  # where there are as many: of fewer, a variance over clusters would be known to worse than 6 %
MOST_ON_CURVES = 5_000  # the same of each point of a curve: √(2 / 5,000), 2 %, of the variance is 1 % of a width


@dataclass(frozen=True)
class InfluentialExamples:
    """Names the examples whose influence on a number is taken, and which of them are drawn together."""

    rows: np.ndarray  # [m] int, ascending
    clusters: np.ndarray | None = None  # [m] int, 0 … G - 1; None where each example is drawn by itself


@dataclass(frozen=True)
class ExampleChoice:
    """Chooses the examples whose influence on the tables' numbers is taken: all, or some 20,000 drawn from a seed."""

    seed: int
    clusters: np.ndarray | None = None  # [n] int, the cluster of each of the grid's examples

    def among(self, rows: np.ndarray, most: int = MOST_INFLUENTIAL) -> InfluentialExamples:
        """Returns up to `most` of the examples `rows` [k] int; of clusters, whole ones, and 512 of them or more."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(29,)))
        if self.clusters is None:
            return InfluentialExamples(rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False)))
        _, cluster, sizes = np.unique(self.clusters[rows], return_inverse=True, return_counts=True)
        if len(rows) > most and len(sizes) > LEAST_CLUSTERS:
            order = rng.permutation(len(sizes))
            enough = max(LEAST_CLUSTERS, int(np.searchsorted(np.cumsum(sizes[order]), most)) + 1)
            kept = np.isin(cluster, order[:enough])
            rows, cluster = rows[kept], np.unique(cluster[kept], return_inverse=True)[1]
        return InfluentialExamples(rows, cluster)


def example_choice(grid: Grid, config: Metrics) -> ExampleChoice | None:
    """Returns how to choose the examples whose influence makes the t intervals of a grid.

    None of translations, whose corpus BLEU has no example that is right or wrong, and where `metrics.resamples=0` asks
    for no intervals.
    """
    if grid.task == "translation" or not config.resamples:
        return None
    return ExampleChoice(config.seed, grid.clusters)


def t_estimate(
    value: float, variance: Variance, confidence: float, lowest: float = -np.inf, highest: float = np.inf
) -> Estimate:
    """Returns a number with its t interval, cut at the lowest and the highest value that it can have."""
    half = variance.half_width(confidence)
    return Estimate(float(value), float(max(value - half, lowest)), float(min(value + half, highest)))


def reflected_estimate(cells: np.ndarray, samples: np.ndarray, confidence: float) -> Estimate:
    """Returns the mean of `cells` [R_S, R_L], peaks of curves, with the basic bootstrap interval, made wider twice.

    The basic interval reflects the samples' quantiles in the mean, 2θ - q: what resampling adds to a peak, the noise of
    the data had already added once (Davison and Hinkley 1997, section 5.2). That is right of a sharp peak, whose bias
    grows with the variance of the noise. Of a flat curve it grows with the standard deviation alone, so that
    resampling, which doubles the variance, shows √2 - 1 of it; the lower end therefore takes out (1 + √2) times what it
    adds.

    Around its centre 2θ - mean(samples) the interval is stretched by how much wider t is with the variance of
    `variance_of_resamples` than the samples' own is; with many runs that is next to nothing. No interval without
    samples.
    """
    from scipy.stats import norm

    value = float(cells.mean())
    usable = samples[~np.isnan(samples)]
    if not len(usable):
        return Estimate(value)
    low, high = interval(usable, confidence)
    mean, own = float(usable.mean()), float(norm.isf((1 - confidence) / 2) * usable.std(ddof=min(1, len(usable) - 1)))
    half = variance_of_resamples(cells, usable).half_width(confidence)
    stretch = max(half / own, 1.0) if own > 0 and not np.isnan(half) else 1.0
    centre = 2 * value - mean
    flat = 2**0.5 * max(mean - value, 0.0)
    return Estimate(value, float(centre - flat - stretch * (high - mean)), float(centre + stretch * (mean - low)))


def quality_estimate(
    size: SizeRuns, samples: np.ndarray, influential: InfluentialExamples | None, confidence: float
) -> Estimate:
    """Returns a size's mean quality, 0-1: of accuracy with a t interval, of BLEU with that of its `samples` [B]."""
    value = float(size.quality.mean())
    if influential is None or size.correct is None:
        return estimate(value, samples, confidence)
    return t_estimate(
        value, variance_of_quality(size.correct, influential.rows, influential.clusters), confidence, 0.0, 1.0
    )


def resamples_notes(resamples: int, confidence: float) -> list[str]:
    """Returns what a reader should know of the number of resamples: that there are none, or too few for intervals.

    Quantiles of fewer than 2 / (1 - confidence) resamples lie inside of where they should.
    """
    if not resamples:
        return ["metrics.resamples=0: no intervals."]
    least = math.ceil(round(2 / (1 - confidence), 6))
    if resamples >= least:
        return []
    return [
        f"metrics.resamples={resamples} is too few for {100 * confidence:g} % intervals: those by resamples can't "
        f"reach as far as they should. Expected {least:,} at least; 1,000 are the default."
    ]
