"""Computes switcher curves: the accuracy of a small model that defers its most uncertain examples to a larger one.

With correctness s of a small run and l of a large run, d = l - s, and examples in descending order of the small run's
uncertainty, S(k/n) = mean(s) + (1/n) Σ_{first k} d, linear between. Inside a block of tied uncertainties the curve is
linear too: the expected value over a random order. So a curve is given by its values at the knots, which are the ends
of the tie blocks, and every statistic follows exactly from integer sums at the knots. Definitions: paper, section 3.3
and Tables 1 and 3. The curves of translation, of corpus BLEU, are computed in `bleu_switcher.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from metrics.statistics.ranked_sums import RankedSums

FRACTIONS = np.arange(101) / 100  # deferral fractions of every stored curve
INTERIOR = slice(1, 100)  # 0.01 … 0.99, where Table 1 looks for the peak and both tables average relative gains

_NUMBERS_AT_A_TIME = 1 << 20  # running sums computed at a time, so that they fit a core's cache


@dataclass
class DeferralOrder:
    """Holds n examples in the order in which they are deferred, and where blocks of tied uncertainties end."""

    order: np.ndarray  # [n] int, most uncertain first
    knots: np.ndarray  # [G + 1] int, 0 … n: how many examples are deferred at the end of each of the G tie blocks

    @property
    def examples(self) -> int:
        """Counts the examples, n."""
        return len(self.order)

    @property
    def tied(self) -> bool:
        """Tells whether any two examples share an uncertainty."""
        return len(self.knots) <= len(self.order)

    @cached_property
    def rank(self) -> np.ndarray:
        """Returns how many examples are deferred before each one, in the order that they have here: [n] int32."""
        rank = np.empty(len(self.order), dtype=np.int32)
        rank[self.order] = np.arange(len(self.order), dtype=np.int32)
        rank.flags.writeable = False
        return rank


def deferral_order(uncertainty: np.ndarray) -> DeferralOrder:
    """Sorts examples by descending uncertainty, [n] of any ordered dtype; equal values are one tie block.

    The order inside a tie block is arbitrary: no statistic may depend on it.
    """
    order = np.argsort(uncertainty)[::-1]
    ranked = uncertainty[order]
    ends = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    if len(ends) == len(order) - 1:
        return DeferralOrder(order, _whole_numbers(len(order)))
    return DeferralOrder(order, np.concatenate([[0], ends, [len(order)]]))


@lru_cache(maxsize=1)
def _whole_numbers(last: int) -> np.ndarray:
    """Returns 0, 1 … last: the knots of every order without ties, which share one array as they are all alike."""
    numbers = np.arange(last + 1)
    numbers.flags.writeable = False
    return numbers


def percentiles(deferral: DeferralOrder, rows: np.ndarray | None = None) -> np.ndarray:
    """Returns how many examples are less uncertain than each, in percent of all: [n] float64, 0-100.

    With `rows` [m] int, it is that of some of the examples alone, [m].

    Examples that are tied with it count half. An example at percentile q is deferred as soon as a fraction of about
    1 - q/100 is deferred. The x-axis of Figure 3.
    """
    if rows is not None:
        start, end = tie_blocks(deferral, rows)
        of_rows: np.ndarray = 100 * (1 - (start + end) / 2 / deferral.examples)
        return of_rows
    middle = (deferral.knots[:-1] + deferral.knots[1:]) / 2
    result = np.empty(deferral.examples)
    result[deferral.order] = np.repeat(100 * (1 - middle / deferral.examples), np.diff(deferral.knots))
    return result


def sums_at_knots(deferral: DeferralOrder, values: np.ndarray) -> np.ndarray:
    """Sums integer `values` [J, n] over the examples deferred at each knot: [J, G + 1] int32 or int64."""
    kind = _kind_of_sums(values)
    sums = np.zeros((len(values), deferral.examples + 1), dtype=kind)
    np.cumsum(values.take(deferral.order, axis=1), axis=1, dtype=kind, out=sums[:, 1:])
    return sums.take(deferral.knots, axis=1) if deferral.tied else sums


def _kind_of_sums(values: np.ndarray) -> type[np.signedinteger]:
    """Chooses the type of sums over the last axis: up to 2²⁴ numbers of one byte have sums below 2³¹."""
    return np.int32 if values.itemsize == 1 and values.shape[-1] < 2**24 else np.int64


def sums_before(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Sums int8 `values` [J, n] over the first `ranks` [T] columns, 0 … n in any order: [J, T] int32 or int64.

    Adds up the columns between ranks, which for few ranks is an order of magnitude faster than a running sum of all.
    """
    ends, place = np.unique(ranks, return_inverse=True)
    starts = np.concatenate([[0], ends[ends > 0]])  # ascending, as `reduceat` wants them
    sums = np.zeros((len(values), len(starts)), dtype=_kind_of_sums(values))
    if len(starts) > 1:
        between = np.add.reduceat(values[:, : starts[-1]], starts[:-1], axis=1, dtype=sums.dtype)
        np.cumsum(between, axis=1, out=sums[:, 1:])
    return sums.take(place + len(starts) - len(ends), axis=1)


def sums_at(deferral: DeferralOrder, at_knots: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolates sums at knots linearly, to the expected sums over the first `positions` examples.

    From sums [J, G + 1] and positions [F] to [J, F] float64. Positions count examples, 0 … n, and need not be whole.
    """
    right = np.searchsorted(deferral.knots, positions, side="left").clip(1)
    left_knot, right_knot = deferral.knots[right - 1], deferral.knots[right]
    fraction = (positions - left_knot) / (right_knot - left_knot)
    low, high = at_knots[:, right - 1], at_knots[:, right]
    return np.where(fraction == 1.0, high, low + fraction * (high - low))


def tie_blocks(deferral: DeferralOrder, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ranks between which each example's tie block lies: rows [m] to its start and its end, [m] int64."""
    rank = deferral.rank.take(rows).astype(np.int64)
    if not deferral.tied:
        return rank, rank + 1
    block = np.searchsorted(deferral.knots, rank, side="right") - 1
    return deferral.knots[block], deferral.knots[block + 1]


def parts_deferred(deferral: DeferralOrder, rows: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Returns the chance that examples are deferred where a fraction of all is: rows [m], fractions [F] -> [F, m].

    It is 0 or 1 but for the tie block that the cut is in, whose examples are in random order.
    """
    start, end = tie_blocks(deferral, rows)
    parts: np.ndarray = ((fractions[:, None] * deferral.examples - start) / (end - start)).clip(0, 1)
    return parts


@dataclass
class SwitcherStatistics:
    """Holds statistics of one small run's switchers to J large runs by one score. Qualities and gains are 0-1."""

    curve: np.ndarray  # [J, 101], S(f) at FRACTIONS
    peak_gain: np.ndarray  # [J], Table 1: max over the interior grid of S, minus max(a, b)
    relative_peak_gain: np.ndarray  # [J], the same over max(a, b); NaN where that is 0
    area: np.ndarray  # [J], Table 3: ∫ (S - chord) df, exact
    relative_area: np.ndarray  # [J], mean over the interior grid of (S - chord) / chord; NaN where a chord is 0
    hump: np.ndarray  # [J], max(0, max over [0, 1] of S - max(a, b))

    def parts(self, runs: Sequence[int]) -> list["SwitcherStatistics"]:
        """Splits the J large runs into those of several sizes, of which each has so many `runs`, in order."""
        ends = np.cumsum(runs)
        return [
            SwitcherStatistics(
                # by columns in memory, as a part computed by itself: means over runs then add up in the same order
                **{name: np.asfortranarray(values[end - count : end]) for name, values in vars(self).items()}
            )
            for count, end in zip(runs, ends.tolist(), strict=True)
        ]


def switcher_statistics(
    deferral: DeferralOrder, small: np.ndarray, large: np.ndarray, ranked: RankedSums | None = None
) -> SwitcherStatistics:
    """Computes the statistics of Tables 1 and 3 and Figures 4-6 of one small run's switchers to J large runs.

    From the correctness of the small run [n] bool and of the large runs [J, n] bool. Sums are of integers, so permuting
    examples changes no bit, and negating the uncertainty negates `area` exactly. `ranked` are the sums of d in the
    order of deferral, where they are at hand.
    """
    n = deferral.examples
    if ranked is None:
        ranked = RankedSums.of_order(deferral.order, large.view(np.int8) - small.view(np.int8))
    right_small, total = int(np.count_nonzero(small)), ranked.total  # total [J] is n(b - a)
    curve = (right_small + _interpolated(deferral, ranked, np.arange(101) * n / 100)) / n  # [J, 101]
    best = np.maximum(total, 0)  # n(max(a, b) - a)
    highest, trapezoids = _highest_and_trapezoids(deferral, ranked)
    return SwitcherStatistics(
        area=(trapezoids - n * total) / (2.0 * n * n),
        hump=(highest - best) / n,
        **on_the_grid(curve, right_small / n, (right_small + total) / n),
    )


def _interpolated(deferral: DeferralOrder, ranked: RankedSums, positions: np.ndarray) -> np.ndarray:
    """Does what `sums_at` does from sums at all knots, of ranked sums: positions [F] to [J, F] float64."""
    right = np.searchsorted(deferral.knots, positions, side="left").clip(1)
    left_knot, right_knot = deferral.knots[right - 1], deferral.knots[right]
    fraction = (positions - left_knot) / (right_knot - left_knot)
    # by columns in memory, as `sums_at` returns them: means over runs then add up in the same order, bit for bit
    low, high = (np.asfortranarray(ranked.before(knots)) for knots in (left_knot, right_knot))
    return np.where(fraction == 1.0, high, low + fraction * (high - low))


def _highest_and_trapezoids(deferral: DeferralOrder, ranked: RankedSums) -> tuple[np.ndarray, np.ndarray]:
    """Returns the highest sum D at a knot, and Σ Δk (D_before + D_after) over tie blocks: whole numbers, [J] each.

    The second is twice the area of the trapezoids below D.
    """
    if not deferral.tied:
        return ranked.highest(), 2 * ranked.sum_of_all() - ranked.total  # D_0 is 0
    steps = np.diff(deferral.knots)
    if 16 * len(steps) < deferral.examples:
        at_knots = ranked.before(deferral.knots)
        return at_knots.max(axis=1), at_knots @ (np.append(steps, 0) + np.insert(steps, 0, 0))
    # of the sum before each rank: how wide the blocks on either side of it are, and 0 inside a block
    weights = np.zeros(deferral.examples + 1)
    weights[deferral.knots] = np.append(steps, 0) + np.insert(steps, 0, 0)
    return ranked.highest(skipped=np.flatnonzero(weights == 0)), ranked.weighted_sum(weights[1:])


def on_the_grid(curve: np.ndarray, small: float, large: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the fields of `SwitcherStatistics` that follow from curves at FRACTIONS, [J, 101] float64.

    `small` is the small run's quality a, `large` [J] are the large runs' qualities b, all 0-1.
    """
    best = np.maximum(small, large)
    peak_gain = curve[:, INTERIOR].max(axis=1) - best
    chord = small + FRACTIONS[INTERIOR] * (large - small)[:, None]  # [J, 99]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative_peak = peak_gain / best
        relative_area = ((curve[:, INTERIOR] - chord) / chord).mean(axis=1)
    return {
        "curve": curve,
        "peak_gain": peak_gain,
        "relative_peak_gain": np.where(np.isfinite(relative_peak), relative_peak, np.nan),
        "relative_area": np.where(np.isfinite(relative_area), relative_area, np.nan),
    }


@dataclass
class PairStatistics:
    """Holds the statistics of all switchers of one pair of sizes by one score, from each small to each large run.

    The arrays are [R_small, R_large, ...]; their meanings are those of `SwitcherStatistics`.
    """

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
        """Returns the same statistics under the name of another score, which orders the examples in the same way."""
        return replace(self, score=score)


def pair_statistics(small: str, large: str, score: str, runs: Sequence[SwitcherStatistics]) -> PairStatistics:
    """Stacks the statistics of the small runs of one size, given in order."""
    return PairStatistics(
        small, large, score, **{name: np.stack([getattr(run, name) for run in runs]) for name in vars(runs[0])}
    )


def disagreement(small_prediction: np.ndarray, large_prediction: np.ndarray) -> np.ndarray:
    """Computes how often each small run and each large run predict differently: mean 1[ŷ_S ≠ ŷ_L].

    From predictions [R_small, n] and [R_large, n] to fractions [R_small, R_large] float64. The x-axis of Figure 6.
    """
    return np.array([[np.mean(one != other) for other in large_prediction] for one in small_prediction])


@dataclass
class Bounds:
    """Holds what a random score and a perfect router reach on each pair of runs; arrays are [R_small, R_large]."""

    only_large: np.ndarray  # w, fraction of examples only the larger model gets right
    only_small: np.ndarray  # l'
    random_hump: np.ndarray  # hump of a random score at a = b: about 0.627 √(Var d / n)
    perfect_hump: np.ndarray  # min(w, l')
    perfect_area: np.ndarray  # [w(1 - w) + l'(1 - l')] / 2


def bounds(small_correct: np.ndarray, large_correct: np.ndarray) -> Bounds:
    """Computes what a random score and a perfect router reach, from correctness [R_small, n] and [R_large, n] bool.

    A random score's gain over the chord at a = b is close to √(Var d / n) times a standard Brownian bridge, whose
    expected maximum over [0, 1] is √(π / 8), about 0.627. A perfect router defers the examples that only the larger
    model gets right first and those that only the smaller one gets right last.
    """
    n = small_correct.shape[1]
    both = np.zeros((len(small_correct), len(large_correct)))
    for start in range(0, n, _NUMBERS_AT_A_TIME):
        some = slice(start, start + _NUMBERS_AT_A_TIME)  # of whole numbers below 2²⁴, float32 makes exact sums
        both += small_correct[:, some].astype(np.float32) @ large_correct[:, some].T.astype(np.float32)
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
