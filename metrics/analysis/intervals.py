"""Makes the intervals that need no resampling: Student's t around a mean, from its variance components."""

import numpy as np

from conf.schema import Metrics
from metrics.bootstrap.resampling import Estimate, estimate
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.components import Variance, variance_of_quality

MOST_INFLUENTIAL = 20_000  # examples: of as many, a variance over examples has a relative error of √(2 / 20,000), 1 %

MOST_ON_CURVES = 5_000  # the same of each point of a curve: √(2 / 5,000), 2 %, of the variance is 1 % of a width


def influential_rows(grid: Grid, config: Metrics) -> np.ndarray | None:
    """Returns the examples whose influence on the tables' numbers is taken: all, or 20,000 drawn from `metrics.seed`.

    [m] int, ascending; None of translations, whose corpus BLEU has no example that is right or wrong, and where
    `metrics.resamples=0` asks for no intervals.
    """
    if grid.task == "translation" or not config.resamples:
        return None
    if grid.examples <= MOST_INFLUENTIAL:
        return np.arange(grid.examples)
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(29,)))
    return np.sort(rng.choice(grid.examples, MOST_INFLUENTIAL, replace=False))


def rows_on_curves(influential: np.ndarray | None, config: Metrics) -> np.ndarray | None:
    """Returns the examples whose influence on the points of curves is taken: [m] int, ascending, of `influential`.

    All, or 5,000 drawn from `metrics.seed`; None where `influential` is.
    """
    if influential is None or len(influential) <= MOST_ON_CURVES:
        return influential
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(31,)))
    return np.sort(rng.choice(influential, MOST_ON_CURVES, replace=False))


def t_estimate(
    value: float, variance: Variance, confidence: float, lowest: float = -np.inf, highest: float = np.inf
) -> Estimate:
    """Returns a number with its t interval, cut at the lowest and the highest value that it can have."""
    half = variance.half_width(confidence)
    return Estimate(float(value), float(max(value - half, lowest)), float(min(value + half, highest)))


def quality_estimate(
    size: SizeRuns, samples: np.ndarray, influential: np.ndarray | None, confidence: float
) -> Estimate:
    """Returns a size's mean quality, 0-1: of accuracy with a t interval, of BLEU with that of its `samples` [B]."""
    value = float(size.quality.mean())
    if influential is None or size.correct is None:
        return estimate(value, samples, confidence)
    return t_estimate(value, variance_of_quality(size.correct, influential), confidence, 0.0, 1.0)
