"""Tests whether a mixture of two models loses more than ε against the larger one, exactly, at any number of examples.

Where the smaller model answers, d is 1 (only the larger is right), −1 (only the smaller is) or 0; the mixture's loss is
p₊ − p₋, the chances of d = 1 and of d = −1. A test rejects "the loss is above ε" at level δ: then it is at most ε,
except with probability at most δ over the examples that were drawn.
"""

import functools

import numpy as np

_NUISANCE_SHARE = 0.02  # of δ, spent on the interval of the nuisance parameter
_GRID = 41  # places of the nuisance parameter that are looked at; between them the p-value is bounded, see below
MOST_EXACT = 50_000  # examples; beyond them the two-sided limits are as sharp as matters


def rejected_by_limits(wins: np.ndarray, losses: np.ndarray, examples: int, epsilon: float, delta: float) -> np.ndarray:
    """Returns whether "the loss is above ε" is rejected at level δ by two Clopper-Pearson limits, bool [...].

    `wins` and `losses` [...] count d = 1 and d = −1 among `examples`. The loss is below the upper limit of p₊ minus the
    lower one of p₋, each at level δ / 2, except with probability at most δ (union bound; Clopper and Pearson 1934).
    """
    from scipy.special import betaincinv

    wins, losses = np.asarray(wins, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    level = delta / 2
    # upper limit of k of m: the 1 − level quantile of Beta(k + 1, m − k)
    upper = np.where(wins < examples, betaincinv(wins + 1, np.maximum(examples - wins, 1), 1 - level), 1.0)
    lower = np.where(losses > 0, betaincinv(np.maximum(losses, 1), examples - losses + 1, level), 0.0)
    return np.asarray(upper - lower <= epsilon)


def trinomial_p(wins: int, losses: int, examples: int, epsilon: float, delta: float) -> float:
    """Returns a p-value of "the loss is at least ε" that is valid at level δ: P(p ≤ α) ≤ α at every α ≤ δ.

    The statistic is wins − losses, of a trinomial with p₊ = p₋ + ε. What else it depends on, q = p₊ + p₋, is taken at
    its worst over a Clopper-Pearson interval that misses it with probability β = δ / 50, and β is added (Berger and
    Boos 1994, JASA 89). Given K = wins + losses, wins is binomial with K trials and chance (1 + ε / q) / 2.
    """
    from scipy.special import betaincinv

    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon={epsilon}: expected 0 <= epsilon < 1")
    beta = delta * _NUISANCE_SHARE
    found = wins + losses
    low = betaincinv(found, examples - found + 1, beta / 2) if found > 0 else 0.0
    high = betaincinv(found + 1, examples - found, 1 - beta / 2) if found < examples else 1.0
    low, high = max(low, epsilon), max(high, epsilon)
    if low >= high:  # fewer examples differ than a loss of ε asks for
        return beta
    return min(1.0, beta + _worst(wins - losses, examples, epsilon, float(low), float(high)))


def _worst(difference: int, examples: int, epsilon: float, low: float, high: float) -> float:
    """Returns an upper bound of P(wins − losses ≤ difference) over q in [low, high].

    Looks at a grid of q, then again around the highest point, and adds how much higher the parabola through the three
    points there can be.
    """
    edges = (low, high)
    best = 0.0
    for _ in range(2):
        grid = np.linspace(*edges, _GRID)
        values = np.array([_below(difference, examples, epsilon, q) for q in grid])
        top = int(values.argmax())
        best = max(best, float(values[top]))
        edges = (grid[max(top - 1, 0)], grid[min(top + 1, _GRID - 1)])
    step = float(np.abs(np.diff(values[max(top - 1, 0) : top + 2])).max(initial=0.0))
    return best + step


def _below(difference: int, examples: int, epsilon: float, q: float) -> float:
    """Returns P(wins − losses ≤ difference) with p₊ + p₋ = q and p₊ − p₋ = ε."""
    from scipy.stats import binom

    if q <= 0:
        return float(difference >= 0)
    spread = 9 * np.sqrt(examples * q * (1 - q)) + 9
    found = np.arange(max(0, int(examples * q - spread)), min(examples, int(examples * q + spread)) + 1)
    most_wins = np.floor((found + difference) / 2)
    chance = min(1.0, (1 + epsilon / q) / 2)
    return float((binom.pmf(found, examples, q) * binom.cdf(most_wins, found, chance)).sum())


def rejected(wins: int, losses: int, examples: int, epsilon: float, delta: float) -> bool:
    """Returns whether "the loss is above ε" is rejected at level δ, by the sharper of the two exact tests.

    Which one is used depends on the number of examples alone, so that choosing it spends nothing of δ: the trinomial
    test up to `MOST_EXACT` examples, two limits beyond.
    """
    if examples > MOST_EXACT:
        return bool(rejected_by_limits(np.array(wins), np.array(losses), examples, epsilon, delta))
    return trinomial_p(wins, losses, examples, epsilon, delta) <= delta


@functools.lru_cache(maxsize=256)
def least_epsilon(examples: int, delta: float) -> float:
    """Returns the least ε that `examples` can certify at level δ if not one example tells the models apart.

    With wins = losses = 0 the limits are 1 − (δ / 2)^(1 / m), about ln(2 / δ) / m.
    """
    low, high = 0.0, float(1.0 - (delta / 2) ** (1 / examples))
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rejected(0, 0, examples, middle, delta) else (middle, high)
    return high


def examples_needed(epsilon: float, delta: float) -> int:
    """Returns about how many examples can certify `epsilon` at level `delta` at best; raises ValueError for ε ≤ 0."""
    if epsilon <= 0:
        raise ValueError(f"epsilon={epsilon}: expected more than 0, since no number of examples certifies a loss of 0")
    return int(np.ceil(np.log(2 / delta) / epsilon))
