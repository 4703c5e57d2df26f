"""Estimates each size's quality on a group of examples, such as one slice, and what larger sizes gain there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from metrics.analysis.intervals import ExampleChoice, InfluentialExamples, t_estimate
from metrics.bootstrap.resampling import Estimate, estimate
from metrics.grid.runs import SizeRuns
from metrics.statistics.components import Variance, variance_of_gap, variance_of_quality, variance_of_resamples
from metrics.statistics.text import corpus_bleu


@dataclass
class ExampleGroup:
    """Holds what the runs of every size do on k of the examples. Qualities are 0-1."""

    quality: dict[str, np.ndarray]  # size -> [R] accuracy, or corpus BLEU / 100
    correct: dict[str, np.ndarray]  # size -> [R, k] bool; {} of translation
    samples: dict[str, np.ndarray]  # size -> [B], multi-bootstrap samples of the mean quality
    influential: InfluentialExamples | None  # of the k; None where intervals are of the samples

    @classmethod
    def inside(
        cls, sizes: Sequence[SizeRuns], inside: np.ndarray, samples: dict[str, np.ndarray], choice: ExampleChoice | None
    ) -> Self:
        """Returns the group of the examples `inside` [n] bool; `samples` are those of its quality, size -> [B]."""
        rows = np.flatnonzero(inside)
        influential = None
        if choice is not None and len(rows):
            chosen = choice.among(rows)
            influential = InfluentialExamples(np.searchsorted(rows, chosen.rows), chosen.clusters)
        correct = {size.name: size.correct[:, rows] for size in sizes if size.correct is not None}
        quality = {size.name: quality_inside(size, rows) for size in sizes}
        return cls(quality, correct, samples, influential)

    def quality_estimate(self, size: str, confidence: float) -> Estimate:
        """Returns a size's quality, a mean over its runs, with its interval."""
        value = float(self.quality[size].mean())
        if self.influential is None:
            return estimate(value, self.samples[size], confidence)
        examples = self.influential
        variance = variance_of_quality(self.correct[size], examples.rows, examples.clusters)
        return t_estimate(value, variance, confidence, 0.0, 1.0)

    def gain(self, small: str, large: str) -> float:
        """Returns the larger size's quality minus the smaller's, a mean over pairs of runs."""
        return float(self.quality[large].mean() - self.quality[small].mean())

    def gain_samples(self, small: str, large: str) -> np.ndarray:
        """Returns the samples of `gain`: [B]."""
        gains: np.ndarray = self.samples[large] - self.samples[small]
        return gains

    def gain_variance(self, small: str, large: str) -> Variance:
        """Returns the variance of `gain`: by components, or of BLEU by its samples."""
        if self.influential is None:
            cells = self.quality[large][None, :] - self.quality[small][:, None]
            return variance_of_resamples(cells, self.gain_samples(small, large))
        examples = self.influential
        return variance_of_gap(self.correct[small], self.correct[large], examples.rows, examples.clusters)

    def gain_estimate(self, small: str, large: str, confidence: float) -> Estimate:
        """Returns `gain` with its t interval."""
        return t_estimate(self.gain(small, large), self.gain_variance(small, large), confidence)


def quality_inside(size: SizeRuns, rows: np.ndarray) -> np.ndarray:
    """Returns the quality of each run of a size on the examples `rows` [k] int: [R] float64, 0-1."""
    quality: np.ndarray
    if size.correct is not None:
        quality = size.correct[:, rows].mean(axis=1)
        return quality
    assert size.bleu_stats is not None
    quality = corpus_bleu(size.bleu_stats[:, rows].sum(axis=1)) / 100
    return quality
