"""Tests whether a mixture of two models loses more than ε against the larger one: exact at any number of examples.

Where the smaller model answers, d is 1 (only the larger is right), −1 (only the smaller is) or 0; the mixture's loss is
p₊ − p₋, the chances of d = 1 and of d = −1. A test rejects "the loss is above ε" at level δ: then it is at most ε,
except with probability at most δ over the examples that were drawn. Two tests are here:

- the trinomial test takes wins − losses for its statistic. At a loss of ε its distribution depends on q = p₊ + p₋
  alone, the share on which the models differ. The test takes the worst q up to an upper Clopper-Pearson limit that
  misses q with probability β = δ / 50, and spends δ − β on the rest (Berger and Boos 1994, JASA 89, 1012).
- two limits (Clopper and Pearson 1934): the upper limit of p₊ minus the lower one of p₋, each at level δ / 2. They
  are sharper only where so few examples can certify ε at all that hardly any may differ.

Which of them is used depends on the number of examples, ε and δ alone, so that choosing spends nothing of δ.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

TRINOMIAL, LIMITS = "trinomial", "two limits"
_NUISANCE_SHARE = 0.02  # of δ, β: spent on the limit of q
_STEP = 0.02  # between two places of q, in log q: 1 % of the standard deviation of wins − losses
_SPREAD = 10  # standard deviations to either side that a distribution is computed over; beyond lies less than 1e-22
_AT_A_TIME = 32


@dataclass(frozen=True)
class TrinomialBoundary:
    """Holds up to which wins − losses the trinomial test rejects, as a function of q's upper limit.

    It rejects where wins − losses ≤ `most`[k] with k the last place at which `shares` is below the limit of q.
    """

    examples: int
    spent: float  # β
    shares: np.ndarray  # [G] float64, ascending from ε: places of q
    most: np.ndarray  # [G] int64, descending

    def rejects(self, wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """Returns whether the test rejects, from counts [...] of d = 1 and of d = −1: bool [...]."""
        differing, place = np.unique(wins + losses, return_inverse=True)
        limit = upper_limit(differing, self.examples, self.spent)
        last = np.searchsorted(self.shares, limit, side="left") - 1
        # a limit of q below ε leaves no q at which the loss could be above ε
        boundary = np.where(last < 0, self.examples, self.most[np.maximum(last, 0)])
        rejected: np.ndarray = wins - losses <= boundary[place].reshape(wins.shape)
        return rejected


@functools.lru_cache(maxsize=64)
def trinomial_boundary(examples: int, epsilon: float, delta: float) -> TrinomialBoundary:
    """Returns the boundary of the trinomial test of "the loss is above ε" at level δ, of so many examples.

    For each place q on a grid the distribution of wins − losses is computed exactly, by a Fourier transform. Between
    two places a probability is taken to be at most the larger of theirs plus its second difference there, eight times
    what a parabola through them can rise; the grid is so fine that both are small against δ.
    """
    beta = _NUISANCE_SHARE * delta
    shares = np.geomspace(epsilon, 1.0, max(8, int(np.ceil(-np.log(epsilon) / _STEP))) + 1)
    shares[0], shares[-1] = epsilon, 1.0
    most = []
    for start in range(0, len(shares) - 1, _AT_A_TIME):
        first, last = max(start - 1, 0), min(start + _AT_A_TIME + 2, len(shares))  # with a neighbour to either side
        least, chances = _cumulative(examples, epsilon, shares[first:last])
        bend = np.abs(np.diff(chances, n=2, axis=0))
        bend = np.concatenate([bend[:1], bend, bend[-1:]])
        worst = np.maximum(chances[:-1], chances[1:]) + np.maximum(bend[:-1], bend[1:])  # between neighbours
        allowed = (worst <= delta - beta).cumprod(axis=1).sum(axis=1)  # how many of the least differences are rejected
        stop = min(start + _AT_A_TIME, len(shares) - 1)
        most.append(least - 1 + allowed[start - first : stop - first])
    found = np.concatenate(most)
    return TrinomialBoundary(examples, beta, shares, np.minimum.accumulate(np.append(found, found[-1])))


def _cumulative(examples: int, epsilon: float, shares: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns a whole number k and P(wins − losses ≤ k), ≤ k + 1 … ≤ k + N − 1, at each q of `shares` [G]: [G, N].

    A distribution on the whole numbers is the inverse Fourier transform of its characteristic function's m-th power; on
    a circle of N numbers that hold all but a negligible part of it, that is its own.
    """
    reach = int(_SPREAD * np.sqrt(examples * shares[-1])) + 30
    least, size = round(examples * epsilon) - reach, 2 * reach + 1
    turn = np.exp(2j * np.pi * np.arange(size // 2 + 1) / size)
    win, loss = ((shares + sign * epsilon)[:, None] / 2 for sign in (1, -1))
    once = (1 - win - loss) + win / turn + loss * turn
    chances: np.ndarray = np.fft.irfft(once**examples * turn**least, n=size, axis=1).cumsum(axis=1)
    return least, chances


def rejected_by_limits(wins: Any, losses: Any, examples: Any, epsilon: float, delta: float) -> np.ndarray:
    """Returns whether two Clopper-Pearson limits reject "the loss is above ε" at level δ: bool [...].

    `wins` and `losses` [...] count d = 1 and d = −1 among `examples`, a number or one each. The loss is below the upper
    limit of p₊ minus the lower one of p₋, each at level δ / 2, except with probability at most δ (union bound), and
    however p₊ and p₋ go together. A bound for any loss in [-1, 1], such as Hoeffding-Bentkus, doesn't know that d is
    mostly 0 and needs several times the examples; a sign test knows, but tests ε = 0 alone.
    """
    from scipy.special import betaincinv

    losses = np.asarray(losses, dtype=np.float64)
    level = delta / 2
    lower = np.where(losses > 0, betaincinv(np.maximum(losses, 1), examples - losses + 1, level), 0.0)
    return np.asarray(upper_limit(wins, examples, level) - lower <= epsilon)


def upper_limit(count: Any, examples: Any, level: float) -> np.ndarray:
    """Returns the upper Clopper-Pearson limit of a chance, from `count` [...] of `examples`: below it but for `level`.

    It is the 1 − level quantile of Beta(count + 1, examples − count).
    """
    from scipy.special import betaincinv

    count = np.asarray(count, dtype=np.float64)
    limit = betaincinv(count + 1, np.maximum(examples - count, 1), 1 - level)
    return np.where(count < examples, limit, 1.0)


def loses_no_more(wins: Any, losses: Any, examples: int, epsilon: float, delta: float) -> np.ndarray:
    """Returns whether "the loss is above ε" is rejected at level δ, by the test that is sharper for so many examples.

    From counts [...] of d = 1 and of d = −1 among `examples` to bool [...]. Of ε = 0 the limits are used.
    """
    wins, losses = np.asarray(wins, dtype=np.int64), np.asarray(losses, dtype=np.int64)
    if test_by_counts(examples, epsilon, delta) == TRINOMIAL:
        return trinomial_boundary(examples, epsilon, delta).rejects(wins, losses)
    return rejected_by_limits(wins, losses, examples, epsilon, delta)


def test_by_counts(examples: int, epsilon: float, delta: float) -> str:
    """Returns the name of the test that `loses_no_more` uses of so many examples: TRINOMIAL or LIMITS."""
    return TRINOMIAL if epsilon > 0 and _trinomial_is_sharper(examples, epsilon, delta) else LIMITS


@functools.lru_cache(maxsize=256)
def _trinomial_is_sharper(examples: int, epsilon: float, delta: float) -> bool:
    """Tells whether to use the trinomial test: unless it needs more examples than the limits to reject anything."""
    none = np.array(0)
    trinomial = trinomial_boundary(examples, epsilon, delta).rejects(none, none)
    return bool(trinomial) or not bool(rejected_by_limits(none, none, examples, epsilon, delta))


def least_epsilon_of_limits(examples: int, delta: float) -> float:
    """Returns the least ε that so many examples can certify at level δ by two limits: 1 − (δ / 2)^(1 / m)."""
    return float(-np.expm1(np.log(delta / 2) / examples))


def least_epsilon(examples: int, delta: float) -> float:
    """Returns the least ε that so many examples can certify at level δ.

    A search that begins with the safest threshold begins with next to no example that the smaller model answers, so
    that no win and no loss must be enough: of these the upper limit is 1 − (δ / 2)^(1 / m), about ln(2 / δ) / m. Only
    where δ is above about 0.2 does the trinomial test need a little less.
    """
    least = high = least_epsilon_of_limits(examples, delta)
    low = 0.9 * least
    none = np.array(0)
    if not trinomial_boundary(examples, 0.999 * least, delta).rejects(none, none):
        return least
    while high - low > 1e-3 * least:
        middle = (low + high) / 2
        enough = trinomial_boundary(examples, middle, delta).rejects(none, none)
        low, high = (low, middle) if enough else (middle, high)
    return high


def examples_needed(epsilon: float, delta: float) -> int:
    """Returns how many examples it takes to certify `epsilon` at level `delta`, by two limits: ln(δ / 2) / ln(1 − ε).

    Raises ValueError for ε ≤ 0, which no number of examples certifies.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon={epsilon}: expected more than 0, since no number of examples certifies a loss of 0")
    return int(np.ceil(np.log(delta / 2) / np.log1p(-epsilon) - 1e-9))
