"""Bets on p-values: densities on [0, 1], so that a uniform p-value multiplies the wealth by 1 on average.

A bet wins where p-values are not uniform in the way that it expects. Several go side by side, each with an equal part
of the wealth: the whole is a martingale too, and loses against the best of them a factor, their number, at most
(Vovk, Nouretdinov and Gammerman 2003, Testing exchangeability on-line; Waudby-Smith and Ramdas 2024, Estimating means
of bounded random variables by betting).
"""

from collections.abc import Callable, Sequence

import numpy as np

Bets = Callable[[np.ndarray], np.ndarray]  # p-values [n] -> the factors of J bets [n, J], non-negative

_TILTS = np.array([-0.8, -0.4, 0.4, 0.8])  # of 2p - 1: all scores are larger, or smaller
_BENDS = np.array([-0.6, 0.6])  # of 6p² - 6p + 1: scores are more alike, or less
_TAIL, _TAIL_ODDS = 0.05, 4.0


def share_bets(cut: float, odds: Sequence[float]) -> Bets:
    """Returns bets that the odds of a p-value below `cut` have become these times what they were.

    `cut` is the share of p-values below it when nothing has changed, strictly between 0 and 1; it may be a guess that
    doesn't depend on the ranked calibration examples.
    """
    changed = np.asarray(odds) * cut / (1 - cut + np.asarray(odds) * cut)
    below, above = changed / cut, (1 - changed) / (1 - cut)

    def factors(p: np.ndarray) -> np.ndarray:
        return np.where(p[:, None] < cut, below, above)

    return factors


def shape_bets(p: np.ndarray) -> np.ndarray:
    """Returns the factors [n, 8] of bets on a change of the scores' distribution, of any kind, from p-values [n].

    Four bet that scores are larger or smaller as a whole (1 + ε (2p - 1)), two that they spread more or less (the next
    Legendre polynomial), two that more of them are among the largest or smallest of twenty.
    """
    column = p[:, None]
    tails = [share_bets(_TAIL, [_TAIL_ODDS])(p), share_bets(_TAIL, [_TAIL_ODDS])(1 - p)]
    return np.hstack([1 + _TILTS * (2 * column - 1), 1 + _BENDS * (6 * column * (column - 1) + 1), *tails])
