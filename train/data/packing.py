"""Packs the examples of a batch side by side into as few rows as they need, so that hardly a position is padding.

A row has room for `input_length` input tokens and for some target tokens; the examples in it are segments 1, 2, …, each
in the same segment of inputs and targets. Attention stays inside a segment, so loss and gradient are those of one
example a row, and the batch is exactly its examples. Shapes are few, because each is compiled by itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from train.data.lengths import covering
from train.data.tokens import Encoded

_TRIALS = 4  # batches drawn to choose the shapes by
_TIMES_LONGEST = (1, 2, 3, 4)  # rows of several times the longest input are tried, up to _LONG_ROW tokens
_LONG_ROW = 512
_SLACK = (1.0, 1.1, 1.25, 1.5, 2.0)  # target lengths tried, as multiples of what the inputs' length suggests
_COUNT_TRIALS = 64  # batches drawn to choose the row counts by
_ROW_COUNTS = 4  # most batches are rounded up to one of so many counts of rows


@dataclass
class Batch:
    """Holds packed rows, int32: `inputs` [R, S], `targets` [R, T], and each position's segment; 0 is padding in all."""

    inputs: np.ndarray
    input_segments: np.ndarray
    targets: np.ndarray
    target_segments: np.ndarray

    @property
    def padding(self) -> float:
        """Returns the share of the encoder's positions that hold no token."""
        return float(np.mean(self.input_segments == 0))


def sum_of_lengths(input_length: int, target_length: int) -> float:
    """Returns a row's cost where every position costs the same."""
    return float(input_length + target_length)


class Packer:
    """Packs batches of examples into rows of few shapes, which follow from the lengths alone, not from the batch.

    `input_length` is that of the longest input, or a small multiple of it that wastes less; `target_lengths` are one
    that takes every target and, where most batches have none of the long ones, a shorter one before it. Most batches
    have one of the `row_counts` [c] int64, rising.
    """

    def __init__(
        self,
        inputs: Encoded,
        targets: Encoded,
        batch_size: int,
        row_cost: Callable[[int, int], float] = sum_of_lengths,
        row_multiple: int = 1,
    ) -> None:
        """Chooses the shapes by batches of `batch_size` examples that it draws.

        `row_cost` says what a row of so many input and target positions costs. Row counts are whole multiples of
        `row_multiple`, the devices that share a batch.
        """
        self._inputs, self._targets, self._row_multiple = inputs, targets, row_multiple
        sizes = np.stack([inputs.lengths, targets.lengths], axis=1)  # [n, 2]
        rng = np.random.default_rng(0)

        def draw(batches: int) -> list[np.ndarray]:
            return [sizes[rng.integers(0, len(sizes), batch_size)] for _ in range(batches)]

        trials = draw(_TRIALS)
        targets_an_input = float(sizes[:, 1].mean() / sizes[:, 0].mean())
        room = _cheapest_room(sizes, targets_an_input, trials, row_cost)
        self.input_length = room[0]
        self.target_lengths = _target_lengths(room, targets_an_input, int(sizes[:, 1].max()), trials, row_cost)
        counts = np.array([_rows_taken(batch, room) for batch in draw(_COUNT_TRIALS)])
        self.row_counts = np.unique(-(-covering(counts, _ROW_COUNTS) // row_multiple) * row_multiple)

    def __call__(self, examples: np.ndarray) -> Batch:
        """Packs the batch of `examples` [n], indices into the inputs and targets."""
        examples = np.asarray(examples, np.int64)
        sizes = np.stack([_lengths(self._inputs, examples), _lengths(self._targets, examples)], axis=1)  # [n, 2]
        target_length = next(length for length in self.target_lengths if length >= sizes[:, 1].max())
        places = first_fit(sizes, self.input_length, target_length)
        needed = int(places[:, 0].max()) + 1
        fallback = -(-needed // self._row_multiple) * self._row_multiple
        rows = int(next((count for count in self.row_counts if count >= needed), fallback))
        inputs, input_segments = _packed_rows(self._inputs, examples, places[:, [0, 1, 3]], rows, self.input_length)
        targets, target_segments = _packed_rows(self._targets, examples, places[:, [0, 2, 3]], rows, target_length)
        return Batch(inputs, input_segments, targets, target_segments)


Room = tuple[int, int]  # how many input and target tokens a row takes


def _cheapest_room(
    sizes: np.ndarray, targets_an_input: float, trials: list[np.ndarray], row_cost: Callable[[int, int], float]
) -> Room:
    """Returns the room that packs the `trials` at the least cost and takes every example of `sizes` [n, 2].

    Tried are rows of small multiples of the longest input, each with target lengths around what an input of that
    length has on average, `targets_an_input` tokens for each of its own.
    """
    longest_input, longest_target = -(-int(sizes[:, 0].max()) // 8) * 8, int(sizes[:, 1].max())
    rooms = [
        (length, max(longest_target, math.ceil(length * targets_an_input * slack)))
        for length in (longest_input * times for times in _TIMES_LONGEST)
        if length == longest_input or length <= _LONG_ROW
        for slack in _SLACK
    ]
    return min(dict.fromkeys(rooms), key=lambda room: _mean_cost(trials, room, row_cost))


def _target_lengths(
    room: Room,
    targets_an_input: float,
    longest_target: int,
    trials: list[np.ndarray],
    row_cost: Callable[[int, int], float],
) -> list[int]:
    """Returns the room's target length, and before it a shorter one that is worth a compilation, where there is one.

    It is the shortest that half of the trials fit into and that packs those at 5 % less cost.
    """
    input_length, widest = room
    for length in sorted({math.ceil(input_length * targets_an_input * slack) for slack in _SLACK}):
        fitting = [trial for trial in trials if trial[:, 1].max() <= length < longest_target]
        if 2 * len(fitting) < _TRIALS:
            continue
        if _mean_cost(fitting, (input_length, length), row_cost) < 0.95 * _mean_cost(fitting, room, row_cost):
            return [length, widest]
    return [widest]


def _mean_cost(batches: list[np.ndarray], room: Room, row_cost: Callable[[int, int], float]) -> float:
    """Returns what a batch of these costs on average in rows of this room; targets beyond it are cut for the count."""
    return float(np.mean([_rows_taken(np.minimum(batch, room), room) for batch in batches])) * row_cost(*room)


def _rows_taken(sizes: np.ndarray, room: Room) -> int:
    """Counts the rows that examples of these `sizes` [n, 2] fill."""
    return int(first_fit(sizes, *room)[:, 0].max()) + 1


def first_fit(sizes: np.ndarray, input_length: int, target_length: int) -> np.ndarray:
    """Returns each example's place, [n, 4] int64: its row, its first input and target position, and its segment.

    `sizes` [n, 2] are the examples' input and target tokens. First-fit decreasing: the largest first, each into the
    first row that has room for both. The order of equal sizes is the order given, so the places are reproducible.
    """
    room = np.array([input_length, target_length])
    order = np.argsort(-(sizes / room).max(axis=1), kind="stable")
    rows: list[list[int]] = []  # what each row has left of inputs and targets, and its segments
    places = np.empty((len(sizes), 4), np.int64)
    for i, (inputs, targets) in zip(order, sizes[order].tolist(), strict=True):  # not numpy: arrays of two cost more
        row = next((row for row, left in enumerate(rows) if inputs <= left[0] and targets <= left[1]), len(rows))
        if row == len(rows):
            rows.append([input_length, target_length, 0])
        left = rows[row]
        left[2] += 1
        places[i] = row, input_length - left[0], target_length - left[1], left[2]
        left[0] -= inputs
        left[1] -= targets
    return places


def _lengths(texts: Encoded, rows: np.ndarray) -> np.ndarray:
    """Returns the lengths of the texts `rows`, [len(rows)] int64; the others' aren't computed."""
    return np.asarray(texts.offsets[rows + 1] - texts.offsets[rows])


def _packed_rows(
    texts: Encoded, examples: np.ndarray, places: np.ndarray, rows: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and segments, each [rows, length] int32; `places` [n, 3] are row, start and segment."""
    counts = _lengths(texts, examples)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … in each example
    to = np.repeat(places[:, 0] * length + places[:, 1], counts) + within
    ids, segments = np.zeros(rows * length, np.int32), np.zeros(rows * length, np.int32)
    ids[to] = texts.flat[np.repeat(texts.offsets[examples], counts) + within]
    segments[to] = np.repeat(places[:, 2], counts)
    return ids.reshape(rows, length), segments.reshape(rows, length)
