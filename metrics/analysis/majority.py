"""Compares each size with always answering the class that most examples have: a model no better has learned nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import Grid


@dataclass
class MajorityClass:
    """Holds the class that most examples have, and how much better than always answering it each size is."""

    name: str
    share: float  # of the examples, 0-1: the accuracy of always answering it
    over: dict[str, Estimate]  # size -> its accuracy, mean over runs, minus the share

    def too_weak(self, size: str) -> bool:
        """Tells whether a size is not shown to be better; False without an interval, as nothing is shown then."""
        return not math.isnan(self.over[size].low) and not self.over[size].above_zero


def majority_class(
    grid: Grid, quality: Mapping[str, np.ndarray], resampling: Resampling, confidence: float
) -> MajorityClass | None:
    """Finds the class that most examples have, of several the first by name; None where the task has no classes.

    The differences are resampled together, accuracy and share over the same examples. `quality` has the samples of
    each size's accuracy, size -> [B]; intervals have the given confidence, 0-1.
    """
    if not grid.classes:
        return None
    counts = np.bincount(grid.target.codes, minlength=len(grid.target.values))
    code = min(range(len(counts)), key=lambda k: (-counts[k], grid.target.values[k]))
    has_class = grid.target.codes == code
    share = float(has_class.mean())
    drawn, with_class = resampling.total_sums(np.stack([np.ones_like(has_class), has_class], axis=1))
    return MajorityClass(
        name=grid.target.values[code],
        share=share,
        over={
            size.name: estimate(size.quality.mean() - share, quality[size.name] - with_class / drawn, confidence)
            for size in grid.sizes
        },
    )
