"""Makes batches of the inputs that wait: a queue for each stage and padded length.

The device never waits while something does: whenever it is free, `take` gives it a batch. Which one:

1. that of the input that has waited longest, where it has waited longer than `patience`;
2. else, of the lanes whose batch is well filled, that with the oldest input;
3. else that of the lane whose batch is filled best.

What room a batch has left is filled with shorter inputs of the same stage. It is filled as well as the seconds that its
inputs would take in full batches of the best shape of their own length are near to those that it takes. A batch has the
number of rows that is filled best. Well filled batches first gives the most answers a second when many wait; patience
keeps rare lengths, and the larger models' few inputs, from starving behind them. Inputs in the shadow come last: they
are taken where nothing else waits.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from infer.serve.ticket import Ticket, Waiting

WELL_FILLED = 0.75  # from which share on a batch goes before older ones that are filled better


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

    An input that was dropped stays in `items` until its turn, without a lane of its own, and doesn't count as `live`.
    """

    stage: int
    length: int
    batch_seconds: Mapping[int, float]  # what a batch takes, by each number of rows that it may have
    cost: float  # seconds that an input takes, here and further on
    least: float = field(init=False)  # seconds that an input takes in a full batch of the best number of rows
    items: deque[Waiting] = field(default_factory=deque)
    live: int = 0
    shadow: bool = False

    def __post_init__(self) -> None:
        """Finds the best number of rows."""
        self.least = min(seconds / count for count, seconds in self.batch_seconds.items())

    def add(self, item: Waiting) -> None:
        """Adds an input behind the others."""
        item.lane = self
        self.items.append(item)
        self.live += 1

    def oldest(self) -> float:
        """Returns when the request of the first input arrived; infinity where there is none."""
        while self.items and self.items[0].lane is None:
            self.items.popleft()
        return self.items[0].ticket.arrived if self.items else math.inf

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


@dataclass(frozen=True)
class _Choice:
    """Describes the batch that a lane would give now."""

    lane: _Lane
    rows: int  # that it is padded to
    filled: float  # how well: the seconds that its inputs take at the least, divided by those that the batch takes
    arrived: float  # when the request of the lane's first input did


def _arrival(choice: _Choice) -> float:
    """Returns when the request of the batch's first input arrived."""
    return choice.arrived


def _choices(stage: Sequence[_Lane]) -> list[_Choice]:
    """Returns the batches that the lanes of one stage would give, each of the rows that fill it best.

    Of two numbers of rows that are filled alike, the larger is taken. A lane without inputs gives no batch.
    """
    choices = []
    for place, lane in enumerate(stage):
        if lane.live:
            shares = {rows: _filled(stage[: place + 1], rows) for rows in lane.batch_seconds}
            rows = max(shares, key=lambda count: (shares[count], count))
            choices.append(_Choice(lane, rows, shares[rows], lane.oldest()))
    return choices


def _filled(lanes: Sequence[_Lane], rows: int) -> float:
    """Returns how well a batch of the last of these lanes is filled, a share in (0, 1]; the others are shorter."""
    room, least = rows, 0.0
    for lane in reversed(lanes):
        taken = min(lane.live, room)
        least += taken * lane.least
        room -= taken
        if not room:
            break
    return least / lanes[-1].batch_seconds[rows]


class TokenQueue:
    """Holds the inputs that wait for the stages of one deployment. Not safe for several threads by itself."""

    def __init__(
        self,
        lengths: Sequence[int],
        batch_seconds: Sequence[Mapping[int, Mapping[int, float]]],
        patience: float,
        costs: Sequence[Sequence[float]],
    ):
        """Takes the padded lengths, ascending; for each stage and length the rows that a batch may have.

        `batch_seconds` has what a batch takes, by stage, length and number of rows. `patience` is in seconds; so are
        `costs`, what an input that waits for a stage will take until it is answered, by stage and length.
        """
        self.lengths = list(lengths)
        self._patience = patience
        self._lanes = [
            [_Lane(k, n, seconds[n], cost) for n, cost in zip(self.lengths, costs[k], strict=True)]
            for k, seconds in enumerate(batch_seconds)
        ]
        last = len(batch_seconds) - 1
        self._shadows = [_Lane(last, n, batch_seconds[last][n], 0.0, shadow=True) for n in self.lengths]
        self._count, self._seconds = 0, 0.0

    def __len__(self) -> int:
        """Counts the inputs that wait, those in the shadow left out."""
        return self._count

    @property
    def seconds(self) -> float:
        """Returns how many seconds what waits will take, by its `costs`."""
        return self._seconds if self._count else 0.0

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

    def place(self, length: int) -> int:
        """Returns the place in `lengths` of the length that an input is padded to."""
        return bisect_left(self.lengths, length)

    def add(self, items: Iterable[Waiting]) -> None:
        """Adds inputs, each behind those of its stage and length."""
        for item in items:
            place = bisect_left(self.lengths, len(item.ids))
            lane = (self._lanes[item.stage] if item.shadow is None else self._shadows)[place]
            lane.add(item)
            self._note(lane, 1)

    def drop(self, ticket: Ticket) -> None:
        """Drops all inputs of a request that still wait."""
        ticket.gone = True
        for item in ticket.items:
            if item.lane is not None:
                item.lane.live -= 1
                self._note(item.lane, -1)
                item.lane = None

    def take(self, now: float) -> TakenBatch | None:
        """Removes and returns the batch to run next, by the rule above; None where nothing waits."""
        choices = [choice for stage in self._lanes for choice in _choices(stage)]
        if not choices:
            choices = _choices(self._shadows)
            if not choices:
                return None
        chosen = min(choices, key=_arrival)
        if now - chosen.arrived <= self._patience:
            well_filled = [choice for choice in choices if choice.filled >= WELL_FILLED]
            if well_filled:
                chosen = min(well_filled, key=_arrival)
            else:
                chosen = min(choices, key=lambda choice: (-choice.filled, choice.arrived))
        return self._batch(chosen, self._shadows if chosen.lane.shadow else self._lanes[chosen.lane.stage])

    def _batch(self, chosen: _Choice, stage: Sequence[_Lane]) -> TakenBatch:
        """Returns a batch of a lane, filled up with shorter inputs of the same stage, the longest of them first."""
        lane, count = chosen.lane, chosen.rows
        items = self._pop(lane, count)
        for shorter in reversed(stage[: self.lengths.index(lane.length)]):
            if len(items) == count:
                break
            if shorter.live:
                items += self._pop(shorter, count - len(items))
        return TakenBatch(lane.stage, items, lane.length, count)

    def _pop(self, lane: _Lane, most: int) -> list[Waiting]:
        """Removes and returns at most `most` inputs of a lane."""
        items = lane.pop(most)
        self._note(lane, -len(items))
        return items

    def _note(self, lane: _Lane, more: int) -> None:
        """Notes that a lane has so many more inputs."""
        if not lane.shadow:
            self._count += more
            self._seconds = self._seconds + more * lane.cost if self._count else 0.0
