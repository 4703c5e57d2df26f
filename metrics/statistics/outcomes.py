"""Tells who does better on each example, the smaller or the larger run, which Figures 1 and 2 count."""

import numpy as np

from metrics.grid.runs import SizeRuns
from metrics.statistics.text import sentence_bleu

# An example of classification or span QA is right or wrong; a translation is only better or worse, by sentence BLEU.
RIGHT_OR_WRONG = ("both right", "both wrong", "only the larger right", "only the smaller right")
BETTER_OR_WORSE = ("the larger better", "both alike", "the smaller better")

_ROUNDING = 1e-9  # two sentences' BLEU, 0-100, that differ by less are equal


class OutcomeCodes:
    """Finds which outcome each example has, for pairs of one run of a smaller and one of a larger size.

    Attributes:
        names: the outcomes, K of them: `RIGHT_OR_WRONG`, or for translation `BETTER_OR_WORSE`.

    """

    def __init__(self, small: SizeRuns, large: SizeRuns):
        self.names = RIGHT_OR_WRONG if small.correct is not None else BETTER_OR_WORSE
        if small.bleu_stats is not None and large.bleu_stats is not None:
            self._small, self._large = sentence_bleu(small.bleu_stats), sentence_bleu(large.bleu_stats)
        else:
            assert small.correct is not None and large.correct is not None
            self._small, self._large = small.correct, large.correct

    def for_run(self, run: int) -> np.ndarray:
        """Returns the outcomes of small run number `run` with each large run: [R_large, n] int8, places in `names`."""
        small = self._small[run]
        if self.names == BETTER_OR_WORSE:
            difference = self._large - small
            return np.where(difference > _ROUNDING, 0, np.where(difference < -_ROUNDING, 2, 1)).astype(np.int8)
        both = np.where(small, 0, 1).astype(np.int8)
        return np.where(self._large == small, both, np.where(self._large, 2, 3)).astype(np.int8)
