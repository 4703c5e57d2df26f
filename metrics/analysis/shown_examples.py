"""Chooses the examples that the report may show, so that a report of a hundred million examples stays small.

Up to `MOST_SHOWN` examples are all shown. Of more, half of those shown are the examples on which sizes and seeds differ
most in quality; the others are those that the smallest size is least certain of. The scores alone decide the choice.
"""

import numpy as np

from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.switcher import deferral_order, percentiles
from metrics.statistics.text import sentence_bleu

MOST_SHOWN = 150_000  # examples of one dataset: more would never fit a page


def shown_rows(grid: Grid, margins: np.ndarray) -> np.ndarray:
    """Chooses the examples that the report may show: [m] int, ascending rows of the grid.

    `margins` [R, n] are the smallest size's scores.
    """
    if grid.examples <= MOST_SHOWN:
        return np.arange(grid.examples)
    uncertainty = np.zeros(grid.examples, dtype=np.float32)
    for run_margins in margins:
        uncertainty += percentiles(deferral_order(run_margins)).astype(np.float32)
    return chosen(dispute(grid), uncertainty, MOST_SHOWN)


def chosen(disputes: np.ndarray, uncertainty: np.ndarray, count: int) -> np.ndarray:
    """Chooses `count` examples, half of them by dispute and half by uncertainty, [n] each: [m] int, ascending places.

    What is chosen for a smaller count is part of what is chosen for a larger one.
    """
    if count >= len(disputes):
        return np.arange(len(disputes))
    # the last key decides first; equal ones by uncertainty, then by row
    disputed = np.lexsort((-uncertainty, -disputes))[: count - count // 2]
    rest = np.setdiff1d(np.arange(len(disputes)), disputed)
    uncertain = rest[np.argsort(-uncertainty[rest], kind="stable")[: count // 2]]
    return np.sort(np.concatenate([disputed, uncertain]))


def dispute(grid: Grid, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Computes how much the quality of sizes and seeds differs on each example at `rows`: [m] float64.

    Where answers are right or wrong it is p (1 - p), with p the fraction of right answers, each size weighing the same.
    Of translations it is how far apart the sizes' mean sentence BLEU / 100 are.
    """
    means = [
        np.mean([example_quality(size, run, rows) for run in range(len(size.seeds))], axis=0) for size in grid.sizes
    ]
    if grid.task == "translation":
        spread: np.ndarray = np.ptp(means, axis=0)
        return spread
    right = np.mean(means, axis=0)
    variance: np.ndarray = right * (1 - right)
    return variance


def example_quality(size: SizeRuns, run: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Returns the quality of run number `run` on each example at `rows`: [m].

    Whether the answer is right, bool, or of translations the sentence BLEU / 100, float64.
    """
    if size.bleu_stats is not None:
        return sentence_bleu(size.bleu_stats[run, rows]) / 100
    assert size.correct is not None
    return size.correct[run, rows]
