"""Which examples the report may show, and how uncertain each of them is: as much for a hundred million as for a few.

All of them up to `MOST_SHOWN`; else the half of the room goes to those on which sizes and seeds differ most in how well
they do, the rest to those the smallest size is least certain of. Which ones is a function of the scores alone.
"""

from collections.abc import Mapping

import numpy as np

from conf.schema import SCORES
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.switcher import DeferralOrder, deferral_order, percentiles
from metrics.statistics.text import sentence_bleu

MOST_SHOWN = 150_000  # examples of one dataset: more never fit a page


def shown_rows(grid: Grid, margins: np.ndarray) -> np.ndarray:
    """Rows of the examples that the report may show, ascending; `margins` [R, n] are the smallest size's scores."""
    if grid.examples <= MOST_SHOWN:
        return np.arange(grid.examples)
    uncertainty = np.zeros(grid.examples, dtype=np.float32)
    for of_run in margins:
        uncertainty += percentiles(deferral_order(of_run)).astype(np.float32)
    return chosen(dispute(grid), uncertainty, MOST_SHOWN)


def chosen(disputes: np.ndarray, uncertainty: np.ndarray, count: int) -> np.ndarray:
    """Places of `count` examples [m], ascending: by dispute and by uncertainty, half and half.

    What is chosen for a smaller count is part of what is for a larger one.
    """
    if count >= len(disputes):
        return np.arange(len(disputes))
    # the last key decides first; equal ones by uncertainty, then by row
    disputed = np.lexsort((-uncertainty, -disputes))[: count - count // 2]
    rest = np.setdiff1d(np.arange(len(disputes)), disputed)
    uncertain = rest[np.argsort(-uncertainty[rest], kind="stable")[: count // 2]]
    return np.sort(np.concatenate([disputed, uncertain]))


def dispute(grid: Grid, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """How much sizes and seeds differ on each example, [m] float64, sizes counting alike.

    Of right and wrong: p (1 - p), p the share that is right. Of BLEU: how far the sizes' means are apart.
    """
    means = [
        np.mean([example_quality(size, run, rows) for run in range(len(size.seeds))], axis=0) for size in grid.sizes
    ]
    if grid.task == "translation":
        return np.ptp(means, axis=0)
    right = np.mean(means, axis=0)
    return right * (1 - right)


def example_quality(size: SizeRuns, run: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """What run number `run` makes of each example, [m]: right or wrong, bool; or a sentence's BLEU / 100, float64."""
    if size.bleu_stats is not None:
        return sentence_bleu(size.bleu_stats[run, rows]) / 100
    assert size.correct is not None
    return size.correct[run, rows]


class Percentiles:
    """How uncertain each of some examples is by each score, as a rank among all; means over a size's runs."""

    def __init__(self, runs: int, rows: np.ndarray):
        self._runs, self._rows = runs, rows
        self._sums: dict[str, np.ndarray] = {}

    def add(self, score: str, deferral: DeferralOrder) -> None:
        """One run's order of all examples."""
        of_run = percentiles(deferral)[self._rows]
        self._sums[score] = self._sums[score] + of_run if score in self._sums else of_run

    def take_over(self, other: "Percentiles", score: str) -> None:
        """A score's ranks, of all runs."""
        if score in other._sums:
            self._sums[score] = other._sums[score]

    def means(self, distinct: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
        """Score -> [m] uint16, hundredths of a percentile, 0-10000; scores that order alike share the array."""
        of = {score: np.rint(sums * (100 / self._runs)).astype(np.uint16) for score, sums in self._sums.items()}
        alike = {other: of[score] for score, others in distinct.items() for other in others}
        return {score: alike[score] for score in SCORES if score in alike}
