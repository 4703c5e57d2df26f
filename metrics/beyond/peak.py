"""Finds held-out peaks: where to stop deferring is chosen on one half of the examples and scored on the other.

The peak of a noisy curve is biased upward (Table 1 takes the best of 99 fractions on the examples it then reports).
Here the fraction, and which of the two models to compare with, come from one half; the gain is what they give on the
other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.intervals import InfluentialExamples
from metrics.beyond.table import (
    PAIR,
    SCORE,
    BeyondTable,
    Context,
    Observer,
    interval_entries,
    pair_entries,
    score_entries,
)
from metrics.bootstrap.resampling import Resampling, estimate, grouped_sums
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.ranked_sums import RankedSums
from metrics.statistics.switcher import FRACTIONS, INTERIOR, DeferralOrder
from metrics.tables.table import Column, Row

_MOST_HALVES, _LEAST_HALVES = 20, 2
_EXAMPLES_HALVED = 100_000  # n × splits: with many examples a split says little that another one doesn't


@dataclass
class Peak:
    """Holds a held-out peak of one size pair by one score, a mean over pairs of runs. Fractions, 0-1."""

    gain: float
    samples: np.ndarray  # [B]
    optimism: float
    fraction: float  # deferred


class HeldOutPeaks(Observer):
    """Finds the held-out peak of each pair of sizes by each score."""

    needs_right_or_wrong = True
    fewest_examples = 4

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.peaks: dict[Context, dict[tuple[str, str, str], Peak]] = {}  # by (small, large, score)

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        peaks = self.peaks.setdefault(view.context, {})
        halves = halves_of(self.grid.examples, self.config.seed, self.grid.clusters) if view.larger else None
        scores = [score for alike in view.distinct.values() for score in alike]
        if halves is None:
            return
        first = len(peaks)  # each peak draws from a stream of its own

        def peaks_by(score: str) -> list[Peak]:
            """Returns the peak by one score towards each larger size."""
            found = held_out_gains_of_sizes(
                view.orders[score],
                view.gains,
                [len(large.seeds) for large in view.larger],
                halves,
                view.resampling.clusters,
                view.influential,
            )
            streams = (first + place * len(scores) + scores.index(score) for place in range(len(view.larger)))
            return [
                held_out_peak(one, view.resampling, view.size, large, (self.config.seed, stream))
                for one, large, stream in zip(found, view.larger, streams, strict=True)
            ]

        for score, by_size in zip(view.distinct, view.parallel_map(peaks_by, view.distinct), strict=True):
            for large, peak in zip(view.larger, by_size, strict=True):
                for alike in view.distinct[score]:
                    peaks[view.size.name, large.name, alike] = peak

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), in points."""
        rows: list[Row] = []
        n = self.grid.examples
        for pair in analysis.pairs:
            floors = random_peak(pair.bounds.only_large, pair.bounds.only_small, n)
            for score in pair.scores:
                peak = self.peaks[analysis.context][pair.small, pair.large, score]
                held_out = estimate(peak.gain, peak.samples, self.config.confidence)
                rows.append(
                    {
                        **pair_entries(analysis, pair.small, pair.large),
                        **score_entries(score),
                        **interval_entries("held_out", held_out, 100),
                        "optimism": 100 * peak.optimism,
                        "peak": 100 * pair.peak_gain[score].value,
                        "fraction": 100 * peak.fraction,
                        "floor": 100 * float(floors.mean()),
                        "floor_equal": 100 * float(pair.bounds.random_hump.mean()),
                        "halves": splits(n),
                    }
                )
        return rows


def _split_in_signature(config: Metrics) -> list[str]:
    return [f"split:half-seed{config.seed}"]


HELD_OUT_PEAK = BeyondTable(
    name="held_out_peak",
    title="Held-out peak of the switcher curve",
    reading=(
        "The gain over the better single model when the fraction deferred is chosen on one half of the examples "
        "and scored on the other, both ways, over repeated random halves. The interval resamples seeds and "
        "examples and keeps the chosen fractions. Above 0, interval included: mixing beats both models, for good. "
        "Optimism is what the same choice promises on the half it was made on, minus that. The floors are what a "
        "random score's peak reaches on all examples: for models as different as these (exact) and for equally "
        "accurate ones."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("held_out", "Held-out gain", "points", "+.2f", interval=True),
        Column("optimism", "Optimism", "points", ".2f"),
        Column("peak", "Table 1", "points", "+.2f"),
        Column("fraction", "Fraction deferred", "%", ".0f"),
        Column("floor", "Random floor", "points", ".2f"),
        Column("floor_equal", "if equally accurate", "points", ".2f"),
        Column("halves", "Splits", "", "d"),
    ),
    observer=HeldOutPeaks,
    rows=HeldOutPeaks.rows,
    choices=_split_in_signature,
)


def splits(examples: int) -> int:
    """Returns how many random halvings to take: the more the fewer examples there are."""
    return int(np.clip(_EXAMPLES_HALVED // examples, _LEAST_HALVES, _MOST_HALVES))


def halves_of(examples: int, seed: int, clusters: np.ndarray | None = None) -> np.ndarray:
    """Draws random halves, shared by all pairs of sizes, runs and scores: [splits, n] bool.

    With `clusters` [n] int, 0 … G - 1, halves are of whole clusters: the first of a random order whose examples make up
    half of all, or nearly.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(11,)))
    halves = np.zeros((splits(examples), examples), dtype=bool)
    for half in halves:
        if clusters is None:
            half[rng.permutation(examples)[: examples // 2]] = True
        else:
            half[:] = half_of_clusters(clusters, rng)
    return halves


def half_of_clusters(clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws whole clusters that make up half of the examples, or nearly: [n] int, 0 … G - 1, to [n] bool."""
    sizes = np.bincount(clusters)
    order = rng.permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    count = int(np.abs(ends[:-1] - len(clusters) / 2).argmin()) + 1  # of clusters: one at least in either half
    return np.isin(clusters, order[:count])


def held_out_peak(
    result: "HeldOut", resampling: Resampling, small: SizeRuns, large: SizeRuns, seed: tuple[int, ...]
) -> Peak:
    """Returns the peak of one size pair by one score, from what `held_out_gains` found of it."""
    return Peak(
        gain=float(result.gain.mean()),
        samples=resampled_means(result, resampling, small, large, seed),
        optimism=float((result.chosen_on - result.gain).mean()),
        fraction=float(result.fraction.mean()),
    )


@dataclass
class HeldOut:
    """Holds the gains of every pair of runs by one score, means over splits and both directions. Fractions, 0-1."""

    gain: np.ndarray  # [R_small, R_large], on the half that nothing was chosen on
    chosen_on: np.ndarray  # [R_small, R_large], of the same choice on its own half
    fraction: np.ndarray  # [R_small, R_large], deferred
    covariance: np.ndarray  # [P, P], P = R_small · R_large: of `gain` when the examples are resampled


def held_out_gains(
    orders: list[DeferralOrder],
    small_correct: np.ndarray,
    large_correct: np.ndarray,
    halves: np.ndarray,
    clusters: np.ndarray | None = None,
    influential: InfluentialExamples | None = None,
) -> HeldOut:
    """Returns held-out gains, from orders of R_small runs, correctness [R_small, n], [R_large, n], halves [H, n] bool.

    With S of a half by the same ranks, f* = argmax over 0.01 … 0.99 of S and the better of the two models on the one
    half (ties: the least fraction, the smaller model), the gain is S(f*) minus that model's accuracy on the other.
    Each example is once in the other half a split, so a gain is a sum of what each example contributes; resampled, such
    sums are normal with the contributions' covariance. It is taken from the `influential` examples, or from all in
    their `clusters` [n] int, if any; of clusters, contributions are summed in each first.
    """
    gains = [(large_correct.view(np.int8) - own.view(np.int8)) for own in small_correct]
    return held_out_gains_of_sizes(orders, gains, [len(large_correct)], halves, clusters, influential)[0]


def held_out_gains_of_sizes(
    orders: list[DeferralOrder],
    gains: Sequence[np.ndarray],
    runs: Sequence[int],
    halves: np.ndarray,
    clusters: np.ndarray | None = None,
    influential: InfluentialExamples | None = None,
) -> list[HeldOut]:
    """Returns what `held_out_gains` does towards several larger sizes, so that examples are sorted once for all.

    `gains` are d of each small run and the large runs of all sizes in turn, [J, n] int8; each size has so many `runs`.
    """
    n = len(halves[0])
    if influential is None:
        influential = InfluentialExamples(np.arange(n), clusters)
    ends = np.cumsum(runs)[:-1]
    shape = (len(orders), sum(runs))
    gain, chosen_on, fraction = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    contributed: list[list[np.ndarray]] = [[] for _ in runs]  # by size, by small run
    for run, (deferral, own) in enumerate(zip(orders, gains, strict=True)):
        ranked = RankedSums.of_order(deferral.order, own)
        some = _SomeExamples.of_order(deferral, own, influential.rows)
        for half in halves:
            for chosen, other in _both_ways(deferral, half, own, ranked):
                best = chosen.curve[:, INTERIOR].argmax(axis=1)
                peak, held_out = (one.gain_at(best, against=chosen.total) for one in (chosen, other))
                gain[run] += held_out
                chosen_on[run] += peak
                fraction[run] += FRACTIONS[INTERIOR][best]
                some.add(other, best, chosen.total, half.take(influential.rows) == other.value)
        for of_size, part in zip(contributed, np.split(some.contributed(), ends), strict=True):
            of_size.append(part)
    times = 2 * len(halves)
    means = [np.split(sums / times, ends, axis=1) for sums in (gain, chosen_on, fraction)]
    found = []
    for of_size, *of_pairs in zip(contributed, *means, strict=True):
        flat = np.concatenate(of_size) / np.float32(times)  # [P, m]
        covariance = _covariance_of_sums(flat, influential.clusters) * (n / flat.shape[1])
        mean_gain, mean_chosen_on, mean_fraction = map(np.ascontiguousarray, of_pairs)
        found.append(HeldOut(mean_gain, mean_chosen_on, mean_fraction, covariance))
    return found


@dataclass
class _Half:
    """Holds the switcher curves of one half of the examples, in their order among all."""

    value: bool  # what the half is marked by
    examples: int
    start: np.ndarray  # [101] int, the ranks between which each of FRACTIONS cuts the half
    stop: np.ndarray
    part: np.ndarray  # [101], which part of the examples between them is deferred
    curve: np.ndarray  # [J, 101], the sum of d over those deferred
    total: np.ndarray  # [J], the sum of d over all

    @classmethod
    def of_counts(
        cls, deferral: DeferralOrder, value: bool, at: np.ndarray, sums_before: Callable[["_Cuts"], np.ndarray]
    ) -> Self:
        """Returns the half of which `at` [G + 1] examples are before each knot; `sums_before` cuts sums their d."""
        cuts = _Cuts.of_fractions(deferral, at, FRACTIONS)
        sums = sums_before(cuts)
        low, high = sums[:, : len(FRACTIONS)], sums[:, len(FRACTIONS) : -1]
        curve = np.where(cuts.part == 1.0, high, low + cuts.part * (high - low))
        return cls(value, int(at[-1]), cuts.start, cuts.stop, cuts.part, curve, sums[:, -1])

    def gain_at(self, best: np.ndarray, against: np.ndarray) -> np.ndarray:
        """Returns what deferring at the places `best` [J] gains over a model: the larger one where `against` > 0."""
        over = np.where(against > 0, self.total, 0)
        gained: np.ndarray = (self.curve[np.arange(len(best)), best + INTERIOR.start] - over) / self.examples
        return gained


@dataclass
class _Cuts:
    """Holds the tie blocks that fractions of a half cut, as ranks among all examples and among the half's own."""

    start: np.ndarray  # [F] int, the ranks among all between which each fraction cuts the half
    stop: np.ndarray
    part: np.ndarray  # [F], which part of the half's examples between them is deferred
    ranks: np.ndarray  # [2F + 1] int, `start`, then `stop`, then n
    own_ranks: np.ndarray  # [2F + 1] int, how many of the half are before each of these

    @classmethod
    def of_fractions(cls, deferral: DeferralOrder, at: np.ndarray, fractions: np.ndarray) -> Self:
        """Returns the cuts of a half of which `at` [G + 1] examples are before each knot, at `fractions` [F].

        A block that holds none of it is stepped over.
        """
        positions = fractions * at[-1]
        right = np.searchsorted(at, positions, side="left").clip(1)
        step = at[right] - at[right - 1]
        part = np.where(step > 0, (positions - at[right - 1]) / np.where(step > 0, step, 1), 0.0)
        knots = np.concatenate([right - 1, right, [len(at) - 1]])
        ranks = deferral.knots[knots]
        return cls(ranks[: len(part)], ranks[len(part) : -1], part, ranks, at[knots])


def _both_ways(
    deferral: DeferralOrder, half: np.ndarray, gains: np.ndarray, ranked: RankedSums
) -> list[tuple[_Half, _Half]]:
    """Returns (the half to choose on, the other), both ways.

    `half` [n] bool says which examples are in it, `gains` are d [J, n] int8, `ranked` their sums over all examples.
    """
    marked = half.take(deferral.order)
    before = np.zeros(len(marked) + 1, dtype=np.int64)
    np.cumsum(marked, out=before[1:])
    at = before.take(deferral.knots)
    inside = RankedSums.of_order(deferral.order[marked], gains)  # of the half alone: half of the work
    one = _Half.of_counts(deferral, True, at, lambda cuts: inside.before(cuts.own_ranks))
    other = _Half.of_counts(
        deferral,
        False,
        deferral.knots - at,
        lambda cuts: ranked.before(cuts.ranks) - inside.before(cuts.ranks - cuts.own_ranks),
    )
    return [(one, other), (other, one)]


@dataclass
class _SomeExamples:
    """Adds up what each of m examples contributes to one small run's gains towards J larger runs."""

    order: np.ndarray  # [m] int, the examples in the order in which they are deferred
    rank: np.ndarray  # [m] int, their ranks among all, ascending
    gains: np.ndarray  # [J, m] int8, their d
    counted: np.ndarray  # [J, m] float32, how much of each d the gains hold

    @classmethod
    def of_order(cls, deferral: DeferralOrder, gains: np.ndarray, rows: np.ndarray) -> Self:
        """Starts with nothing counted; `gains` are d of all examples, [J, n] int8, `rows` [m] int the examples."""
        rank = deferral.rank.take(rows)
        order = np.argsort(rank)
        ordered = np.ascontiguousarray(gains.T.take(rows.take(order), axis=0).T)
        return cls(order, rank.take(order), ordered, np.zeros(ordered.shape, dtype=np.float32))

    def add(self, other: _Half, best: np.ndarray, total: np.ndarray, inside: np.ndarray) -> None:
        """Counts the examples of the half on which nothing was chosen, which `inside` [m] bool says, in row order."""
        share = inside.take(self.order) * np.float32(1 / other.examples)
        place = best + INTERIOR.start
        starts, stops = (self.rank.searchsorted(edges.take(place)) for edges in (other.start, other.stop))
        for j, (start, stop, part) in enumerate(zip(starts, stops, other.part.take(place), strict=True)):
            if total[j] > 0:  # against the larger model, which answers all of it
                self.counted[j, start:stop] -= np.float32(1 - part) * share[start:stop]
                self.counted[j, stop:] -= share[stop:]
            else:
                self.counted[j, :start] += share[:start]
                self.counted[j, start:stop] += np.float32(part) * share[start:stop]

    def contributed(self) -> np.ndarray:
        """Returns what each example contributes, in row order: [J, m] float32."""
        result = np.empty_like(self.counted)
        result[:, self.order] = self.counted * self.gains
        return result


def _covariance_of_sums(contributed: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    """Returns the covariance of sums over m examples, or `clusters` [m] of them, drawn anew: [P, m] -> [P, P]."""
    drawn = contributed
    if clusters is not None:
        drawn = grouped_sums(clusters, int(clusters.max()) + 1, contributed.T).T
    sums = drawn.sum(axis=1, dtype=np.float64)
    covariance: np.ndarray = (drawn @ drawn.T).astype(np.float64) - np.outer(sums, sums) / drawn.shape[1]
    return covariance


def resampled_means(
    result: HeldOut, resampling: Resampling, small: SizeRuns, large: SizeRuns, seed: tuple[int, ...]
) -> np.ndarray:
    """Resamples the mean gain over pairs of drawn runs: [B]. Seeds are the shared draws; examples their normal limit.

    A gain is a sum over examples, so under resampling the gains of all pairs are jointly normal up to 1/√n.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed[0], spawn_key=(12, *seed[1:])))
    values, vectors = np.linalg.eigh(result.covariance)
    spread = vectors * np.sqrt(np.clip(values, 0, None))  # eigh, as the covariance is often singular
    noise = rng.standard_normal((resampling.resamples, len(values))) @ spread.T  # [B, P]
    gains = (result.gain.ravel() + noise).reshape(-1, *result.gain.shape)
    weights = resampling.seeds[small.name] / len(small.seeds), resampling.seeds[large.name] / len(large.seeds)
    means: np.ndarray = np.einsum("bij,bi,bj->b", gains, *weights)
    return means


def random_peak(only_large: np.ndarray, only_small: np.ndarray, n: int) -> np.ndarray:
    """Returns E max(0, max over [0, 1] of S - max(a, b)) of a random score, exactly: fractions [...], [...] -> [...].

    In random order the W = wn wins and L = l'n losses among d are a walk from 0 to D = W - L. By reflection it reaches
    r ≥ max(D, 0) with probability C(W + L, L + r) / C(W + L, W), so E (max - max(D, 0)) is the sum of those over
    r > max(D, 0) (André's reflection principle; Feller 1968, ch. III). At W = L and many of both it is √(π/8) √(W + L),
    as `random_hump` says.
    """
    from scipy.special import gammaln

    wins, losses = (np.rint(np.asarray(share) * n).astype(np.int64) for share in (only_large, only_small))
    result = np.zeros(wins.shape)
    for index in np.ndindex(wins.shape):
        won, lost = int(wins[index]), int(losses[index])
        # terms fall at least as fast as a normal density of variance about (W + L) / 4
        most = min(won, lost, int(8 * np.sqrt(won + lost)) + 8)
        r = max(won - lost, 0) + np.arange(1, most + 1)
        up = lost + r
        logs = gammaln(won + 1) + gammaln(lost + 1) - gammaln(up + 1) - gammaln(won + lost - up + 1)
        result[index] = np.exp(logs).sum() / n
    return result
