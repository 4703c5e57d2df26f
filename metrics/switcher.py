"""Switcher curves: what a small model scores that hands its most uncertain examples to a larger one.

With correctness s of a small run and l of a large run, d = l - s, and examples in descending order of the small run's
uncertainty, S(k/n) = mean(s) + (1/n) Σ_{first k} d, linear between. Inside a block of tied uncertainties the curve is
linear too: the expected value over a random order. So a curve is its knots, the ends of the tie blocks, and every
statistic follows exactly from integer sums at the knots. Definitions: paper, section 3.3 and Tables 1 and 3.
"""

from dataclasses import dataclass, replace

import numpy as np

FRACTIONS = np.arange(101) / 100  # deferral fractions of every stored curve
INTERIOR = slice(1, 100)  # 0.01 … 0.99, where Table 1 looks for the peak and both tables average relative gains


@dataclass
class DeferralOrder:
    """Examples in the order of deferral, and where blocks of tied uncertainties end."""

    order: np.ndarray  # [n] int, most uncertain first
    knots: np.ndarray  # [G + 1] int, 0 … n: examples deferred at the end of each tie block

    @property
    def examples(self) -> int:
        return len(self.order)


def deferral_order(uncertainty: np.ndarray) -> DeferralOrder:
    """Sorts by descending uncertainty, [n] of any ordered dtype; equal values are one tie block."""
    order = np.argsort(uncertainty, kind="stable")[::-1]
    ranked = uncertainty[order]
    ends = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    return DeferralOrder(order, np.concatenate([[0], ends, [len(order)]]))


def percentiles(deferral: DeferralOrder) -> np.ndarray:
    """How many examples are less uncertain than each, in percent of all, ties counting half: [n] float64, 0-100.

    An example at percentile q is deferred once a fraction of about 1 - q/100 is; Figure 3's x-axis.
    """
    middle = (deferral.knots[:-1] + deferral.knots[1:]) / 2
    result = np.empty(deferral.examples)
    result[deferral.order] = np.repeat(100 * (1 - middle / deferral.examples), np.diff(deferral.knots))
    return result


def sums_at_knots(deferral: DeferralOrder, values: np.ndarray) -> np.ndarray:
    """Sums of integer `values` [n, J] over the examples deferred at each knot: [G + 1, J] int64."""
    sums = np.cumsum(values[deferral.order], axis=0, dtype=np.int64)
    return np.concatenate([np.zeros((1, values.shape[1]), np.int64), sums[deferral.knots[1:] - 1]])


def sums_at(deferral: DeferralOrder, at_knots: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Expected sums over the first `positions` examples, linear between knots: [G + 1, J], [F] -> [F, J] float64.

    Positions count examples, 0 … n, and need not be whole.
    """
    right = np.searchsorted(deferral.knots, positions, side="left").clip(1)
    left_knot, right_knot = deferral.knots[right - 1], deferral.knots[right]
    share = ((positions - left_knot) / (right_knot - left_knot))[:, None]
    low, high = at_knots[right - 1], at_knots[right]
    return np.where(share == 1.0, high, low + share * (high - low))


@dataclass
class SwitcherStatistics:
    """One small run's switchers to J large runs by one score. Accuracies and gains are fractions, 0-1."""

    curve: np.ndarray  # [101, J], S(f) at FRACTIONS
    peak_gain: np.ndarray  # [J], Table 1: max over the interior grid of S, minus max(a, b)
    relative_peak_gain: np.ndarray  # [J], the same over max(a, b); NaN where that is 0
    area: np.ndarray  # [J], Table 3: ∫ (S - chord) df, exact
    relative_area: np.ndarray  # [J], mean over the interior grid of (S - chord) / chord; NaN where a chord is 0
    hump: np.ndarray  # [J], max(0, max over [0, 1] of S - max(a, b))


def switcher_statistics(deferral: DeferralOrder, small: np.ndarray, large: np.ndarray) -> SwitcherStatistics:
    """Every statistic of Tables 1 and 3 and Figures 4-6, from correctness of a small run [n] and of large runs [n, J].

    Sums are of integers, so permuting examples changes no bit, and negating the uncertainty negates `area` exactly.
    """
    n = deferral.examples
    gains = large.astype(np.int8) - small.astype(np.int8)[:, None]  # d, [n] -> [n, J]
    right_small = int(np.count_nonzero(small))
    at_knots = sums_at_knots(deferral, gains)  # [G + 1, J]
    total = at_knots[-1]  # n(b - a)
    at_grid = sums_at(deferral, at_knots, np.arange(101) * n / 100)  # [101, J]
    curve = (right_small + at_grid) / n
    best = np.maximum(total, 0)  # n(max(a, b) - a)
    peak_gain = (at_grid[INTERIOR].max(axis=0) - best) / n
    # trapezoids: Σ Δk (D_before + D_after) / 2, less the chord's n·D_n / 2, over n²; whole numbers up to the division
    steps = np.diff(deferral.knots)
    twice = (steps[:, None] * (at_knots[1:] + at_knots[:-1])).sum(axis=0) - n * total
    chord = (right_small + FRACTIONS[INTERIOR, None] * total) / n  # [99, J]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative_peak = peak_gain / ((right_small + best) / n)
        relative_area = ((curve[INTERIOR] - chord) / chord).mean(axis=0)
    return SwitcherStatistics(
        curve=curve,
        peak_gain=peak_gain,
        relative_peak_gain=np.where(np.isfinite(relative_peak), relative_peak, np.nan),
        area=twice / (2.0 * n * n),
        relative_area=np.where(np.isfinite(relative_area), relative_area, np.nan),
        hump=(at_knots.max(axis=0) - best) / n,
    )


@dataclass
class PairStatistics:
    """Every (small run, large run) switcher of one size pair by one score; arrays are [R_small, R_large, ...]."""

    small: str
    large: str
    score: str
    curve: np.ndarray  # [R_small, R_large, 101]
    peak_gain: np.ndarray
    relative_peak_gain: np.ndarray
    area: np.ndarray
    relative_area: np.ndarray
    hump: np.ndarray

    def renamed(self, score: str) -> "PairStatistics":
        """The same statistics by the name of a score that orders alike."""
        return replace(self, score=score)


def pair_statistics(
    small: str,
    large: str,
    score: str,
    deferrals: list[DeferralOrder],
    small_correct: np.ndarray,
    large_correct: np.ndarray,
) -> PairStatistics:
    """Stacks `switcher_statistics` over the small runs: correctness [R_small, n], [R_large, n]."""
    runs = [
        switcher_statistics(deferral, correct, large_correct.T) for deferral, correct in zip(deferrals, small_correct)
    ]
    return PairStatistics(
        small=small,
        large=large,
        score=score,
        curve=np.stack([run.curve.T for run in runs]),
        peak_gain=np.stack([run.peak_gain for run in runs]),
        relative_peak_gain=np.stack([run.relative_peak_gain for run in runs]),
        area=np.stack([run.area for run in runs]),
        relative_area=np.stack([run.relative_area for run in runs]),
        hump=np.stack([run.hump for run in runs]),
    )


def disagreement(small_prediction: np.ndarray, large_prediction: np.ndarray) -> np.ndarray:
    """mean 1[ŷ_S ≠ ŷ_L]: predictions [R_small, n], [R_large, n] -> [R_small, R_large] float64, fractions."""
    return np.array([[np.mean(one != other) for other in large_prediction] for one in small_prediction])


@dataclass
class Bounds:
    """What chance and a perfect router reach on one (small run, large run) pair; arrays are [R_small, R_large]."""

    only_large: np.ndarray  # w, fraction of examples only the larger model gets right
    only_small: np.ndarray  # l'
    random_hump: np.ndarray  # hump of a random score at a = b: about 0.627 √(Var d / n)
    perfect_hump: np.ndarray  # min(w, l')
    perfect_area: np.ndarray  # [w(1 - w) + l'(1 - l')] / 2


def bounds(small_correct: np.ndarray, large_correct: np.ndarray) -> Bounds:
    """From correctness [R_small, n] and [R_large, n]. 0.627 is E max over [0, 1] of a standard Brownian bridge."""
    n = small_correct.shape[1]
    both = small_correct.astype(np.float64) @ large_correct.T.astype(np.float64)
    only_large = (large_correct.sum(axis=1)[None, :] - both) / n
    only_small = (small_correct.sum(axis=1)[:, None] - both) / n
    variance = only_large + only_small - (only_large - only_small) ** 2
    return Bounds(
        only_large=only_large,
        only_small=only_small,
        random_hump=np.sqrt(np.pi / 8) * np.sqrt(variance / n),
        perfect_hump=np.minimum(only_large, only_small),
        perfect_area=(only_large * (1 - only_large) + only_small * (1 - only_small)) / 2,
    )
