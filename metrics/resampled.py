"""Multi-bootstrap samples of every statistic of a grid: Tables 1-3, mean curves, slices and Figures 2, 3 and 6.

Each class holds one family of statistics; `add` takes a chunk of resamples and fills in its samples, B in all. Means
over runs weigh each run by how often the resample drew its seed.
"""

from typing import Protocol

import numpy as np

from metrics.churn import CUT_PERCENT, differing_pairs
from metrics.grid import SizeRuns
from metrics.intervals import (
    Chunk,
    ResampledRanks,
    block_sums,
    blocks_between,
    blocks_of_some,
    micro_blocks,
    padded,
    total_sums,
)
from metrics.switcher import INTERIOR, DeferralOrder


class Samples(Protocol):
    """One family of statistics under resampling."""

    def add(self, chunk: Chunk) -> None:
        """Fills in the samples of the chunk's resamples."""


class SwitcherSamples:
    """Switchers of one small size to every larger one, score by score.

    Attributes, keyed by (large, score):
        peak_gain, area: Tables 1 and 3, fractions. [B]
        small_sums, large_sums: examples among the first f·n deferred that the small and the larger model get right,
            means over runs, as fractions of n, at f = 0, 0.01 … 1. [101, B]
    and by large alone, of the margin:
        hump: of each pair of runs. [R_small, R_large, B]
    """

    def __init__(
        self, small: SizeRuns, larger: list[SizeRuns], deferrals: dict[str, list[DeferralOrder]], resamples: int
    ):
        self.small, self.larger = small, larger
        self.peak_gain: dict[tuple[str, str], np.ndarray] = {}
        self.area: dict[tuple[str, str], np.ndarray] = {}
        self.small_sums: dict[tuple[str, str], np.ndarray] = {}
        self.large_sums: dict[tuple[str, str], np.ndarray] = {}
        self.hump = {
            large.name: np.zeros((len(small.seeds), len(large.seeds), resamples), dtype=np.float32) for large in larger
        }
        self._large = np.concatenate([large.correct for large in larger])  # [ΣR_large, n]
        self._deferrals: dict[str, list[DeferralOrder]] = {}
        for score, orders in deferrals.items():
            # Scores that order alike, as margin and entropy of two classes do, share their samples.
            same = next((known for known, others in self._deferrals.items() if others is orders), None)
            if same is None:
                self._deferrals[score] = orders
            for large in larger:
                for samples, shape in (
                    (self.peak_gain, (resamples,)),
                    (self.area, (resamples,)),
                    (self.small_sums, (101, resamples)),
                    (self.large_sums, (101, resamples)),
                ):
                    key = (large.name, score)
                    samples[key] = np.zeros(shape) if same is None else samples[large.name, same]
        self._blocks = {
            score: [micro_blocks(deferral) for deferral in orders] for score, orders in self._deferrals.items()
        }

    def add(self, chunk: Chunk) -> None:
        n, runs = self.small.correct.shape[1], len(self.small.seeds)
        for run in range(runs):
            # A resample that didn't draw this seed needs nothing of it, and about 1 / e of them didn't.
            drawn = np.flatnonzero(chunk.seeds[self.small.name][:, run])
            if not len(drawn):
                continue
            weights = chunk.weights.take(drawn, axis=1)
            values = padded(np.concatenate([np.ones((1, n)), self.small.correct[run : run + 1], self._large]).T)
            for score, blocks in self._blocks.items():
                self._add_run(score, run, ResampledRanks.of(blocks[run], weights, values), chunk, drawn)

    def _add_run(self, score: str, run: int, ranks: ResampledRanks, chunk: Chunk, drawn: np.ndarray) -> None:
        cumulated, n = ranks.cumulated, self.small.correct.shape[1]
        where = np.arange(chunk.index.start, chunk.index.stop)[drawn]
        small_weight = chunk.seeds[self.small.name][drawn, run] / len(self.small.seeds)  # [b]
        at_grid = ranks.at(np.arange(101) * n / 100)  # [101, b, Q]
        weight, small = cumulated[:, :, 0], cumulated[:, :, 1]
        start = 2
        for large in self.larger:
            of_large = slice(start, start + len(large.seeds))
            start = of_large.stop
            key = (large.name, score)
            large_weight = (chunk.seeds[large.name][drawn] / len(large.seeds)).astype(np.float32)  # [b, J]
            total = cumulated[-1, :, of_large] - small[-1][:, None]  # [b, J], n(b - a)
            best = np.maximum(total, 0)
            peak = (at_grid[INTERIOR, :, of_large] - at_grid[INTERIOR, :, 1:2]).max(axis=0)
            self.peak_gain[key][where] += small_weight * (large_weight * (peak - best)).sum(axis=1) / n
            # the area is linear in the large runs, so their mean is enough: [G + 1, b]
            gain = np.einsum("gbj,bj->gb", cumulated[:, :, of_large], large_weight) - small
            steps = np.diff(weight, axis=0)
            twice = (steps * (gain[1:] + gain[:-1])).sum(axis=0, dtype=np.float64) - n * gain[-1].astype(np.float64)
            self.area[key][where] += small_weight * twice / (2.0 * n * n)
            self.small_sums[key][:, where] += small_weight * at_grid[:, :, 1] / n
            mean_large = np.einsum("fbj,bj->fb", at_grid[:, :, of_large], large_weight)
            self.large_sums[key][:, where] += small_weight * mean_large / n
            if score == "margin":
                highest = (cumulated[:, :, of_large] - small[:, :, None]).max(axis=0)
                self.hump[large.name][run][:, where] = ((highest - best) / n).T


class ChurnSamples:
    """Table 2: churn of R ≥ 2 runs in the five buckets of each of U runs' margins. `churn` is [5, B], fractions.

    Copies of one run in a resample are not two runs, so they make no pair; a resample that drew one run alone has no
    pair at all and is NaN. The runs that rank are drawn apart from the runs that churn even where the two sizes are
    one: drawn together, a resample's fewer distinct runs would rank by their own flips more often than the data do.
    """

    def __init__(self, churning: SizeRuns, uncertainty_size: SizeRuns, margins: list[DeferralOrder], resamples: int):
        self.churning, self.uncertainty_size = churning, uncertainty_size
        self.churn = np.full((len(CUT_PERCENT) - 1, resamples), np.nan)
        n = churning.correct.shape[1]
        # deferral is most uncertain first; the buckets' cuts are in ascending order
        self._positions = (100 - CUT_PERCENT[::-1]) * n / 100
        self._differing = np.flatnonzero(differing_pairs(churning.prediction))  # elsewhere there is no churn to sum
        self._blocks = []
        for deferral in margins:
            blocks = micro_blocks(deferral)
            self._blocks.append((blocks, blocks_of_some(deferral, blocks, self._differing)))

    def add(self, chunk: Chunk) -> None:
        n, ranking = self.churning.correct.shape[1], chunk.ranking_seeds[self.uncertainty_size.name]
        weighted = self._weighted_pairs(chunk)
        counts = chunk.seeds[self.churning.name]
        pairs = (len(self.churning.seeds) ** 2 - (counts**2).sum(axis=1)) / 2  # [b]
        ones, few_ones = padded(np.ones((n, 1))), padded(np.ones((len(self._differing), 1)))
        pooled = np.zeros((len(CUT_PERCENT) - 1, len(counts)))
        for run, (blocks, differing) in enumerate(self._blocks):
            drawn = np.flatnonzero(ranking[:, run])
            if not len(drawn):
                continue
            weight = block_sums(blocks, chunk.weights.take(drawn, axis=1), ones)
            churn = block_sums(differing, weighted.take(drawn, axis=1), few_ones)
            ranks = ResampledRanks.cumulate(np.concatenate([weight, churn], axis=2))
            in_bucket = np.diff(ranks.at(self._positions)[:, :, 1].astype(np.float64), axis=0)[::-1]  # [5, b]
            pooled[:, drawn] += ranking[drawn, run] * in_bucket
        examples = np.diff(CUT_PERCENT) * n / 100 * len(self.uncertainty_size.seeds)
        usable = pairs > 0
        self.churn[:, chunk.index] = np.where(usable, pooled / (examples[:, None] * np.where(usable, pairs, 1)), np.nan)

    def _weighted_pairs(self, chunk: Chunk) -> np.ndarray:
        """How often each differing example was drawn × pairs of drawn runs that differ on it: [D + 1, b] float32."""
        prediction, counts = self.churning.prediction[:, self._differing], chunk.seeds[self.churning.name]
        agreeing = np.zeros((prediction.shape[1], len(counts)), dtype=np.float32)
        for code in np.unique(prediction):
            agreeing += ((prediction == code).T.astype(np.float32) @ counts.T.astype(np.float32)) ** 2
        # Σ c = R, so pairs of drawn runs that differ number (R² - Σ over classes of (Σ c of the class)²) / 2
        differing = (len(prediction) ** 2 - agreeing) / 2 * chunk.weights[self._differing]
        return np.concatenate([differing, np.zeros((1, len(counts)), np.float32)])


class GroupSamples:
    """Accuracy of every size in groups of examples. `accuracy[size]` is [V, B]; NaN where a resample drew none."""

    def __init__(self, sizes: list[SizeRuns], group: np.ndarray, groups: int, resamples: int):
        """`group` [n] int says which of the groups an example is in; -1 for none."""
        self.sizes = sizes
        self.accuracy = {size.name: np.full((groups, resamples), np.nan) for size in sizes}
        order = np.argsort(group, kind="stable")
        self._blocks = blocks_between(order, np.searchsorted(group[order], np.arange(groups + 1)))
        n = len(group)
        self._values = padded(np.concatenate([np.ones((1, n)), *(size.correct for size in sizes)]).T)

    def add(self, chunk: Chunk) -> None:
        sums = block_sums(self._blocks, chunk.weights, self._values).astype(np.float64)  # [V, b, 1 + ΣR]
        examples = np.where(sums[:, :, 0] > 0, sums[:, :, 0], np.nan)
        start = 1
        for size in self.sizes:
            runs = len(size.seeds)
            right = np.einsum("vbr,br->vb", sums[:, :, start : start + runs], chunk.seeds[size.name]) / runs
            self.accuracy[size.name][:, chunk.index] = right / examples
            start += runs


class OutcomeSamples:
    """Figure 2: among examples at least as uncertain as each threshold, who is right. `fraction` is [T, 4, B].

    The four: both right, both wrong, only the larger, only the smaller; pooled over pairs of runs.
    """

    def __init__(self, small: SizeRuns, large: SizeRuns, scores: np.ndarray, thresholds: np.ndarray, resamples: int):
        """`scores` [R_small, n] and descending `thresholds` [T] in the same unit."""
        self.small, self.large = small, large
        self.fraction = np.full((len(thresholds), 4, resamples), np.nan)
        n = scores.shape[1]
        self._blocks, self._values = [], []
        for run, own in enumerate(scores):
            order = np.argsort(-own, kind="stable")
            ends = np.searchsorted(-own[order], -thresholds, side="right")
            self._blocks.append(blocks_between(order, np.concatenate([[0], ends])))
            right = small.correct[run : run + 1]
            self._values.append(np.concatenate([np.ones((1, n)), right, large.correct, large.correct & right]).T)

    def add(self, chunk: Chunk) -> None:
        runs, large_runs = len(self.small.seeds), len(self.large.seeds)
        large_weight = chunk.seeds[self.large.name] / large_runs
        pooled = np.zeros((self.fraction.shape[0], chunk.weights.shape[1], 4))
        for run in range(runs):
            sums = block_sums(self._blocks[run], chunk.weights, padded(self._values[run]))
            counts = np.cumsum(sums, axis=0, dtype=np.float64) * chunk.seeds[self.small.name][:, run, None]
            at_least, right = counts[:, :, 0], counts[:, :, 1]
            larger = np.einsum("tbj,bj->tb", counts[:, :, 2 : 2 + large_runs], large_weight)
            both = np.einsum("tbj,bj->tb", counts[:, :, 2 + large_runs :], large_weight)
            pooled += np.stack([both, at_least - right - larger + both, larger - both, right - both], axis=2)
        total = pooled.sum(axis=2, keepdims=True)
        fraction = pooled / np.where(total > 0, total, np.nan)
        self.fraction[:, :, chunk.index] = fraction.transpose(0, 2, 1)


class DisagreementSamples:
    """Figure 6: mean 1[ŷ_S ≠ ŷ_L] of every pair of runs. `disagreement` is [R_small, R_large, B] float32."""

    def __init__(self, small: SizeRuns, large: SizeRuns, resamples: int):
        shape = (len(small.seeds), len(large.seeds))
        self.small, self.large = small, large
        self.disagreement = np.zeros((*shape, resamples), dtype=np.float32)
        n = small.correct.shape[1]
        differs = small.prediction[:, None, :] != large.prediction[None, :, :]  # [R_small, R_large, n]
        self._values = padded(differs.reshape(-1, n).T)

    def add(self, chunk: Chunk) -> None:
        n = self.small.correct.shape[1]
        sums = total_sums(chunk.weights, self._values)  # [b, R_small · R_large]
        self.disagreement[:, :, chunk.index] = sums.T.reshape(*self.disagreement.shape[:2], -1) / n
