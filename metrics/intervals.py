"""The multi-bootstrap: intervals that carry both the seeds and the examples (Sellam et al. 2022, MultiBERTs).

One resample draws the seeds of each size with replacement, each size by itself, and the examples with replacement,
shared by all runs. A run's scores are kept fixed; a statistic is computed anew from how often each seed and each
example was drawn. An interval is the percentile one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metrics.switcher import DeferralOrder

# Ranks are cut into about this many pieces for a resample; the curve is linear inside a piece. With n at most this,
# or inside a tie block, that is exact; else a piece is n/512 examples, far below an interval's width.
MICRO_BLOCKS = 512
_CHUNK_BYTES = 16_000_000  # of example weights held at a time
_MOST_AT_A_TIME = 500  # resamples, however few the examples
_CACHED_NUMBERS = 160_000  # gathered and multiplied at a time: they should fit a core's cache
_ROWS_AT_A_TIME = 2048


@dataclass
class Chunk:
    """Some of the resamples, b of them, of n examples."""

    index: slice  # which resamples these are
    weights: np.ndarray  # [n + 1, b] uint8: how often each example was drawn; the last row is 0, for padding
    seeds: dict[str, np.ndarray]  # size -> [b, R] float64: how often each seed was drawn
    ranking_seeds: dict[str, np.ndarray]  # a second, independent draw: of the runs that rank Table 2's examples


class Resampling:
    """Resamples drawn from `seed` alone, so that they don't depend on the chunks they are handed out in."""

    def __init__(self, runs: Mapping[str, int], examples: int, resamples: int, seed: int):
        """`runs` says how many seeds each size has."""
        streams = np.random.SeedSequence(seed).spawn(3)
        self.examples, self.resamples = examples, resamples
        self.seeds, self.ranking_seeds = (_draw_seeds(runs, resamples, stream) for stream in streams[:2])
        self._examples_stream = streams[2]

    def chunks(self) -> Iterator[Chunk]:
        """Every resample once, in order, a bounded number at a time."""
        rng, n = np.random.default_rng(self._examples_stream), self.examples
        width = max(1, min(self.resamples, _CHUNK_BYTES // n, _MOST_AT_A_TIME))
        for start in range(0, self.resamples, width):
            index = slice(start, min(start + width, self.resamples))
            weights = np.zeros((n + 1, index.stop - start), dtype=np.uint8)
            for column in range(weights.shape[1]):
                weights[:n, column] = np.bincount(rng.integers(0, n, size=n), minlength=n)
            seeds, ranking = (
                {size: counts[index] for size, counts in drawn.items()} for drawn in (self.seeds, self.ranking_seeds)
            )
            yield Chunk(index, weights, seeds, ranking)

    def mean_over_pairs(
        self, small: str, large: str, samples: np.ndarray, kept: np.ndarray | None = None
    ) -> np.ndarray:
        """Means over pairs of drawn runs, those in `kept` [R_small, R_large] alone: [R_small, R_large, B] -> [B].

        NaN where a resample drew none of the kept pairs.
        """
        weight = np.einsum("bi,bj->ijb", self.seeds[small], self.seeds[large])
        if kept is not None:
            weight *= kept[:, :, None]
        total = weight.sum(axis=(0, 1))
        return (weight * samples).sum(axis=(0, 1)) / np.where(total > 0, total, np.nan)


def _draw_seeds(runs: Mapping[str, int], resamples: int, stream: np.random.SeedSequence) -> dict[str, np.ndarray]:
    """size -> [B, R] float64."""
    rng = np.random.default_rng(stream)
    return {
        size: rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
        for size, count in sorted(runs.items())
    }


def interval(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval over the last axis: [..., B] -> two of [...]. NaN samples are left out; NaN if all are."""
    tail = (1.0 - confidence) / 2.0
    usable = ~np.isnan(samples).all(axis=-1)
    low, high = np.full(samples.shape[:-1], np.nan), np.full(samples.shape[:-1], np.nan)
    if samples.shape[-1] and usable.any():
        # nanquantile goes row by row, so it is kept for where it is needed
        quantile = np.nanquantile if np.isnan(samples).any() else np.quantile
        low[usable], high[usable] = quantile(samples[usable], [tail, 1.0 - tail], axis=-1)
    return low, high


@dataclass
class Estimate:
    """A number and its interval; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0; False without an interval."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is below 0; False without an interval."""
        return self.high < 0


def estimate(value: float, samples: np.ndarray, confidence: float) -> Estimate:
    """A number with the percentile interval of its samples [B]."""
    low, high = interval(samples, confidence)
    return Estimate(float(value), float(low), float(high))


@dataclass
class Blocks:
    """Consecutive ranks in micro-blocks: whole tie blocks, or up to about n / MICRO_BLOCKS ranks."""

    pieces: np.ndarray  # [P, m] int, examples in order of rank; n stands for no example
    starts: np.ndarray  # [G] int, the first piece of each block
    bounds: np.ndarray  # [G + 1] int, ranks at which blocks begin and end


def micro_blocks(deferral: DeferralOrder, target: int = MICRO_BLOCKS) -> Blocks:
    """Cuts ranks into about `target` blocks at ends of tie blocks; a tie block above n / target stands alone."""
    n = deferral.examples
    most = -(-n // target)
    starts, ends = deferral.knots[:-1], deferral.knots[1:]
    long = ends - starts > most
    new = np.ones(len(starts), dtype=bool)
    new[1:] = long[1:] | long[:-1] | (starts[1:] // most != starts[:-1] // most)
    block_starts = starts[new]
    return _blocks(deferral.order, np.append(block_starts, n), most)


def blocks_between(order: np.ndarray, bounds: np.ndarray) -> Blocks:
    """Blocks order[bounds[g]:bounds[g + 1]], empty ones included, in pieces of at most n / MICRO_BLOCKS examples."""
    return _blocks(order, bounds, max(1, -(-len(order) // MICRO_BLOCKS)))


def blocks_of_some(deferral: DeferralOrder, blocks: Blocks, some: np.ndarray) -> Blocks:
    """The same blocks with the examples in `some` [D] alone, by their place there: to sum what is 0 elsewhere."""
    place = np.full(deferral.examples, -1)
    place[some] = np.arange(len(some))
    ranked = place[deferral.order]
    before = np.concatenate([[0], np.cumsum(ranked >= 0)])
    return _blocks(ranked[ranked >= 0], before[blocks.bounds], blocks.pieces.shape[1])


def _blocks(order: np.ndarray, bounds: np.ndarray, most: int) -> Blocks:
    lengths = np.diff(bounds)
    count = np.maximum(-(-lengths // most), 1)  # pieces of each block; an empty one has one empty piece
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    block = np.repeat(np.arange(len(lengths)), count)
    start = bounds[:-1][block] + (np.arange(len(block)) - first[block]) * most
    ranks = start[:, None] + np.arange(most)
    padded = np.append(order, len(order))
    inside = ranks < bounds[1:][block][:, None]
    return Blocks(padded[np.where(inside, ranks, len(order))], first, bounds)


def block_sums(blocks: Blocks, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ over each block's examples of weight × value: [n + 1, b], [n + 1, Q] float32 -> [G, b, Q] float32.

    Where values are whole numbers so are the sums, exactly, as long as they stay below 2²⁴.
    """
    count, b, q = len(blocks.pieces), weights.shape[1], values.shape[1]
    sums = np.empty((count, b, q), dtype=np.float32)
    at_a_time = max(1, _CACHED_NUMBERS // (blocks.pieces.shape[1] * b))
    for start in range(0, count, at_a_time):
        some = slice(start, start + at_a_time)
        drawn = weights.take(blocks.pieces[some], axis=0).astype(np.float32, copy=False)
        # [p, m, b]ᵀ @ [p, m, Q] -> [p, b, Q]
        np.matmul(drawn.transpose(0, 2, 1), values.take(blocks.pieces[some], axis=0), out=sums[some])
    return sums if len(blocks.starts) == count else np.add.reduceat(sums, blocks.starts, axis=0)


def total_sums(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ over all examples of weight × value: [n + 1, b], [n + 1, Q] float32 -> [b, Q] float64."""
    sums = np.zeros((weights.shape[1], values.shape[1]))
    for start in range(0, len(weights), _ROWS_AT_A_TIME):
        some = slice(start, start + _ROWS_AT_A_TIME)
        sums += weights[some].T.astype(np.float32) @ values[some]
    return sums


def padded(values: np.ndarray) -> np.ndarray:
    """[n, Q] -> [n + 1, Q] float32 with a last row of zeros, for `block_sums`."""
    return np.concatenate([values, np.zeros((1, values.shape[1]))]).astype(np.float32, order="C")


@dataclass
class ResampledRanks:
    """Cumulated sums of resampled examples in order of rank, to be read off at any resampled rank."""

    cumulated: np.ndarray  # [G + 1, b, Q] float32; Q = 0 is the weight itself, which runs from 0 to n

    @classmethod
    def of(cls, blocks: Blocks, weights: np.ndarray, values: np.ndarray) -> "ResampledRanks":
        """`values` [n + 1, Q] has a first column of ones."""
        return cls.cumulate(block_sums(blocks, weights, values))

    @classmethod
    def cumulate(cls, sums: np.ndarray) -> "ResampledRanks":
        """From sums of the blocks [G, b, Q], the weight first."""
        cumulated = np.zeros((len(sums) + 1, *sums.shape[1:]), dtype=np.float32)
        for block, row in enumerate(sums):  # np.cumsum along the first axis is several times slower
            np.add(cumulated[block], row, out=cumulated[block + 1])
        return cls(cumulated)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Sums over the first `positions` (ascending, 0 … n) resampled examples: [F] -> [F, b, Q] float32."""
        knots, b, q = self.cumulated.shape
        weight = self.cumulated[:, :, 0]
        # One sorted search for all resamples: each is shifted beyond the one before it.
        shift = np.arange(b) * (2.0 * float(weight[-1, 0]) + 2.0)
        keys = (weight.T + shift[:, None]).ravel()
        found = np.searchsorted(keys, (positions[None, :] + shift[:, None]).ravel(), side="left")
        right = np.clip(found.reshape(b, -1).T - np.arange(b) * knots, 1, knots - 1)  # [F, b]
        rows = self.cumulated.reshape(knots * b, q)
        resample = np.arange(b)
        low, high = rows[(right - 1) * b + resample], rows[right * b + resample]  # [F, b, Q]
        step = high[:, :, 0] - low[:, :, 0]
        share = (positions[:, None] - low[:, :, 0]) / np.where(step > 0, step, 1)
        return low + share.astype(np.float32)[:, :, None] * (high - low)
