"""Estimates the least share of examples to defer: for parts of the larger model's gain, and to lose at most ε of it."""

import math
from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.bootstrap.resampling import Estimate
from metrics.statistics.least_share import (
    CurveMoments,
    Goal,
    excess_variance,
    first_reaching_zero,
    last_below_zero,
    least_share_interval,
    percentile_limits,
    t_limits,
)

PARTS = (0.5, 0.8, 0.95, 0.99)  # of the gain b − a
ALL_DEFERRED = 0.995  # a deferral share from here on saves nothing worth a sentence


@dataclass(frozen=True)
class LeastShares:
    """Holds the least shares of examples to defer by one score of a pair of sizes, fractions 0-1.

    `reaching` has for each of PARTS the least f with S(f) ≥ a + part · (b − a), and its interval; all NaN where b − a
    isn't above 0, or its interval isn't, as there is no gain then to have a part of. `within_epsilon` is the least f
    from which on the lower end of the interval of S(f) − b is at least −ε; NaN without intervals.
    """

    reaching: dict[float, Estimate]
    within_epsilon: float
    epsilon: float
    confidence: float  # of the limits, 0-1

    @property
    def half(self) -> Estimate:
        """Returns the least share that reaches half of the gain."""
        return self.reaching[0.5]

    @property
    def most(self) -> Estimate:
        """Returns the least share that reaches 95 % of the gain."""
        return self.reaching[0.95]

    @property
    def saves(self) -> bool:
        """Tells whether fewer than all examples are enough to lose at most ε; False without intervals."""
        return self.within_epsilon < ALL_DEFERRED


def least_shares(
    pairs: np.ndarray, resampled: np.ndarray, moments: CurveMoments | None, gap: Estimate, config: Metrics
) -> LeastShares:
    """Estimates the least shares of a pair of sizes by one score.

    Args:
        pairs: [R_small, R_large, 101], the curve of each pair of runs at FRACTIONS.
        resampled: [101, B], mean curves of the resamples.
        moments: how the curves vary over examples, for t limits; None where the resamples make the limits (BLEU).
        gap: b − a with its interval.
        config: says the confidence of the limits, and ε, a fraction of accuracy, or of 100 BLEU.

    The limit of S(f) − b is the lower end of its two-sided interval: where few examples decide, a loss that is small by
    chance has a variance that is too, so that a limit of one tail would be broken more often than it says. It is tested
    from f = 1 downward until it first fails, so that no correction for the number of fractions is due (fixed-sequence
    testing: Maurer, Hothorn and Lehmacher 1995).

    """
    tail = 1 - config.confidence
    reaching = {}
    for part in PARTS:
        goal = Goal.part_of_gain(part)
        if not (gap.above_zero or (gap.value > 0 and math.isnan(gap.low))):
            reaching[part] = Estimate(math.nan)
            continue
        point = first_reaching_zero(goal.excess(pairs).mean(axis=(0, 1)))
        first, last = least_share_interval(*_limits(pairs, resampled, moments, goal, tail / 2))
        reaching[part] = Estimate(point, min(first, point), max(last, point))  # NaN stays NaN
    goal = Goal.within(config.epsilon)
    lower, _ = _limits(pairs, resampled, moments, goal, tail / 2)
    within = math.nan if np.isnan(lower).any() else last_below_zero(lower)
    return LeastShares(reaching, within, config.epsilon, config.confidence)


def _limits(
    pairs: np.ndarray, resampled: np.ndarray, moments: CurveMoments | None, goal: Goal, tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper limits of the mean excess over a goal at FRACTIONS, [101] each; NaN without any."""
    if moments is None:
        return percentile_limits(goal.excess(resampled.T).T, tail)
    excess = goal.excess(pairs)
    return t_limits(excess.mean(axis=(0, 1)), *excess_variance(excess, goal, moments), tail)
