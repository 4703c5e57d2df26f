"""Samples of quality in groups of examples, of churn by uncertainty, of outcomes by threshold, and of disagreement."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from metrics.bootstrap.resampling import Blocks, Drawn, ResampledRanks, Resampling, blocks_of_groups
from metrics.grid.runs import SizeRuns
from metrics.scores.schema import BLEU_STATISTICS
from metrics.statistics.churn import CUT_PERCENT
from metrics.statistics.outcomes import OutcomeCodes
from metrics.statistics.switcher import DeferralOrder
from metrics.statistics.text import corpus_bleu

_ROWS_AT_A_TIME = 2048


def quality_samples(size: SizeRuns, resampling: Resampling) -> np.ndarray:
    """Mean quality of the drawn runs on the drawn examples: [B], 0-1."""
    return _qualities(size, resampling.total_sums(_values(size))[None], resampling, resampling.everything)[0]


class GroupSamples:
    """Quality of every size in groups of examples. `quality[size]` is [V, B]; NaN where a resample drew none."""

    def __init__(self, sizes: Sequence[SizeRuns], group: np.ndarray, groups: int, resampling: Resampling):
        """`group` [n] int says which of the groups an example is in; -1 for none."""
        blocks = blocks_of_groups(group, groups)
        self.quality = {size.name: np.full((groups, resampling.resamples), np.nan) for size in sizes}
        for size in sizes:
            values = _values(size)
            for drawn, sums in resampling.block_sums(resampling.everything, blocks, values):
                self.quality[size.name][:, drawn.index] = _qualities(size, sums.astype(float), resampling, drawn)


def _values(size: SizeRuns) -> np.ndarray:
    """1, then each run's correctness or ten statistics: [n, Q] float32."""
    n = size.prediction.shape[1]
    if size.correct is not None:
        return np.concatenate([np.ones((1, n)), size.correct], dtype=np.float32, casting="unsafe").T
    assert size.bleu_stats is not None
    return np.concatenate([np.ones((n, 1)), *size.bleu_stats], axis=1, dtype=np.float32, casting="unsafe")


def _qualities(size: SizeRuns, sums: np.ndarray, resampling: Resampling, drawn: Drawn) -> np.ndarray:
    """[V, Q, b] -> [V, b]; NaN where no example was drawn."""
    counts, runs = resampling.seeds[size.name][drawn.index], len(size.seeds)  # [b, R]
    examples = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)  # [V, b]
    if size.correct is not None:
        return np.einsum("vrb,br->vb", sums[:, 1:], counts) / runs / examples
    stats = sums[:, 1:].reshape(len(sums), runs, BLEU_STATISTICS, sums.shape[2])  # [V, R, 10, b]
    bleu = corpus_bleu(np.moveaxis(stats, 2, -1)) / 100  # [V, R, b]
    return np.einsum("vrb,br->vb", bleu, counts) / runs + 0 * examples


class DrawnPairs:
    """Pairs of R ≥ 2 runs of one size in each resample, and on how many of them an example's predictions differ.

    Copies of one run in a resample are not two runs, so they make no pair. Attributes:
        count: how many pairs a resample drew. [B]
    """

    def __init__(self, size: SizeRuns, resampling: Resampling):
        self.resampling = resampling
        drawn = resampling.seeds[size.name]  # [B, R]
        self.count = (drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)) / 2
        if resampling.unit is None:
            self._rows, self._differing = _differing_pairs(size.prediction, drawn, resampling.everything.weights)
            self._ones = np.ones((size.prediction.shape[1], 1), dtype=np.float32)
            return
        pairs = list(combinations(range(len(size.seeds)), 2))
        differ = [size.prediction[one] != size.prediction[other] for one, other in pairs]
        self._values = np.concatenate([np.ones((1, len(differ[0]))), differ], dtype=np.float32, casting="unsafe").T
        self._weights = np.stack([drawn[:, one] * drawn[:, other] for one, other in pairs])  # [P, B]

    def block_sums(self, drawn: Drawn, blocks: Blocks) -> Iterator[tuple[Drawn, np.ndarray]]:
        """Sums over each block's drawn examples of 1 and of the drawn pairs that differ: as `Resampling.block_sums`,
        [G, 2, b].
        """
        if self.resampling.unit is None:
            differing = self._sums(blocks)  # [G, B]
            for part, examples in self.resampling.block_sums(drawn, blocks, self._ones):
                yield part, np.stack([examples[:, 0], differing.take(part.index, axis=1)], axis=1)
            return
        for part, sums in self.resampling.block_sums(drawn, blocks, self._values):  # [G, 1 + P, b]
            weight = self._weights[:, part.index].astype(np.float32)
            yield part, np.stack([sums[:, 0], np.einsum("gpb,pb->gb", sums[:, 1:], weight)], axis=1)

    def _sums(self, blocks: Blocks) -> np.ndarray:
        """[G, B] float32: of the examples on which runs differ, the others add nothing."""
        sums = np.zeros((blocks.count, self._differing.shape[1]), dtype=np.float32)
        block = blocks.of_each()[self._rows]
        by_block = np.argsort(block, kind="stable")
        some, first = np.unique(block[by_block], return_index=True)
        if len(some):
            sums[some] = np.add.reduceat(self._differing.take(by_block, axis=0), first, axis=0)
        return sums


def _differing_pairs(prediction: np.ndarray, drawn: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The examples [m] on which runs differ, and of each how often drawn × drawn pairs that differ: [m, B] float32.

    From predictions [R, n], how often each run was drawn [B, R] and each example [n + 1, B]. With S_v how often runs
    that predict v were drawn, the pairs that differ are (R² - Σ S_v²) / 2.
    """
    rows = np.flatnonzero((prediction != prediction[0]).any(axis=0))
    result = np.empty((len(rows), len(drawn)), dtype=np.float32)
    runs, counts = len(prediction), drawn.T.astype(np.float32)  # [R, B]
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = slice(start, start + _ROWS_AT_A_TIME)
        own = prediction[:, rows[some]]
        first = np.stack([(own == one).argmax(axis=0) for one in own])  # the first run that predicts the same, [R, m]
        number = np.cumsum(first == np.arange(runs)[:, None], axis=0) - 1  # of each example's predictions, one by one
        which = np.take_along_axis(number, first, axis=0)
        same = np.zeros_like(result[some])
        for value in range(int(which.max()) + 1):
            same += np.square((which == value).T.astype(np.float32) @ counts)
        result[some] = (np.float32(runs**2) - same) / 2 * weights.take(rows[some], axis=0)
    return rows, result


class ChurnSamples:
    """Table 2: churn of a size's runs in the five buckets of each of U runs' margins. `churn` is [5, B], fractions.

    A resample that drew one run alone has no pair at all and is NaN. The runs that rank are drawn apart from the runs
    that churn even where the two sizes are one: drawn together, a resample's fewer distinct runs would rank by their
    own flips more often than the data do.
    """

    def __init__(self, pairs: DrawnPairs, uncertainty_size: SizeRuns):
        self._pairs, self._resampling, self._size = pairs, pairs.resampling, uncertainty_size
        self._pooled = np.zeros((len(CUT_PERCENT) - 1, self._resampling.resamples))

    def add(self, run: int, deferral: DeferralOrder) -> None:
        """Adds what a run of the uncertainty size ranks by its margin."""
        whole = self._resampling.of_run(self._size.name, run, ranking=True)
        for drawn, churning in self._pairs.block_sums(whole, self._resampling.micro_blocks(deferral)):
            # deferral is most uncertain first; the buckets' cuts are in ascending order
            at_cuts = ResampledRanks.of(churning).at((100 - CUT_PERCENT[::-1]) / 100).astype(np.float64)
            examples = at_cuts[-1, 0]
            in_bucket = np.diff(at_cuts[:, 1], axis=0)[::-1] / (np.diff(CUT_PERCENT)[:, None] / 100 * examples)
            counts = self._resampling.ranking_seeds[self._size.name][drawn.index, run]
            self._pooled[:, drawn.index] += counts / len(self._size.seeds) * in_bucket

    @property
    def churn(self) -> np.ndarray:
        """[5, B]."""
        pairs = self._pairs.count
        return self._pooled / np.where(pairs > 0, pairs, np.nan)


class OutcomeSamples:
    """Figure 2: among examples at least as uncertain as each threshold, which outcome. `fraction` is [T, K, B].

    Pooled over pairs of runs.
    """

    def __init__(self, small: SizeRuns, large: SizeRuns, codes: OutcomeCodes, thresholds: int, resampling: Resampling):
        self.small, self.large, self.codes, self.resampling = small, large, codes, resampling
        self._pooled = np.zeros((thresholds, len(codes.names), resampling.resamples))

    def add(self, run: int, group: np.ndarray) -> None:
        """Adds a small run's part; `group` [n] is the first threshold an example reaches, or -1."""
        outcomes = self.codes.for_run(run)  # [J, n]
        # one column an outcome and large run; what is in no other outcome is in the last
        known = [outcomes == k for k in range(len(self.codes.names) - 1)]
        ones = np.ones((1, outcomes.shape[1]))
        values = np.concatenate([ones, *known], dtype=np.float32, casting="unsafe").T
        blocks = blocks_of_groups(group, len(self._pooled))
        whole = self.resampling.of_run(self.small.name, run)
        for drawn, sums in self.resampling.block_sums(whole, blocks, values):
            counts = np.cumsum(sums, axis=0, dtype=np.float64)  # [T, 1 + (K - 1) J, b]
            per_outcome = counts[:, 1:].reshape(len(counts), len(known), -1, counts.shape[2])
            weight = self.resampling.seeds[self.large.name][drawn.index] / len(self.large.seeds)  # [b, J]
            of_known = np.einsum("tkjb,bj->tkb", per_outcome, weight)
            rest = counts[:, :1] - of_known.sum(axis=1, keepdims=True)
            own = self.resampling.seeds[self.small.name][drawn.index, run]
            self._pooled[:, :, drawn.index] += own * np.concatenate([of_known, rest], axis=1)

    @property
    def fraction(self) -> np.ndarray:
        """[T, K, B]; NaN where no example is that uncertain."""
        total = self._pooled.sum(axis=1, keepdims=True)
        return self._pooled / np.where(total > 0, total, np.nan)


def disagreement_samples(small: SizeRuns, large: SizeRuns, resampling: Resampling) -> np.ndarray:
    """Figure 6: mean 1[ŷ_S ≠ ŷ_L] of every pair of runs, [R_small, R_large, B] float32."""
    samples = []
    for one in small.prediction:
        differs = np.concatenate([np.ones((1, len(one)), dtype=bool), large.prediction != one])
        sums = resampling.total_sums(differs.T.astype(np.float32))  # [1 + R_large, B]
        samples.append((sums[1:] / sums[0]).astype(np.float32))
    return np.stack(samples)
