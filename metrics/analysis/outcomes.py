"""Who does better on an example, the smaller or the larger run: what Figures 1 and 2 count."""

import numpy as np

from metrics.grid.runs import SizeRuns
from metrics.statistics.text import sentence_bleu

# of an example that may be right or wrong, and of a sentence, which is only better or worse by its own BLEU
RIGHT_OR_WRONG = ("both right", "both wrong", "only the larger right", "only the smaller right")
BETTER_OR_WORSE = ("the larger better", "both alike", "the smaller better")

_ALIKE = 1e-9  # of BLEU: what is equal up to rounding


class OutcomeCodes:
    """Which outcome each example has, for pairs of runs of two sizes."""

    def __init__(self, small: SizeRuns, large: SizeRuns):
        self.names = RIGHT_OR_WRONG if small.correct is not None else BETTER_OR_WORSE
        if small.bleu_stats is not None and large.bleu_stats is not None:
            self._small, self._large = sentence_bleu(small.bleu_stats), sentence_bleu(large.bleu_stats)
        else:
            assert small.correct is not None and large.correct is not None
            self._small, self._large = small.correct, large.correct

    def of(self, run: int) -> np.ndarray:
        """Of small run number `run` and each large run: [R_large, n] int8, the place in `names`."""
        small = self._small[run]
        if self.names == BETTER_OR_WORSE:
            difference = self._large - small
            return np.where(difference > _ALIKE, 0, np.where(difference < -_ALIKE, 2, 1)).astype(np.int8)
        both = np.where(small, 0, 1).astype(np.int8)
        return np.where(self._large == small, both, np.where(self._large, 2, 3)).astype(np.int8)
