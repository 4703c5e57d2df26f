"""Keeps the wealth of bets that begin at different times, so that the time of a change need not be known.

Bets that began long before a change have lost by then. So a part π_j of the wealth waits until block j of the stream,
and is then put on bets that begin there (a mixture over the time of change, as in Shiryaev 1963 and Pollak 1985, with
fixed parts instead of a new unit at each time, so that the wealth stays a martingale and Ville's inequality holds over
the whole stream): W = Σ_j π_j ∏_{i in blocks j, j + 1, …} f(p_i), and 1 for what waits still.

π_0 is a half, and after block j the part ½ (1 + j)^(-1/4) still waits: so a change in block j is found with a part of
about j^(-5/4) / 8, which costs 1.25 ln j + 2 in log wealth, and no end of the stream has to be known. Parts that begin
at each hundredth observation or so, not at each, cost the log of that less.
"""

from typing import Any

import numpy as np

from metrics.statistics.watch.bets import Bets

_WEALTHIEST = 1e100  # beyond which the wealth is not counted: long an alarm


class ChangeMartingale:
    """Bets on a stream of p-values; the wealth is a test martingale that starts at 1.

    Attributes:
        wealth: what the bets have made of 1, after the last p-value.
        largest: the largest wealth after any p-value.

    """

    def __init__(self, bets: Bets, block: int):
        """Takes the factors to bet by, and how many observations a block has, at whose starts new bets begin."""
        self._bets, self._block = bets, block
        self._active: np.ndarray | None = None  # [J], the wealth of each bet
        self._count = 0
        self.wealth = self.largest = 1.0

    def update(self, p_values: np.ndarray) -> None:
        """Bets on the next p-values [n]. How a stream is divided among calls makes no difference."""
        start = 0
        while start < len(p_values):
            place, within = divmod(self._count, self._block)
            some = p_values[start : start + self._block - within]
            factors = self._bets(some)
            if self._active is None:
                self._active = np.zeros(factors.shape[1])
            if not within:
                self._active += waiting(place - 1) - waiting(place)
            paths = self._active * np.cumprod(factors, axis=0)  # [n, J]
            wealth = paths.mean(axis=1) + waiting(place)
            self._active = np.minimum(paths[-1], _WEALTHIEST)
            self.wealth, self.largest = float(wealth[-1]), max(self.largest, float(wealth.max()))
            self._count += len(some)
            start += len(some)

    def state(self) -> dict[str, Any]:
        """Returns all that `restore` needs to go on, in JSON values."""
        return {
            "active": None if self._active is None else self._active.tolist(),
            "count": self._count,
            "wealth": self.wealth,
            "largest": self.largest,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where another martingale of the same bets was. Raises KeyError, TypeError for another state."""
        active = state["active"]
        self._active = None if active is None else np.array(active, np.float64)
        self._count = int(state["count"])
        self.wealth, self.largest = float(state["wealth"]), float(state["largest"])


def waiting(block: int) -> float:
    """Returns which part of the wealth still waits after block number `block`, from 0; all of it before that."""
    return 1.0 if block < 0 else 0.5 * float((1 + block) ** -0.25)
