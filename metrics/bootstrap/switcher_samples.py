"""Resamples the switchers of one small size to every larger one, score by score and run by run."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.bootstrap.resampling import FEWER_BLOCKS, MICRO_BLOCKS, Drawn, ResampledRanks, Resampling
from metrics.grid.runs import SizeRuns
from metrics.statistics.switcher import FRACTIONS, INTERIOR, DeferralOrder
from metrics.statistics.text import corpus_bleu

_COUNTS = 9  # of BLEU: the reference's length, then matches and totals of 1- to 4-grams
_LENGTH = 5  # among them, the total of 1-grams: the hypothesis' length


def switcher_samples(small: SizeRuns, larger: Sequence[SizeRuns], resampling: Resampling) -> "SwitcherSamples":
    """Returns samples, all zero until runs are added, of accuracy or of BLEU as the task is judged."""
    return (AccuracySamples if small.correct is not None else BleuSamples)(small, larger, resampling)


@dataclass
class ScoreSamples:
    """Holds the samples of one small size's switchers by one score; every key is the name of a larger size."""

    peak_gain: dict[str, np.ndarray]  # [B]
    area: dict[str, np.ndarray]  # [B]
    curve: dict[str, np.ndarray]  # [101, B]


class SwitcherSamples(ABC):
    """Adds up B multi-bootstrap samples of one small size's switchers to every larger size, run by run.

    A sample is a mean over the runs that the resample drew. Accuracies, BLEU / 100 and gains are 0-1.

    Attributes:
        peak_gain: Table 1, (large, score) -> [B].
        area: Table 3, (large, score) -> [B].
        curve: the mean switcher curve at f = 0, 0.01 … 1, (large, score) -> [101, B].
        hump: Figure 6, of each pair of runs by the margin, large -> [R_small, R_large, B] float32.
        buckets: Figure 3, quality in 100 equal-count buckets of the small run's margin, most certain first, size ->
            [100, B]; of the small size it is the quality of the run that ranks.

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
        """Prepares to add small run number `number`: its values are the same for every score."""
        return RunSamples(self, number)

    def score_samples(self, score: str) -> ScoreSamples:
        """Returns the samples of one score. Raises KeyError for a score that no run was added for."""
        names = [large.name for large in self.larger]
        return ScoreSamples(
            peak_gain={name: self.peak_gain[name, score] for name in names},
            area={name: self.area[name, score] for name in names},
            curve={name: self.curve[name, score] for name in names},
        )

    def set_score_samples(self, score: str, samples: ScoreSamples) -> None:
        """Stores samples of all runs under a score, as those of another score that orders the examples alike."""
        for large in self.larger:
            self.peak_gain[large.name, score] = samples.peak_gain[large.name]
            self.area[large.name, score] = samples.area[large.name]
            self.curve[large.name, score] = samples.curve[large.name]

    @abstractmethod
    def values(self, run: int) -> np.ndarray:
        """Returns what is summed over examples for a small run: [n, Q] int8 or float32, the first column 1."""

    @abstractmethod
    def add(self, score: str, run: int, sums: np.ndarray, drawn: Drawn) -> None:
        """Adds what a run contributes to the samples of a score, from sums over blocks of ranks [G, Q, b] float32."""

    def weights(self, size: SizeRuns, drawn: Drawn) -> np.ndarray:
        """Returns each run's weight in a mean over the runs drawn: [R, b] float32."""
        weights: np.ndarray = (self.resampling.seeds[size.name][drawn.index] / len(size.seeds)).T.astype(np.float32)
        return weights

    def sample(self, kind: dict[tuple[str, str], np.ndarray], large: str, score: str, *shape: int) -> np.ndarray:
        """Returns the samples [..., B] that `kind` holds of a size and score, to be added to; zeros at first."""
        if (large, score) not in kind:
            kind[large, score] = np.zeros((*shape, self.resampling.resamples))
        return kind[large, score]


class RunSamples:
    """Adds one small run to `SwitcherSamples`, score by score; scores may be added by several threads at a time."""

    def __init__(self, samples: SwitcherSamples, number: int):
        self._samples, self._number = samples, number
        self._drawn = samples.resampling.of_run(samples.small.name, number)
        self._values = samples.values(number) if len(self._drawn.index) else np.zeros((0, 0), np.float32)

    @property
    def has_resamples(self) -> bool:
        """Tells whether there are resamples at all."""
        return bool(self._samples.resampling.resamples)

    def add(self, score: str, deferral: DeferralOrder) -> None:
        """Adds what the run, by the order in which a score defers, contributes to the samples of that score."""
        samples = self._samples
        for large in samples.larger:  # the samples exist even if no resample drew any run
            for kind, shape in ((samples.peak_gain, ()), (samples.area, ()), (samples.curve, (101,))):
                samples.sample(kind, large.name, score, *shape)
        if not len(self._drawn.index):
            return
        blocks = samples.resampling.micro_blocks(deferral, samples.most_blocks)
        for drawn, sums in samples.resampling.block_sums(self._drawn, blocks, self._values):
            samples.add(score, self._number, sums, drawn)


class AccuracySamples(SwitcherSamples):
    """Adds up samples of accuracy. The Q values summed are 1, s, then d of each large run."""

    @functools.cached_property
    def _large_by_example(self) -> np.ndarray:
        """Returns the correctness of all large runs, those of an example side by side: [n, J] int8, 0 or 1."""
        large = np.concatenate([large.correct for large in self.larger if large.correct is not None])
        return np.ascontiguousarray(large.T).view(np.int8)

    def values(self, run: int) -> np.ndarray:
        """Returns 1, s and each large run's d of every example: [n, Q] int8."""
        assert self.small.correct is not None
        small, large = self.small.correct[run].view(np.int8), self._large_by_example
        values = np.ones((len(small), 2 + large.shape[1]), dtype=np.int8)
        values[:, 1] = small
        np.subtract(large, small[:, None], out=values[:, 2:])
        return values

    def add(self, score: str, run: int, sums: np.ndarray, drawn: Drawn) -> None:
        """Adds a run's peak gains, areas and curves, weighted by how often it and each large run were drawn."""
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
            columns = slice(start, start + len(large.seeds))
            start = columns.stop
            weight = self.weights(large, drawn)  # [J, b]
            best = np.maximum(cumulated[-1, columns], 0)  # [J, b]
            peak = at_grid[INTERIOR, columns].max(axis=0) - best
            mean_gain = np.einsum("fjb,jb->fb", at_grid[:, columns], weight)
            # the area is linear in the large runs, so their mean is enough: [G + 1, b]
            gain = np.einsum("gjb,jb->gb", cumulated[:, columns], weight)
            twice = (steps * (gain[1:] + gain[:-1])).sum(axis=0, dtype=np.float64) - total * gain[-1]
            into = drawn.index
            self.sample(self.peak_gain, large.name, score)[into] += own_weight * (weight * peak).sum(axis=0) / total
            self.sample(self.area, large.name, score)[into] += own_weight * twice / (2.0 * total * total)
            self.sample(self.curve, large.name, score, 101)[:, into] += own_weight * (right + mean_gain / total)
            if score == "margin":
                self.hump[large.name][run][:, into] = (cumulated[:, columns].max(axis=0) - best) / total
                in_buckets = _in_buckets(own + mean_gain)
                self.buckets[large.name][:, into] += own_weight * in_buckets / (total / 100)


class BleuSamples(SwitcherSamples):
    """Adds up samples of corpus BLEU / 100. Areas are those of the polygon through the curve's 101 points.

    The Q values summed are 1, the small run's nine counts, then the nine differences of each large run's counts from
    them: nine of BLEU's ten statistics, as the hypothesis' length is the number of its 1-grams. The reference's length
    is the run's own too: of several references it is that of the one that is closest in length.
    """

    most_blocks = FEWER_BLOCKS

    def values(self, run: int) -> np.ndarray:
        """Returns 1, the small run's counts and all differences: [n, Q] float32."""
        assert self.small.bleu_stats is not None
        small = self.small.bleu_stats[run].astype(np.float32)
        parts = [np.ones((len(small), 1), dtype=np.float32), small[:, 1:]]
        for large in self.larger:
            assert large.bleu_stats is not None
            parts += [one[:, 1:] - small[:, 1:] for one in large.bleu_stats]
        return np.concatenate(parts, axis=1)

    def add(self, score: str, run: int, sums: np.ndarray, drawn: Drawn) -> None:
        """Adds a run's peak gains, areas and curves, weighted by how often it and each large run were drawn."""
        at_grid = ResampledRanks.of(sums).at(FRACTIONS)  # [101, Q, b]
        own_weight = self.weights(self.small, drawn)[run].astype(np.float64)
        own = at_grid[:, 1 : 1 + _COUNTS]  # [101, 9, b]
        if score == "margin":
            self.buckets[self.small.name][:, drawn.index] += own_weight * _bleu(_in_buckets(own))
        start = 1 + _COUNTS
        for large in self.larger:
            weight, into = self.weights(large, drawn).astype(np.float64), drawn.index  # [J, b]
            for j in range(len(large.seeds)):
                gained = at_grid[:, start : start + _COUNTS]
                start += _COUNTS
                curve = _bleu(own[-1] + gained)  # [101, b]
                ends = curve[0], curve[-1]
                best, both = np.maximum(*ends), own_weight * weight[j]
                peak = curve[INTERIOR].max(axis=0) - best
                area = (curve.sum(axis=0) - sum(ends) / 2) / 100 - sum(ends) / 2
                self.sample(self.peak_gain, large.name, score)[into] += both * peak
                self.sample(self.area, large.name, score)[into] += both * area
                self.sample(self.curve, large.name, score, 101)[:, into] += both * curve
                if score == "margin":
                    self.hump[large.name][run, j, into] = np.maximum(curve.max(axis=0) - best, 0)
                    self.buckets[large.name][:, into] += both * _bleu(_in_buckets(own + gained))


def _in_buckets(sums: np.ndarray) -> np.ndarray:
    """Returns the sums in each hundredth of the examples, most certain first: [101, …] -> [100, …].

    From the sums over the most uncertain 0, 1 … 100 %.
    """
    in_buckets: np.ndarray = np.diff(sums, axis=0)[::-1]
    return in_buckets


def _bleu(counts: np.ndarray) -> np.ndarray:
    """Computes BLEU / 100, [F, b], from the reference's length, 4 matches and 4 totals: [F, 9, b]."""
    stats = np.stack([counts[:, _LENGTH], *np.moveaxis(counts, 1, 0)])
    return corpus_bleu(np.moveaxis(stats, 0, -1)) / 100
