"""Samples of switchers: of one small size to every larger one, score by score, run by run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from metrics.bootstrap.resampling import FEWER_BLOCKS, MICRO_BLOCKS, Drawn, ResampledRanks, Resampling
from metrics.grid.runs import SizeRuns
from metrics.statistics.switcher import FRACTIONS, INTERIOR, DeferralOrder
from metrics.statistics.text import corpus_bleu

_COUNTS = 8  # of BLEU: matches and totals of 1- to 4-grams


def switcher_samples(small: SizeRuns, larger: Sequence[SizeRuns], resampling: Resampling) -> "SwitcherSamples":
    """An empty one, for the task's quality."""
    return (AccuracySamples if small.correct is not None else BleuSamples)(small, larger, resampling)


class SwitcherSamples(ABC):
    """Switchers of one small size to every larger one.

    Attributes, keyed by (large, score); accuracies, BLEU / 100 and gains, 0-1:
        peak_gain, area: Tables 1 and 3. [B]
        curve: the mean switcher curve, at f = 0, 0.01 … 1. [101, B]
    and by size alone, of the margin:
        hump: of each pair of runs. [R_small, R_large, B]
        buckets: quality in 100 equal-count buckets of the margin, ascending; of the small size that of the run that
            ranks. [100, B]
    """

    most_blocks = MICRO_BLOCKS

    def __init__(self, small: SizeRuns, larger: Sequence[SizeRuns], resampling: Resampling):
        self.small, self.larger, self.resampling = small, list(larger), resampling
        self.peak_gain: dict[tuple[str, str], np.ndarray] = {}
        self.area: dict[tuple[str, str], np.ndarray] = {}
        self.curve: dict[tuple[str, str], np.ndarray] = {}
        b = resampling.resamples
        self.hump = {
            large.name: np.zeros((len(small.seeds), len(large.seeds), b), dtype=np.float32) for large in larger
        }
        self.buckets = {size.name: np.zeros((100, b)) for size in (small, *larger)}

    def run(self, number: int) -> "RunSamples":
        """What the resamples that drew this small run take from it."""
        return RunSamples(self, number)

    def share(self, score: str, same: str) -> None:
        """Of two scores that order alike, as margin and entropy of two classes do, one has the other's samples."""
        for large in self.larger:
            for samples in (self.peak_gain, self.area, self.curve):
                samples[large.name, score] = samples[large.name, same]

    def take_over(self, other: "SwitcherSamples", score: str) -> None:
        """A score's samples, of all runs."""
        for large in self.larger:
            self.peak_gain[large.name, score] = other.peak_gain[large.name, score]
            self.area[large.name, score] = other.area[large.name, score]
            self.curve[large.name, score] = other.curve[large.name, score]

    @abstractmethod
    def values(self, run: int) -> np.ndarray:
        """What is summed over examples for a small run: [n, Q] float32, the first column 1."""

    @abstractmethod
    def add(self, score: str, run: int, sums: np.ndarray, drawn: Drawn) -> None:
        """Adds a run's part to the samples, from sums over blocks of ranks [G, Q, b]."""

    def weights(self, size: SizeRuns, drawn: Drawn) -> np.ndarray:
        """Each run's weight in a mean over the runs drawn: [R, b] float32."""
        return (self.resampling.seeds[size.name][drawn.index] / len(size.seeds)).T.astype(np.float32)

    def sample(self, kind: dict[tuple[str, str], np.ndarray], large: str, score: str, *shape: int) -> np.ndarray:
        """The samples [..., B] of that name, zeros at first."""
        if (large, score) not in kind:
            kind[large, score] = np.zeros((*shape, self.resampling.resamples))
        return kind[large, score]


class RunSamples:
    """One small run: its values and the resamples that drew it are the same for every score."""

    def __init__(self, of: SwitcherSamples, number: int):
        self._of, self._number = of, number
        self._drawn = of.resampling.of_run(of.small.name, number)
        self._values = of.values(number) if len(self._drawn.index) else np.zeros((0, 0), np.float32)

    def add(self, score: str, deferral: DeferralOrder) -> None:
        """Adds the run's part of a score's samples."""
        for large in self._of.larger:  # so that they are there even if no resample drew any run
            for kind, shape in ((self._of.peak_gain, ()), (self._of.area, ()), (self._of.curve, (101,))):
                self._of.sample(kind, large.name, score, *shape)
        if not len(self._drawn.index):
            return
        blocks = self._of.resampling.micro_blocks(deferral, self._of.most_blocks)
        for drawn, sums in self._of.resampling.block_sums(self._drawn, blocks, self._values):
            self._of.add(score, self._number, sums, drawn)


class AccuracySamples(SwitcherSamples):
    """Q: 1, s, then d of each large run."""

    def values(self, run: int) -> np.ndarray:
        assert self.small.correct is not None
        small = self.small.correct[run]
        values = np.ones((len(small), 2 + sum(len(large.seeds) for large in self.larger)), dtype=np.float32)
        values[:, 1] = small
        large = np.concatenate([large.correct for large in self.larger if large.correct is not None])
        np.subtract(large.T, small[:, None], out=values[:, 2:], dtype=np.float32)
        return values

    def add(self, score: str, run: int, sums: np.ndarray, drawn: Drawn) -> None:
        ranks = ResampledRanks.of(sums)
        cumulated, at_grid = ranks.cumulated, ranks.at(FRACTIONS)  # [G + 1, Q, b], [101, Q, b]
        steps, total = sums[:, 0], cumulated[-1, 0].astype(np.float64)  # [G, b], [b]
        own_weight = self.weights(self.small, drawn)[run].astype(np.float64)  # [b]
        own = at_grid[:, 1]  # [101, b]
        right = own[-1] / total
        if score == "margin":
            self.buckets[self.small.name][:, drawn.index] += own_weight * _in_buckets(own) / (total / 100)
        start = 2
        for large in self.larger:
            of_large = slice(start, start + len(large.seeds))
            start = of_large.stop
            weight = self.weights(large, drawn)  # [J, b]
            best = np.maximum(cumulated[-1, of_large], 0)  # [J, b]
            peak = at_grid[INTERIOR, of_large].max(axis=0) - best
            mean_gain = np.einsum("fjb,jb->fb", at_grid[:, of_large], weight)
            # the area is linear in the large runs, so their mean is enough: [G + 1, b]
            gain = np.einsum("gjb,jb->gb", cumulated[:, of_large], weight)
            twice = (steps * (gain[1:] + gain[:-1])).sum(axis=0, dtype=np.float64) - total * gain[-1]
            into = drawn.index
            self.sample(self.peak_gain, large.name, score)[into] += own_weight * (weight * peak).sum(axis=0) / total
            self.sample(self.area, large.name, score)[into] += own_weight * twice / (2.0 * total * total)
            self.sample(self.curve, large.name, score, 101)[:, into] += own_weight * (right + mean_gain / total)
            if score == "margin":
                self.hump[large.name][run][:, into] = (cumulated[:, of_large].max(axis=0) - best) / total
                in_buckets = _in_buckets(own + mean_gain)
                self.buckets[large.name][:, into] += own_weight * in_buckets / (total / 100)


class BleuSamples(SwitcherSamples):
    """Q: 1, the reference's length, the small run's eight counts, then eight differences of each large run.

    The counts are BLEU's but for the reference's length, which is everyone's, and the hypothesis', which is the number
    of its 1-grams. Areas are by the 101 points of the grid.
    """

    most_blocks = FEWER_BLOCKS

    def values(self, run: int) -> np.ndarray:
        assert self.small.bleu_stats is not None
        small = self.small.bleu_stats[run].astype(np.float32)
        parts = [np.ones((len(small), 1), dtype=np.float32), small[:, 1:]]
        for large in self.larger:
            assert large.bleu_stats is not None
            parts += [one[:, 2:] - small[:, 2:] for one in large.bleu_stats]
        return np.concatenate(parts, axis=1)

    def add(self, score: str, run: int, sums: np.ndarray, drawn: Drawn) -> None:
        at_grid = ResampledRanks.of(sums).at(FRACTIONS)  # [101, Q, b]
        own_weight = self.weights(self.small, drawn)[run].astype(np.float64)
        reference, own = at_grid[:, 1], at_grid[:, 2 : 2 + _COUNTS]  # [101, b], [101, 8, b]
        in_buckets = _in_buckets(reference)
        if score == "margin":
            self.buckets[self.small.name][:, drawn.index] += own_weight * _bleu(in_buckets, _in_buckets(own))
        start = 2 + _COUNTS
        for large in self.larger:
            weight, into = self.weights(large, drawn).astype(np.float64), drawn.index  # [J, b]
            for j in range(len(large.seeds)):
                gained = at_grid[:, start : start + _COUNTS]
                start += _COUNTS
                curve = _bleu(reference[-1], own[-1] + gained)  # [101, b]
                ends = curve[0], curve[-1]
                best, both = np.maximum(*ends), own_weight * weight[j]
                peak = curve[INTERIOR].max(axis=0) - best
                area = (curve.sum(axis=0) - sum(ends) / 2) / 100 - sum(ends) / 2
                self.sample(self.peak_gain, large.name, score)[into] += both * peak
                self.sample(self.area, large.name, score)[into] += both * area
                self.sample(self.curve, large.name, score, 101)[:, into] += both * curve
                if score == "margin":
                    self.hump[large.name][run, j, into] = np.maximum(curve.max(axis=0) - best, 0)
                    self.buckets[large.name][:, into] += both * _bleu(in_buckets, _in_buckets(own + gained))


def _in_buckets(sums: np.ndarray) -> np.ndarray:
    """From sums over the most uncertain 0, 1 … 100 % to those in each hundredth, ascending: [101, …] -> [100, …]."""
    return np.diff(sums, axis=0)[::-1]


def _bleu(reference: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """From the reference's length [F, b] or [b], and 4 matches and 4 totals [F, 8, b]: BLEU / 100, [F, b]."""
    length = counts[:, _COUNTS // 2]
    stats = np.stack([length, np.broadcast_to(reference, length.shape), *np.moveaxis(counts, 1, 0)])
    return corpus_bleu(np.moveaxis(stats, 0, -1)) / 100
