"""Routes examples through a chain of runs, and counts what comes of it at every threshold of a path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.statistics.text import corpus_bleu


@dataclass(frozen=True)
class Member:
    """Holds one run that may be a stage of a chain, with its scores of the n examples.

    `uncertainty` maps a score's name to its natural logarithms, [n] float64. `quality` is [n, 1] bool where an answer
    is right or wrong, and [n, 10] int32, BLEU's statistics, where it is a translation.
    """

    size: str
    seed: int
    cost: float  # of one example, a mean, in whatever unit all runs have: FLOPs, milliseconds
    uncertainty: Mapping[str, np.ndarray]
    quality: np.ndarray

    @property
    def right_or_wrong(self) -> bool:
        """Tells whether each answer is right or wrong, which a certificate of the loss needs."""
        return bool(self.quality.shape[1] == 1)


@dataclass(frozen=True)
class PathOutcome:
    """Holds what a chain of K stages does to some examples at each of the T thresholds of its path."""

    examples: int
    answered: np.ndarray  # [T, K] int64, how many examples each stage answers
    quality: np.ndarray  # [T] float64, accuracy or BLEU / 100 of the mixture
    worse: np.ndarray  # [T] int64, examples that the last stage has right and the mixture wrong; 0 for translations
    better: np.ndarray  # [T] int64, the other way round

    @property
    def deferred(self) -> np.ndarray:
        """Returns the share of examples that leave the first stage: [T] float64."""
        share: np.ndarray = 1 - self.answered[:, 0] / self.examples
        return share

    def cost(self, costs: Sequence[float]) -> np.ndarray:
        """Returns the mean cost of an example, [T] float64, where stage k costs `costs`[k] each time that it runs."""
        mean: np.ndarray = self.answered @ np.cumsum(costs) / self.examples
        return mean


def passes_on(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Returns which examples a stage passes on, by its scores [n]: those of at least the threshold; [n] bool.

    A threshold of -inf passes all on, one of inf none.
    """
    passed_on: np.ndarray = (scores >= threshold) & (threshold < np.inf)
    return passed_on


def stage_reached(uncertainty: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Returns which stage answers each example: [n] int8, from 0.

    `uncertainty` are the scores [n] of the K - 1 stages that may defer, `thresholds` [K - 1]: stage k passes on what
    reaches it as `passes_on` says.
    """
    stage = np.zeros(len(uncertainty[0]), np.int8)
    for k, (score, threshold) in enumerate(zip(uncertainty, thresholds, strict=True)):
        stage[(stage == k) & passes_on(score, threshold)] = k + 1
    return stage


def mean_quality(values: np.ndarray) -> float:
    """Returns the accuracy of answers [n, 1] bool, or the corpus BLEU / 100 of [n, 10] statistics: 0-1."""
    return float(quality_of_sums(values.sum(axis=0, dtype=np.int64)[None], len(values))[0])


def quality_of_sums(sums: np.ndarray, examples: int | np.ndarray) -> np.ndarray:
    """Returns accuracies, or corpus BLEU / 100, from sums over `examples` examples: [..., 1 or 10] -> [...] float64.

    `examples` is one number, or one for each of the sums, [...].
    """
    if sums.shape[-1] == 1:
        accuracy: np.ndarray = sums[..., 0] / examples
        return accuracy
    return corpus_bleu(sums) / 100


def path_outcome(chain: Sequence[Member], score: str, path: np.ndarray, rows: np.ndarray) -> PathOutcome:
    """Returns what a chain does to the examples `rows` [m] along a path of thresholds [T, K - 1]."""
    scores = [member.uncertainty[score][rows] for member in chain[:-1]]
    qualities = [member.quality[rows] for member in chain]
    if len(chain) == 2:
        return _pair_outcome(scores[0], qualities[0], qualities[1], path[:, 0])
    reference = qualities[-1]
    answered = np.zeros((len(path), len(chain)), np.int64)
    sums = np.zeros((len(path), reference.shape[1]), np.int64)
    worse, better = np.zeros(len(path), np.int64), np.zeros(len(path), np.int64)
    for t, thresholds in enumerate(path):
        stage = stage_reached(scores, thresholds)
        answered[t] = np.bincount(stage, minlength=len(chain))
        mixture = mixed(qualities, stage)
        sums[t] = mixture.sum(axis=0, dtype=np.int64)
        if reference.shape[1] == 1:
            worse[t] = np.count_nonzero(reference[:, 0] & ~mixture[:, 0])
            better[t] = np.count_nonzero(mixture[:, 0] & ~reference[:, 0])
    return PathOutcome(len(rows), answered, quality_of_sums(sums, len(rows)), worse, better)


def mixed(qualities: Sequence[np.ndarray], stage: np.ndarray) -> np.ndarray:
    """Returns each example's quality by the stage that answers it: K of [n, Q] and [n] -> [n, Q]."""
    mixture = qualities[0].copy()
    for k, quality in enumerate(qualities[1:], 1):
        mixture[stage == k] = quality[stage == k]
    return mixture


def _pair_outcome(score: np.ndarray, small: np.ndarray, large: np.ndarray, thresholds: np.ndarray) -> PathOutcome:
    """Returns what `path_outcome` does of two stages, by one sort: hundreds of pairs are compared."""
    order = np.argsort(score, kind="stable")
    kept = np.searchsorted(score[order], thresholds, side="left")  # [T]: those below the threshold
    kept[np.isposinf(thresholds)] = len(score)

    def sums_of_kept(values: np.ndarray) -> np.ndarray:
        """Returns the sums [T, Q] over what is kept at each threshold, of values [n, Q] by example."""
        running = np.concatenate([np.zeros((1, values.shape[1]), np.int64), values[order].cumsum(axis=0, dtype=int)])
        return running[kept]

    sums = sums_of_kept(small) + large.sum(axis=0, dtype=np.int64) - sums_of_kept(large)
    worse = better = np.zeros(len(thresholds), np.int64)
    if small.shape[1] == 1:
        worse, better = sums_of_kept(large & ~small)[:, 0], sums_of_kept(small & ~large)[:, 0]
    answered = np.stack([kept, len(score) - kept], axis=1)
    return PathOutcome(len(score), answered, quality_of_sums(sums, len(score)), worse, better)
