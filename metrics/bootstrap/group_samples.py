"""Resamples quality in groups of examples, churn by uncertainty, outcomes by threshold, and disagreement."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from metrics.bootstrap.resampling import Blocks, Drawn, ResampledRanks, Resampling, blocks_of_groups
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import SizeRuns
from metrics.scores.schema import BLEU_STATISTICS
from metrics.statistics.churn import CUT_PERCENT
from metrics.statistics.outcomes import OutcomeCodes
from metrics.statistics.switcher import DeferralOrder
from metrics.statistics.text import corpus_bleu

_ROWS_AT_A_TIME = 2048


def quality_samples(size: SizeRuns, resampling: Resampling) -> np.ndarray:
    """Resamples the quality of a size, a mean over the drawn runs on the drawn examples: [B] float64, 0-1."""
    sums = resampling.total_sums(_values(size))[None]  # [1, Q, B]
    samples: np.ndarray = _qualities(size, sums, resampling, resampling.everything)[0]
    return samples


class GroupSamples:
    """Resamples the quality of every size in V groups of examples.

    Attributes:
        quality: size -> [V, B], 0-1; NaN where a resample drew no example of the group.

    """

    def __init__(self, sizes: Sequence[SizeRuns], group: np.ndarray, groups: int, resampling: Resampling):
        """Computes the samples; `group` [n] int is the number of the group an example is in, -1 for none."""
        blocks = blocks_of_groups(group, groups)
        self.quality = {size.name: np.full((groups, resampling.resamples), np.nan) for size in sizes}
        for size in sizes:
            values = _values(size)
            for drawn, sums in resampling.block_sums(resampling.everything, blocks, values):
                self.quality[size.name][:, drawn.index] = _qualities(size, sums.astype(float), resampling, drawn)


def _values(size: SizeRuns) -> np.ndarray:
    """Returns what is summed over examples: 1, then each run's correctness or ten BLEU statistics, [n, Q].

    It is bool of correctness, float32 of statistics.
    """
    n = size.prediction.shape[1]
    values: np.ndarray
    if size.correct is not None:
        values = np.concatenate([np.ones((1, n), dtype=bool), size.correct]).T
        return values
    assert size.bleu_stats is not None
    values = np.concatenate([np.ones((n, 1)), *size.bleu_stats], axis=1, dtype=np.float32, casting="unsafe")
    return values


def _qualities(size: SizeRuns, sums: np.ndarray, resampling: Resampling, drawn: Drawn) -> np.ndarray:
    """Computes the quality in V groups from sums of `_values` [V, Q, b]: [V, b]; NaN where no example was drawn."""
    counts, runs = resampling.seeds[size.name][drawn.index], len(size.seeds)  # [b, R]
    examples = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)  # [V, b]
    quality: np.ndarray
    if size.correct is not None:
        quality = np.einsum("vrb,br->vb", sums[:, 1:], counts) / runs / examples
        return quality
    stats = sums[:, 1:].reshape(len(sums), runs, BLEU_STATISTICS, sums.shape[2])  # [V, R, 10, b]
    bleu = corpus_bleu(np.moveaxis(stats, 2, -1)) / 100  # [V, R, b]
    quality = np.einsum("vrb,br->vb", bleu, counts) / runs + 0 * examples
    return quality


class DrawnPairs:
    """Finds which pairs of one size's R ≥ 2 runs each resample drew, and on how many of them predictions differ.

    Copies of one run in a resample are not two runs, so they make no pair.

    Attributes:
        resampling: the resamples.
        count: how many pairs each resample drew. [B]

    """

    def __init__(self, size: SizeRuns, resampling: Resampling):
        self.resampling = resampling
        drawn = resampling.seeds[size.name]  # [B, R]
        self.count = (drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)) / 2
        if resampling.unit is None:
            self._rows, self._differing = _differing_pairs(size.prediction, drawn, resampling.everything.weights)
            self._ones = np.ones((size.prediction.shape[1], 1), dtype=bool)
            return
        pairs = list(combinations(range(len(size.seeds)), 2))
        differ = [size.prediction[one] != size.prediction[other] for one, other in pairs]
        self._values = np.ascontiguousarray(np.stack([np.ones_like(differ[0]), *differ]).T)
        self._weights = np.stack([drawn[:, one] * drawn[:, other] for one, other in pairs])  # [P, B]

    def block_sums(self, drawn: Drawn, blocks: Blocks) -> Iterator[tuple[Drawn, np.ndarray]]:
        """Sums, over each block's drawn examples, 1 and the drawn pairs of runs that differ: [G, 2, b] float32.

        Yields a few of the resamples at a time with their sums, as `Resampling.block_sums` does.
        """
        if self.resampling.unit is None:
            differing = self._differing_sums(blocks)  # [G, B]
            for part, examples in self.resampling.block_sums(drawn, blocks, self._ones):
                yield part, np.stack([examples[:, 0], differing.take(part.index, axis=1)], axis=1)
            return
        for part, sums in self.resampling.block_sums(drawn, blocks, self._values):  # [G, 1 + P, b]
            weight = self._weights[:, part.index].astype(np.float32)
            yield part, np.stack([sums[:, 0], np.einsum("gpb,pb->gb", sums[:, 1:], weight)], axis=1)

    def _differing_sums(self, blocks: Blocks) -> np.ndarray:
        """Sums the drawn pairs that differ over each block's examples on which any do: [G, B] float32."""
        sums = np.zeros((blocks.count, self._differing.shape[1]), dtype=np.float32)
        block = blocks.block_of_each()[self._rows]
        by_block = np.argsort(block, kind="stable")
        some, first = np.unique(block[by_block], return_index=True)
        if len(some):
            sums[some] = np.add.reduceat(self._differing.take(by_block, axis=0), first, axis=0)
        return sums


def _differing_pairs(prediction: np.ndarray, drawn: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the examples on which runs differ, [m] int, and on how many drawn pairs they do: [m, B] float32.

    From predictions [R, n], how often each run was drawn [B, R] and how often each example was, [n + 1, B]. With S_v
    how often runs that predict v were drawn, (R² - Σ S_v²) / 2 drawn pairs differ. That number is multiplied by how
    often the example was drawn.
    """
    rows = np.flatnonzero((prediction != prediction[0]).any(axis=0))
    result = np.empty((len(rows), len(drawn)), dtype=np.float32)
    runs, counts = len(prediction), drawn.T.astype(np.float32)  # [R, B]
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = slice(start, start + _ROWS_AT_A_TIME)
        own = prediction[:, rows[some]]
        first = np.stack([(own == one).argmax(axis=0) for one in own])  # the first run that predicts the same, [R, m]
        number = np.cumsum(first == np.arange(runs)[:, None], axis=0) - 1  # of each example's predictions, one by one
        group = np.take_along_axis(number, first, axis=0)  # runs that predict the same have the same number, [R, m]
        same = np.zeros_like(result[some])
        for value in range(int(group.max()) + 1):
            same += np.square((group == value).T.astype(np.float32) @ counts)
        result[some] = (np.float32(runs**2) - same) / 2 * weights.take(rows[some], axis=0)
    return rows, result


def churn_samples(
    pairs: DrawnPairs, uncertainty_size: SizeRuns, orders: Sequence[DeferralOrder], parallel_map: ParallelMap = map
) -> np.ndarray:
    """Resamples Table 2: the churn of one size's runs in five buckets of the margins of another, the uncertainty size.

    `orders` are those in which the margins of the uncertainty size's runs defer. Returns [5, B] float64, 0-1, the most
    certain half of the examples first; NaN in a resample that drew one churning run alone, and so no pair of runs.

    The runs that rank are drawn independently of the runs that churn, even where both are of the same size: drawn
    together, the fewer distinct runs of a resample would rank by their own differences more often than the data do.
    """
    resampling, size = pairs.resampling, uncertainty_size

    def ranked_by(run: int) -> np.ndarray:
        """Returns what the ranking by one run contributes to the differing pairs in each bucket: [5, B]."""
        contribution = np.zeros((len(CUT_PERCENT) - 1, resampling.resamples))
        whole = resampling.of_run(size.name, run, ranking=True)
        for drawn, sums in pairs.block_sums(whole, resampling.micro_blocks(orders[run])):
            # An order is most uncertain first; the cuts of the buckets are in ascending order of uncertainty.
            at_cuts = ResampledRanks.of(sums).at((100 - CUT_PERCENT[::-1]) / 100).astype(np.float64)  # [6, 2, b]
            examples = at_cuts[-1, 0]
            in_bucket = np.diff(at_cuts[:, 1], axis=0)[::-1] / (np.diff(CUT_PERCENT)[:, None] / 100 * examples)
            counts = resampling.ranking_seeds[size.name][drawn.index, run]
            contribution[:, drawn.index] = counts / len(size.seeds) * in_bucket
        return contribution

    differing = np.zeros((len(CUT_PERCENT) - 1, resampling.resamples))
    for contribution in parallel_map(ranked_by, range(len(orders))):
        differing += contribution
    churn: np.ndarray = differing / np.where(pairs.count > 0, pairs.count, np.nan)
    return churn


class OutcomeSamples:
    """Adds up samples of Figure 2, pooled over pairs of runs, one small run at a time.

    Figure 2 shows which fraction of the examples that are at least as uncertain as a threshold has each outcome.
    """

    def __init__(self, small: SizeRuns, large: SizeRuns, codes: OutcomeCodes, thresholds: int, resampling: Resampling):
        self.small, self.large, self.codes, self.resampling = small, large, codes, resampling
        self._pooled = np.zeros((thresholds, len(codes.names), resampling.resamples))

    def add(self, run: int, group: np.ndarray) -> None:
        """Adds one small run; `group` [n] int is the first of the T thresholds that an example reaches, or -1."""
        outcomes = self.codes.for_run(run)  # [J, n]
        # One column for each large run and outcome but the last, which has the examples that no other outcome has.
        all_but_last = [outcomes == k for k in range(len(self.codes.names) - 1)]
        ones = np.ones((1, outcomes.shape[1]), dtype=bool)
        values = np.concatenate([ones, *all_but_last]).T
        blocks = blocks_of_groups(group, len(self._pooled))
        whole = self.resampling.of_run(self.small.name, run)
        for drawn, sums in self.resampling.block_sums(whole, blocks, values):
            counts = np.cumsum(sums, axis=0, dtype=np.float64)  # [T, 1 + (K - 1) J, b]
            per_outcome = counts[:, 1:].reshape(len(counts), len(all_but_last), -1, counts.shape[2])  # [T, K - 1, J, b]
            weight = self.resampling.seeds[self.large.name][drawn.index] / len(self.large.seeds)  # [b, J]
            weighted = np.einsum("tkjb,bj->tkb", per_outcome, weight)
            rest = counts[:, :1] - weighted.sum(axis=1, keepdims=True)
            own = self.resampling.seeds[self.small.name][drawn.index, run]
            self._pooled[:, :, drawn.index] += own * np.concatenate([weighted, rest], axis=1)

    @property
    def fraction(self) -> np.ndarray:
        """Returns the fraction of each of K outcomes at each threshold: [T, K, B]; NaN where no example reaches it."""
        total = self._pooled.sum(axis=1, keepdims=True)
        fraction: np.ndarray = self._pooled / np.where(total > 0, total, np.nan)
        return fraction


def disagreement_samples(small: SizeRuns, large: SizeRuns, resampling: Resampling) -> np.ndarray:
    """Resamples Figure 6's x-axis, mean 1[ŷ_S ≠ ŷ_L] of every pair of runs: [R_small, R_large, B] float32."""
    samples = []
    for one in small.prediction:
        differs = np.concatenate([np.ones((1, len(one)), dtype=bool), large.prediction != one])
        sums = resampling.total_sums(differs.T)  # [1 + R_large, B]
        samples.append((sums[1:] / sums[0]).astype(np.float32))
    return np.stack(samples)
