"""Puts answered inputs back into the order in which they came."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

MOST_HELD = 1 << 16  # inputs that wait for one before them


class Observed(NamedTuple):
    """Holds what the first stage said of an input: its log score, and whether it passed it on."""

    log_score: float
    deferred: bool


class ArrivalOrder:
    """Gives inputs in the order of their numbers, from 0, however they are answered; for one thread.

    A server answers short inputs beside short ones. Told of them in that order, the watch would take the change from
    batch to batch for a change of what comes in.
    """

    def __init__(self) -> None:
        self._next = 0
        self._held: dict[int, Observed | None] = {}

    def add(self, number: int, observed: Observed | None) -> None:
        """Takes note of the input with this number; None where it has no answer and is left out."""
        if number >= self._next:
            self._held[number] = observed

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the log scores [n] float64 and which were passed on, [n] bool, of all whose turn it is.

        An input that doesn't come back is waited for until MOST_HELD after it have.
        """
        found = list(self._in_turn())
        if len(self._held) > MOST_HELD:
            self._next = min(self._held)
            found += self._in_turn()
        some = [one for one in found if one is not None]
        return (
            np.array([one.log_score for one in some], dtype=np.float64),
            np.array([one.deferred for one in some], dtype=bool),
        )

    def _in_turn(self) -> Iterable[Observed | None]:
        while self._next in self._held:
            yield self._held.pop(self._next)
            self._next += 1
