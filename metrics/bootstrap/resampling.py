"""Draws the multi-bootstrap: intervals that reflect both seeds and examples (Sellam et al. 2022, MultiBERTs).

One resample draws the seeds of each size with replacement, independently of the other sizes, and the examples with
replacement, the same ones for all runs. A run's scores are kept fixed; a statistic is computed anew from how often each
seed and each example was drawn. Intervals are percentile intervals. Beyond 50,000 examples, random groups of examples
are drawn instead of single ones, 512 groups with replacement, so that the cost of a resample no longer grows with the
number of examples. Examples in clusters are drawn by whole clusters, and groups are then of clusters.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metrics.statistics.switcher import DeferralOrder

# Examples: 4 sizes × 10 seeds of as many take about a minute, as the largest grid does, whose examples are in groups.
MOST_DRAWN_ONE_BY_ONE = 50_000
# The variance over examples is then estimated from as many group means. That has a relative error of √(2 / 511), 6 %,
# and 1,000 resamples add √(2 / 1000), 4 %.
GROUPS = 512

# Ranks are cut into about this many pieces for a resample; sums are linear inside a piece. With n at most this, or
# inside a tie block, that is exact; else a piece is n/512 examples, far below an interval's width.
MICRO_BLOCKS = 512
# For BLEU, which has ten times the sums, and where groups are drawn: a piece is half a percent of the ranks.
FEWER_BLOCKS = 200
_CACHED_NUMBERS = 160_000  # numbers gathered and multiplied at a time, so that they fit a core's cache
_ROWS_AT_A_TIME = 2048
_SUMMED_IN_A_BYTE = 127  # numbers of -1, 0 and 1
_DRAWN_AT_A_TIME = 16  # resamples drawn a call; more calls would wait more often for an import on another thread
NUMBERS_HELD = 1 << 22  # float32 of resampled sums at a time, 16 MiB: more only misses the cache


@dataclass
class Drawn:
    """Holds b of the resamples and how often each unit was drawn in them."""

    index: np.ndarray  # [b] int, which of the B
    weights: np.ndarray  # [units + 1, b] uint8: how often each unit was drawn; the last row is 0, for padding

    def parts(self, numbers: int) -> Iterator["Drawn"]:
        """Yields a few of the resamples at a time, so few that `numbers` float32 for each fit 16 MiB."""
        at_a_time = max(1, NUMBERS_HELD // max(numbers, 1))
        for start in range(0, len(self.index), at_a_time):
            some = slice(start, start + at_a_time)
            yield Drawn(self.index[some], self.weights[:, some])


class Resampling:
    """Draws and holds B resamples, which depend on `seed`, the numbers of runs and the number of examples alone.

    Attributes:
        examples: n.
        clusters: [n] int, which examples are drawn together, 0 … G - 1; None where each is drawn by itself.
        resamples: B.
        seed: what the resamples are drawn from.
        seeds: size -> [B, R] float64, how often each seed was drawn.
        ranking_seeds: the same of a second, independent draw, for the runs that rank Table 2's examples.
        unit: [n] int32, which group each example is in; None where examples are drawn one by one.
        units: how many units there are to draw from, groups or examples.
        everything: all B resamples.

    """

    def __init__(
        self,
        runs: Mapping[str, int],
        examples: int,
        resamples: int,
        seed: int,
        clusters: np.ndarray | None = None,
    ):
        """Draws the resamples; `runs` says how many seeds each size has, the others are attributes."""
        streams = np.random.SeedSequence(seed).spawn(3)
        self.examples, self.resamples, self.seed, self.clusters = examples, resamples, seed, clusters
        self.seeds, self.ranking_seeds = (_draw_seeds(runs, resamples, stream) for stream in streams[:2])
        rng = np.random.default_rng(streams[2])
        self.unit: np.ndarray | None = None
        self.units = examples
        drawn_apart = examples if clusters is None else int(clusters.max()) + 1
        if examples > MOST_DRAWN_ONE_BY_ONE:
            self.units = min(GROUPS, drawn_apart)
            self.unit = rng.permutation(drawn_apart).astype(np.int32) % np.int32(self.units)
            if clusters is not None:
                self.unit = self.unit[clusters]
            drawn_apart = self.units
        weights = np.zeros((drawn_apart + 1, resamples), dtype=np.uint8)
        for start in range(0, resamples, _DRAWN_AT_A_TIME):
            some = weights[:-1, start : start + _DRAWN_AT_A_TIME]
            drawn = rng.integers(0, drawn_apart, size=some.T.shape) + drawn_apart * np.arange(some.shape[1])[:, None]
            some[:] = np.bincount(drawn.ravel(), minlength=some.size).reshape(some.T.shape).T
        if clusters is not None and self.unit is None:
            weights = weights.take(np.append(clusters, drawn_apart), axis=0)  # of each example that of its cluster
        self.everything = Drawn(np.arange(resamples), weights)

    @property
    def note(self) -> str:
        """Says what a reader should know where groups of examples, or of clusters, are drawn."""
        return (
            f"Intervals draw {self.units} random groups of about {self.examples / self.units:,.0f} examples each, "
            f"instead of single {'examples' if self.clusters is None else 'clusters'}."
        )

    def of_run(self, size: str, run: int, ranking: bool = False) -> Drawn:
        """Returns the resamples that drew run number `run` of a size, or drew it for ranking: all but about 1 / e."""
        counts = (self.ranking_seeds if ranking else self.seeds)[size][:, run]
        index = np.flatnonzero(counts)
        return Drawn(index, self.everything.weights.take(index, axis=1))

    def mean_over_pairs(
        self, small: str, large: str, samples: np.ndarray, kept: np.ndarray | None = None
    ) -> np.ndarray:
        """Averages samples over the pairs of drawn runs: [R_small, R_large, B] -> [B].

        `kept` [R_small, R_large] bool says which pairs count, all if not given. NaN where a resample drew none of them.
        """
        weight = np.einsum("bi,bj->ijb", self.seeds[small], self.seeds[large])
        if kept is not None:
            weight *= kept[:, :, None]
        total = weight.sum(axis=(0, 1))
        means: np.ndarray = (weight * samples).sum(axis=(0, 1)) / np.where(total > 0, total, np.nan)
        return means

    def micro_blocks(self, deferral: DeferralOrder, most: int = MICRO_BLOCKS) -> "Blocks":
        """Cuts a switcher's ranks into blocks for `block_sums`, about `most` of them or fewer."""
        return micro_blocks(deferral, most if self.unit is None else min(most, FEWER_BLOCKS))

    def block_sums(self, drawn: Drawn, blocks: "Blocks", values: np.ndarray) -> Iterator[tuple[Drawn, np.ndarray]]:
        """Sums, over each block's examples, how often each was drawn × its values: [n, Q] -> [G, Q, b] float32.

        Values are float32, or int8 or bool of -1, 0 and 1 alone, as in `grouped_sums`. Yields a few of the resamples at
        a time with their sums, as all of them may be too much to hold. Sums of whole numbers are exact as long as they
        stay below 2²⁴.
        """
        if self.unit is None:
            pieces, first = blocks.pieces()
            for part in drawn.parts(len(pieces) * values.shape[1]):
                yield part, _sums_one_by_one(part.weights, pieces, first, values)
            return
        count, q = blocks.count, values.shape[1]
        cells = grouped_sums(
            blocks.block_of_each() * np.int32(self.units) + self.unit, (count + 1) * self.units, values
        )
        by_value = cells.reshape(count + 1, self.units, q)[:-1].transpose(0, 2, 1)
        cells = by_value.reshape(-1, self.units).astype(np.float32, copy=False)  # [G · Q, units]
        for part in drawn.parts(count * q):
            yield part, (cells @ part.weights[:-1].astype(np.float32)).reshape(count, q, -1)

    def total_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums, over all examples, how often each was drawn × its values: [n, Q] -> [Q, B] float64.

        Values are float32, or int8 or bool of -1, 0 and 1 alone, as in `grouped_sums`.
        """
        weights = self.everything.weights
        sums: np.ndarray
        if self.unit is not None:
            part, parts = self._unit_parts if values.itemsize == 1 else (self.unit, 1)
            of_parts = grouped_sums(part, self.units * parts, values).reshape(self.units, parts, -1)
            sums = of_parts.sum(axis=1, dtype=np.float64).T @ weights[:-1]
            return sums
        sums = np.zeros((values.shape[1], weights.shape[1]))
        for start in range(0, len(values), _ROWS_AT_A_TIME):
            some = slice(start, start + _ROWS_AT_A_TIME)
            sums += values[some].T.astype(np.float32, copy=False) @ weights[:-1][some].astype(np.float32)
        return sums

    @functools.cached_property
    def _unit_parts(self) -> tuple[np.ndarray, int]:
        """Cuts each unit into parts of up to 127 examples, whose sums fit a byte: [n] int32, and the parts of a unit.

        The parts of unit u have the numbers from u times the parts of a unit on.
        """
        assert self.unit is not None
        counts = np.bincount(self.unit, minlength=self.units)
        parts = -(-int(counts.max()) // _SUMMED_IN_A_BYTE)
        by_unit = np.argsort(self.unit, kind="stable")
        place = np.arange(self.examples) - np.repeat(np.cumsum(counts) - counts, counts)  # of each within its unit
        part = np.empty(self.examples, dtype=np.int32)
        part[by_unit] = self.unit.take(by_unit) * parts + place // _SUMMED_IN_A_BYTE
        return part, parts


def grouped_sums(group: np.ndarray, groups: int, values: np.ndarray) -> np.ndarray:
    """Sums the values in each group: group [n] int32, values [n, Q] -> [groups, Q].

    Of float32 values the sums are float32. Of int8 or bool, which must be -1, 0 and 1 alone, they are exact and of the
    smallest integer type that holds the number of examples in any group: the fewer bytes, the faster it is.
    """
    from scipy.sparse import csc_matrix  # takes a third of a second to import, and only large data need it

    n = len(values)
    kind: np.dtype = values.dtype
    if kind.itemsize == 1:
        most = int(np.bincount(group, minlength=groups).max(initial=0))
        kind = next(np.dtype(one) for one in (np.int8, np.int16, np.int32) if most <= np.iinfo(one).max)
    belongs = csc_matrix((np.ones(n, dtype=kind), group, np.arange(n + 1, dtype=np.int32)), shape=(groups, n))
    sums: np.ndarray = belongs @ np.ascontiguousarray(values, dtype=kind)
    return sums


def _draw_seeds(runs: Mapping[str, int], resamples: int, stream: np.random.SeedSequence) -> dict[str, np.ndarray]:
    """Draws how often each resample draws each run: size -> [B, R] float64."""
    rng = np.random.default_rng(stream)
    return {
        size: rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
        for size, count in sorted(runs.items())
    }


def interval(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Computes the percentile interval of B samples: [..., B] -> its low and high ends, [...] each.

    NaN samples are left out; an end is NaN if all samples are, or if there are none.
    """
    tail = (1.0 - confidence) / 2.0
    usable = ~np.isnan(samples).all(axis=-1)
    low, high = np.full(samples.shape[:-1], np.nan), np.full(samples.shape[:-1], np.nan)
    if samples.shape[-1] and usable.any():
        # nanquantile goes row by row, so it is kept for where it is needed
        quantile = np.nanquantile if np.isnan(samples).any() else np.quantile
        low[usable], high[usable] = quantile(samples[usable], [tail, 1.0 - tail], axis=-1)
    return low, high


# An end of an interval that is shown as 0.00 points counts as 0, so that a rounding error makes no finding.
_SHOWN_AS_ZERO = 0.00005


@dataclass
class Estimate:
    """Holds a number and the ends of its interval; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def negated(self) -> "Estimate":
        """Returns the estimate of the same quantity with the opposite sign."""
        return Estimate(-self.value, -self.high, -self.low)

    @property
    def has_interval(self) -> bool:
        """Tells whether there is an interval: not where nothing was resampled, and one run alone says too little."""
        return not np.isnan(self.low)

    @property
    def above_zero(self) -> bool:
        """Tells whether the whole interval is above 0, and shown so in points; False without an interval."""
        return self.low > _SHOWN_AS_ZERO

    @property
    def below_zero(self) -> bool:
        """Tells whether the whole interval is below 0, and shown so in points; False without an interval."""
        return self.high < -_SHOWN_AS_ZERO


def estimate(value: float, samples: np.ndarray, confidence: float) -> Estimate:
    """Returns a number with the percentile interval of its samples [B]."""
    low, high = interval(samples, confidence)
    return Estimate(float(value), float(low), float(high))


@dataclass
class Blocks:
    """Holds G blocks of consecutive ranks: whole tie blocks, or up to about n / MICRO_BLOCKS ranks, or groups."""

    order: np.ndarray  # [n] int, examples by rank; those beyond the last block's end are in no block
    bounds: np.ndarray  # [G + 1] int, ranks at which blocks begin and end

    @property
    def count(self) -> int:
        """Counts the blocks, G."""
        return len(self.bounds) - 1

    def block_of_each(self) -> np.ndarray:
        """Returns the number of the block that each example is in: [n] int32, `count` if it is in none."""
        block = np.full(len(self.order), self.count, dtype=np.int32)
        block[self.order[: self.bounds[-1]]] = np.repeat(np.arange(self.count, dtype=np.int32), np.diff(self.bounds))
        return block

    def pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Cuts the blocks into P pieces of m examples each, of which each but a block's last is full.

        Returns the pieces' examples by rank, [P, m] int, filled up with n; and each block's first piece, [G] int.
        """
        n, lengths = len(self.order), np.diff(self.bounds)
        most = max(1, min(-(-n // FEWER_BLOCKS), int(lengths.max(initial=1))))
        count = np.maximum(-(-lengths // most), 1)  # pieces of each block; an empty one has one empty piece
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        block = np.repeat(np.arange(len(lengths)), count)
        start = self.bounds[:-1][block] + (np.arange(len(block)) - first[block]) * most
        ranks = start[:, None] + np.arange(most)
        inside = ranks < self.bounds[1:][block][:, None]
        return np.append(self.order, n)[np.where(inside, ranks, n)], first


def micro_blocks(deferral: DeferralOrder, target: int = MICRO_BLOCKS) -> Blocks:
    """Cuts ranks into about `target` blocks at ends of tie blocks; a tie block above n / target is one by itself."""
    n = deferral.examples
    most = -(-n // target)
    starts, ends = deferral.knots[:-1], deferral.knots[1:]
    long = ends - starts > most
    new = np.ones(len(starts), dtype=bool)
    new[1:] = long[1:] | long[:-1] | (starts[1:] // most != starts[:-1] // most)
    return Blocks(deferral.order, np.append(starts[new], n))


def blocks_of_groups(group: np.ndarray, groups: int) -> Blocks:
    """Makes one block of each group, from the group that each example is in: [n] int, -1 for none."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(groups + 1))
    return Blocks(np.roll(order, -bounds[0]), bounds - bounds[0])


def _sums_one_by_one(weights: np.ndarray, pieces: np.ndarray, first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums, over each block's examples, how often each was drawn × its values: [G, Q, b] float32.

    From `Drawn.weights` [n + 1, b], what `Blocks.pieces` returns, and values [n, Q].
    """
    values = np.concatenate([values, np.zeros((1, values.shape[1]), dtype=values.dtype)])  # example n is padding
    count, b, q = len(pieces), weights.shape[1], values.shape[1]
    sums: np.ndarray = np.empty((count, q, b), dtype=np.float32)
    at_a_time = max(1, _CACHED_NUMBERS // (pieces.shape[1] * max(b, 1)))
    for start in range(0, count, at_a_time):
        some = slice(start, start + at_a_time)
        drawn = weights.take(pieces[some], axis=0).astype(np.float32)
        # [p, m, Q]ᵀ @ [p, m, b] -> [p, Q, b]
        taken = values.take(pieces[some], axis=0).astype(np.float32, copy=False)
        np.matmul(taken.transpose(0, 2, 1), drawn, out=sums[some])
    if count > len(first):
        sums = np.add.reduceat(sums, first, axis=0)
    return sums


@dataclass
class ResampledRanks:
    """Holds cumulated sums of resampled examples in order of rank, to be read off at any fraction of the examples."""

    cumulated: np.ndarray  # [G + 1, Q, b] float32; Q = 0 is the weight itself, which runs from 0 to all drawn

    @classmethod
    def of(cls, sums: np.ndarray) -> "ResampledRanks":
        """Cumulates the sums of blocks [G, Q, b], of which the first of the Q is how many examples were drawn."""
        blocks, q, b = sums.shape
        # in memory by Q first, so that what `at` looks up of each of the Q lies together and fits a core's cache
        cumulated = np.zeros((q, blocks + 1, b), dtype=np.float32).transpose(1, 0, 2)
        for block, row in enumerate(sums):  # np.cumsum along the first axis is several times slower
            np.add(cumulated[block], row, out=cumulated[block + 1])
        return cls(cumulated)

    def at(self, fractions: np.ndarray) -> np.ndarray:
        """Interpolates sums over the first `fractions` of the resampled examples: [F] -> [F, Q, b] float32.

        Fractions are ascending, 0 … 1.
        """
        knots, q, b = self.cumulated.shape
        weight = self.cumulated[:, 0].astype(np.float64)  # [G + 1, b]
        positions = fractions[:, None] * weight[-1]  # [F, b]
        # One sorted search for all resamples: each is shifted beyond the one before it.
        shift = np.arange(b) * (2.0 * weight[-1].max(initial=0.0) + 2.0)
        found = np.searchsorted((weight + shift).T.ravel(), (positions + shift).ravel(), side="left")
        right = np.clip(found.reshape(-1, b) - np.arange(b) * knots, 1, knots - 1)  # [F, b]
        low_weight = np.take_along_axis(weight, right - 1, axis=0)
        step = np.take_along_axis(weight, right, axis=0) - low_weight
        fraction = ((positions - low_weight) / np.where(step > 0, step, 1)).astype(np.float32)
        # [F, b] places in the flat array of one of the Q: several times faster than indexing by two axes
        place = right * b + np.arange(b)
        before = place - b
        result = np.empty((len(fractions), q, b), dtype=np.float32)
        for k in range(q):
            flat = self.cumulated[:, k].reshape(-1)
            low = flat.take(before)
            high = flat.take(place)
            high -= low
            high *= fraction
            high += low
            result[:, k] = high
        return result
