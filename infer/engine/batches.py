"""Cuts inputs into batches of few shapes, known beforehand: each shape compiles once, however many inputs come."""

from collections.abc import Iterator, Sequence

import numpy as np

from train.data.batches import Budget, ScoringBatch

SHORTEST = 16  # tokens; shorter inputs are padded to that
ROW_STEPS = (1, 8)  # a batch of a file has room for the budget's rows, or for an eighth of them
SERVED_ROW_STEPS = (1, 2, 8, 32)  # of the server's too: few inputs wait there, above all for the larger models


def ladder(longest: int) -> list[int]:
    """Returns the lengths that inputs are padded to: 16, 24, 32, 48, 64 … and `longest`, ascending.

    Each is at most half as long again as the one before, so that of long inputs at most a third is padding.
    """
    lengths = []
    step = SHORTEST
    while step < longest:
        lengths += [step, step * 3 // 2]
        step *= 2
    return [*(length for length in lengths if length < longest), longest]


def row_counts(budget: Budget, length: int, steps: Sequence[int] = ROW_STEPS) -> list[int]:
    """Returns the numbers of rows that a batch of this length may be padded to: descending, in whole multiples.

    They are the budget's rows, divided by each of `steps`.
    """
    most, multiple = budget.rows(length), budget.row_multiple
    return sorted({-(-max(most // step, 1) // multiple) * multiple for step in steps}, reverse=True)


def batches_of(lengths: np.ndarray, longest: int, budget: Budget) -> Iterator[ScoringBatch]:
    """Yields batches that hold each of n inputs once; `lengths` [n] are in tokens, at most `longest`.

    The shapes are pairs of `ladder` and `row_counts`, whatever the inputs are.
    """
    steps = np.array(ladder(longest))
    places = np.searchsorted(steps, np.asarray(lengths))
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        length = int(steps[place])
        counts = row_counts(budget, length)
        start = 0
        while start < len(rows):
            left = len(rows) - start
            # half-filled, a large batch is done no later than small ones
            count = counts[0] if 2 * left >= counts[0] else counts[-1]
            yield ScoringBatch(rows[start : start + count], length, count)
            start += count
