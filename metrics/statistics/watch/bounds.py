"""Bounds a share from a stream at all times at once, and measures how far two histograms are apart."""

import math

import numpy as np


def upper_share(count: int, total: int, level: float) -> float:
    """Returns a bound above which a share never is, at any time of a stream, except with probability `level`.

    `count` of `total` independent observations were so. The wealth that bets by Krichevsky and Trofimov's estimate
    against a share θ, B(k + ½, n - k + ½) / B(½, ½) / (θ^k (1 - θ)^(n - k)), is a test martingale where θ is the share;
    the θ at which it is below 1 / `level` are a confidence sequence (Robbins 1970; Waudby-Smith and Ramdas 2024). The
    bound is the largest of them, to 1e-9.
    """
    misses = total - count
    if not misses:
        return 1.0
    mixture = _log_beta(count + 0.5, misses + 0.5) - _log_beta(0.5, 0.5)
    limit = mixture + math.log(level)  # the likelihood of what is in the sequence is above this
    low, high = max(count / total, 1e-300), 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        inside = count * math.log(middle) + misses * math.log1p(-middle) > limit
        low, high = (middle, high) if inside else (low, middle)
    return high


def stability_index(expected: np.ndarray, observed: np.ndarray) -> float:
    """Returns the population stability index of counts [B] against others [B]: Σ (a - e) ln(a / e), a and e shares.

    Half an observation is added to each, so that an empty bin has a share. By custom below 0.1 is little, above 0.25
    much. It is a measure and not a test: it has no chance of a false alarm.
    """
    shares = [(counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (expected, observed)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
