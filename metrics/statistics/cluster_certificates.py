"""Tests a mean over examples that come in clusters, such as the questions of one article: valid at any number of them.

Examples of one cluster are not independent, so the exact tests of `certificates.py`, which count examples, reject too
often. Here the clusters are what is drawn. With D the sum over a cluster's examples, m its size and M the most that a
cluster can hold, "the mean over examples is above r" says that X = (D − r m) / M has a mean above 0. The test bets
against that (Waudby-Smith and Ramdas 2024, JRSS B 86, 1, section 4): a capital of 1 is multiplied by 1 − λ X for one
cluster after the other, where λ is chosen from the clusters before it (their rule aGRAPA, the growth of the capital's
logarithm to second order). If the claim is true, the capital's expected value is at most 1 throughout, so that it ends
at 1 / δ or more with a chance of at most δ (Markov; Ville). The mean of the capitals of several orders of the clusters
has an expected value of at most 1 as well, and hangs less on the order.

M is taken from the data, the size of their largest cluster: what is certified is of clusters up to that size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

_ORDERS = 4
_MOST_STAKED = 0.9  # of the most that leaves the capital above 0 whatever the next cluster is
_PRIOR_CLUSTERS = 1.0  # how many clusters the guess before the first one counts as
_PRIOR_SPREAD = 0.1  # standard deviation of a cluster's X in that guess
_MOST_UNITS = 1024  # more clusters are put together at random, each as many as the other, which keeps them independent
_NUMBERS_AT_A_TIME = 1 << 20
_MOST_LOG = 700.0  # of a capital: far beyond any 1 / δ, and no overflow
_LIMITS = np.concatenate([np.linspace(1, 0.1, 91), np.linspace(0.1, 0.01, 181)[1:], np.geomspace(0.01, 1e-5, 139)[1:]])


@dataclass(frozen=True)
class Clusters:
    """Holds which cluster each of some examples is in, and the orders in which the clusters are bet on."""

    unit: np.ndarray  # [m] int, 0 … G − 1
    largest: int  # how many examples a cluster holds at most
    orders: np.ndarray  # [orders, G] int

    @classmethod
    def of_examples(cls, clusters: np.ndarray, rows: np.ndarray, seed: int) -> Self:
        """Returns those of the examples `rows` [m] among all, whose clusters are `clusters` [n] int."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(41,)))
        largest = int(np.bincount(clusters).max())
        unit = np.unique(clusters.take(rows), return_inverse=True)[1]
        count = int(unit.max()) + 1
        together = -(-count // _MOST_UNITS)
        if together > 1:
            unit = (rng.permutation(count) // together)[unit]
            count = int(unit.max()) + 1
        return cls(unit, largest * together, np.stack([rng.permutation(count) for _ in range(_ORDERS)]))

    @property
    def count(self) -> int:
        """Counts the clusters, G."""
        return int(self.orders.shape[1])

    @property
    def sizes(self) -> np.ndarray:
        """Counts the examples of each cluster: [G] int."""
        return np.bincount(self.unit, minlength=self.count)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums values [m] over the examples of each cluster: [G] float64."""
        return np.bincount(self.unit, weights=values, minlength=self.count)

    def sums_below(self, place: np.ndarray, places: int, values: np.ndarray | None = None) -> np.ndarray:
        """Sums over each cluster's examples whose `place` [m] int is 0 … t, for each t below `places`: [places, G].

        What is summed are the `values` [m], or ones. Examples at `places` or above are in no sum.
        """
        cell = np.minimum(place, places) * self.count + self.unit
        sums = np.bincount(cell, weights=values, minlength=(places + 1) * self.count).reshape(places + 1, self.count)
        return np.cumsum(sums[:-1], axis=0)

    def rejects(self, sums: np.ndarray, counts: np.ndarray, limit: float, delta: float) -> np.ndarray:
        """Returns whether "the mean is above `limit`" is rejected at level δ: bool [...].

        From the clusters' `sums` [..., G] of values that are 1 at most, over `counts` [..., G] or [G] of their
        examples; `limit` is below 1.
        """
        x = (sums - limit * counts) / self.largest
        flat = x.reshape(-1, self.count)
        result = np.empty(len(flat), dtype=bool)
        at_a_time = max(1, _NUMBERS_AT_A_TIME // self.count)
        for start in range(0, len(flat), at_a_time):
            some = flat[start : start + at_a_time]
            capital = np.mean([_capital(some.take(order, axis=1), limit) for order in self.orders], axis=0)
            result[start : start + at_a_time] = capital >= 1 / delta
        return result.reshape(x.shape[:-1])

    def upper_limit(self, sums: np.ndarray, counts: np.ndarray, delta: float) -> float:
        """Returns the limit that the mean is below, except with probability at most δ, from sums and counts [G].

        Limits are tested from 1 downward until the first that isn't rejected, so that testing several spends nothing
        more of δ (fixed-sequence testing). Those below 0 are not tried.
        """
        limit = 1.0
        for candidate in _LIMITS[1:].tolist():
            if not self.rejects(sums, counts, candidate, delta):
                break
            limit = candidate
        return limit

    def fewest_examples(self, limit: float, delta: float) -> int:
        """Returns twice how many examples with values of 0 can show a mean of at most `limit` at level δ."""
        return 2 * int(np.ceil(self.largest * np.log(1 / delta) / -np.log1p(-limit)))

    def least_limit(self, delta: float) -> float:
        """Returns the least limit that is certified where all values are 0, to a thousandth of itself."""
        nothing = np.zeros(self.count)
        return _least(lambda limit: bool(self.rejects(nothing, self.sizes, limit, delta)))


def _least(certifies: Callable[[float], bool]) -> float:
    """Returns the least limit in (0, 1) that `certifies`, to a thousandth of itself; 1 if none does."""
    low, high = 0.0, 1.0
    if not certifies(0.999):
        return 1.0
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if certifies(middle) else (middle, high)
    return high


def _capital(x: np.ndarray, limit: float) -> np.ndarray:
    """Returns what a capital of 1 becomes by betting on X [N, G], of mean 0 or less, in this order: [N] float64."""
    before = np.arange(x.shape[1]) + _PRIOR_CLUSTERS
    guess = -limit * _PRIOR_CLUSTERS / 2
    mean = (guess + np.cumsum(x, axis=1) - x) / before  # of the clusters before each one, and of the guess
    square = _PRIOR_CLUSTERS * _PRIOR_SPREAD**2 + np.cumsum(x * x, axis=1) - x * x
    stake = np.clip(-mean / (square / before), 0, _MOST_STAKED / (1 - limit))
    capital: np.ndarray = np.exp(np.minimum(np.log1p(-stake * x).sum(axis=1), _MOST_LOG))
    return capital
