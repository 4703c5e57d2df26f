"""Makes batches of the inputs that wait: a queue for each stage and padded length.

The device never waits while something does: whenever it is free, `take` gives it a batch. Which one:

1. that of the input that has waited longest, where it has waited longer than `patience`;
2. else, of the lanes that fill a whole batch, that with the oldest input;
3. else the oldest input's.

Full batches first gives the most answers a second when many wait; patience keeps rare lengths from starving behind
them. What room a batch has left is filled with shorter inputs of the same stage. Inputs in the shadow come last: they
are taken where nothing else waits.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from infer.serve.ticket import Ticket, Waiting


@dataclass(frozen=True)
class TakenBatch:
    """Holds the inputs that are to be answered together, and the shape that they are padded to."""

    stage: int
    items: list[Waiting]
    length: int
    row_count: int


@dataclass(eq=False)
class _Lane:
    """Holds the inputs of one stage that are padded to one length, oldest first.

    `row_counts` are those that a batch may have, descending. An input that was dropped stays in `items` until its turn,
    without a lane of its own, and doesn't count as `live`.
    """

    stage: int
    length: int
    row_counts: Sequence[int]
    items: deque[Waiting] = field(default_factory=deque)
    live: int = 0

    def add(self, item: Waiting) -> None:
        """Adds an input behind the others."""
        item.lane = self
        self.items.append(item)
        self.live += 1

    def oldest(self) -> float:
        """Returns when the request of the first input arrived; infinity where there is none."""
        while self.items and self.items[0].lane is None:
            self.items.popleft()
        return self.items[0].ticket.arrived if self.items else np.inf

    def pop(self, most: int) -> list[Waiting]:
        """Removes and returns at most `most` inputs, the first ones."""
        taken: list[Waiting] = []
        while self.items and len(taken) < most:
            item = self.items.popleft()
            if item.lane is not None:
                item.lane = None
                taken.append(item)
        self.live -= len(taken)
        return taken


class TokenQueue:
    """Holds the inputs that wait for the stages of one deployment. Not safe for several threads by itself."""

    def __init__(self, lengths: Sequence[int], row_counts: Sequence[Mapping[int, Sequence[int]]], patience: float):
        """Takes the padded lengths, ascending; for each stage and length the rows that a batch may have; seconds."""
        self.lengths = list(lengths)
        self._steps = np.array(lengths)
        self._patience = patience
        self._lanes = [
            [_Lane(k, length, list(counts[length])) for length in self.lengths] for k, counts in enumerate(row_counts)
        ]
        last = len(row_counts) - 1
        self._shadows = [_Lane(last, length, list(row_counts[last][length])) for length in self.lengths]

    def __len__(self) -> int:
        """Counts the inputs that wait, those in the shadow left out."""
        return sum(lane.live for stage in self._lanes for lane in stage)

    @property
    def empty(self) -> bool:
        """Tells whether there is nothing to take."""
        return not len(self) and not any(lane.live for lane in self._shadows)

    @property
    def waiting_shadows(self) -> int:
        """Counts the inputs that wait in the shadow."""
        return sum(lane.live for lane in self._shadows)

    def waiting(self) -> list[list[int]]:
        """Counts the inputs that wait, by stage and length."""
        return [[lane.live for lane in stage] for stage in self._lanes]

    def add(self, items: Iterable[Waiting]) -> None:
        """Adds inputs, each behind those of its stage and length."""
        for item in items:
            place = int(self._steps.searchsorted(len(item.ids)))
            (self._lanes[item.stage] if item.shadow is None else self._shadows)[place].add(item)

    def drop(self, ticket: Ticket) -> None:
        """Drops all inputs of a request that still wait."""
        ticket.gone = True
        for item in ticket.items:
            if item.lane is not None:
                item.lane.live -= 1
                item.lane = None

    def take(self, now: float) -> TakenBatch | None:
        """Removes and returns the batch to run next, by the rule above; None where nothing waits."""
        lanes = [lane for stage in self._lanes for lane in stage if lane.live]
        if not lanes:
            lanes = [lane for lane in self._shadows if lane.live]
            if not lanes:
                return None
        ages = [lane.oldest() for lane in lanes]
        chosen = int(np.argmin(ages))
        if now - ages[chosen] <= self._patience:
            full = [i for i, lane in enumerate(lanes) if lane.live >= lane.row_counts[0]]
            if full:
                chosen = min(full, key=ages.__getitem__)
        lane = lanes[chosen]
        return self._batch(lane, self._shadows if lane in self._shadows else self._lanes[lane.stage])

    def _batch(self, lane: _Lane, stage: Sequence[_Lane]) -> TakenBatch:
        """Returns a batch of a lane, filled up with shorter inputs of the same stage, the longest of them first."""
        most, least = lane.row_counts[0], lane.row_counts[-1]
        count = most if 2 * lane.live >= most else least  # half-filled, a large batch is done no later than small ones
        items = lane.pop(count)
        for shorter in reversed(stage[: self.lengths.index(lane.length)]):
            if len(items) == count:
                break
            if shorter.live:
                items += shorter.pop(count - len(items))
        return TakenBatch(lane.stage, items, lane.length, count)
