"""Computes the uncertainty of one run alone, as a deployed switcher does: natural logarithms, float64.

They are the values that `metrics.statistics.uncertainty` ranks a run's examples by; of two classes, where that ranks
the entropy by the margin, the entropy itself.
"""

import numpy as np

from metrics.scores import TokenScores
from metrics.statistics.uncertainty import (
    log_entropy,
    log_margin,
    log_softmax,
    sequence_entropy,
    sequence_margin,
    to_thirteen_digits,
)


def likelihood_score(score: str, log_likelihoods: np.ndarray) -> np.ndarray:
    """Returns the margin or entropy over classes: [n, K] log-likelihoods, unnormalised -> [n] float64.

    Margin is log(1 - (p₁ - p₂)), entropy log(-Σ p log p); -inf where one class has all. Raises ValueError for another
    score.
    """
    functions = {"margin": log_margin, "entropy": log_entropy}
    _check(score)
    return to_thirteen_digits(functions[score](log_softmax(log_likelihoods.astype(np.float64))))


def token_score(score: str, tokens: TokenScores) -> np.ndarray:
    """Returns the log of the mean over a sequence's tokens of 1 - (p₁ - p₂), or of the entropy: [n] float64.

    Raises ValueError for another score.
    """
    functions = {"margin": sequence_margin, "entropy": sequence_entropy}
    _check(score)
    return to_thirteen_digits(functions[score](tokens))


def _check(score: str) -> None:
    if score not in ("margin", "entropy"):
        raise ValueError(f"score {score!r}: expected margin or entropy, which one run has by itself")
