"""Packing: the examples of a batch side by side in as few rows as they need, so that hardly a position is padding.

A row has room for `input_length` input tokens and for some target tokens; the examples in it are segments 1, 2, …, each
in the same segment of inputs and targets. Attention stays inside a segment, so loss and gradient are those of one
example a row, and the batch is exactly its examples. Shapes are few, because each is compiled by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """Packed rows, int32: `inputs` [R, S], `targets` [R, T], and the segment of each position. 0 is padding in all."""

    inputs: np.ndarray
    input_segments: np.ndarray
    targets: np.ndarray
    target_segments: np.ndarray

    @property
    def padding(self) -> float:
        """The share of the encoder's positions that hold no token."""
        return float(np.mean(self.input_segments == 0))


def sum_of_lengths(input_length: int, target_length: int) -> float:
    """A row's cost where every position costs the same."""
    return float(input_length + target_length)


class Packer:
    """Packs batches of `batch_size` examples. The shapes follow from the lengths alone, not from the batch at hand.

    `input_length` is that of the longest input, or a small multiple of it that wastes less; `target_lengths` are one
    that takes every target and, where most batches have none of the long ones, a shorter one.
    """

    def __init__(
        self,
        inputs: Encoded,
        targets: Encoded,
        batch_size: int,
        row_cost: Callable[[int, int], float] = sum_of_lengths,
        row_multiple: int = 1,
    ) -> None:
        """`row_cost` is what a row of so many input and target positions costs; row counts are whole multiples of
        `row_multiple`, the devices that share a batch.
        """
        self._inputs, self._targets = inputs, targets
        sizes = np.stack([inputs.lengths, targets.lengths], axis=1)  # [n, 2]
        rng = np.random.default_rng(0)
        trials = [sizes[rng.integers(0, len(sizes), batch_size)] for _ in range(_TRIALS)]
        shortest, longest = -(-int(sizes[:, 0].max()) // 8) * 8, int(sizes[:, 1].max())
        ratio = sizes[:, 1].mean() / sizes[:, 0].mean()

        def rows(room: tuple[int, int], some: list[np.ndarray]) -> float:
            return float(np.mean([first_fit(np.minimum(trial, room), *room)[:, 0].max() + 1 for trial in some]))

        def cost(room: tuple[int, int], some: list[np.ndarray]) -> float:
            return rows(room, some) * row_cost(*room)

        rooms = [
            (length, max(longest, int(np.ceil(length * ratio * slack))))
            for length in (shortest * times for times in _TIMES_LONGEST)
            if length == shortest or length <= _LONG_ROW
            for slack in _SLACK
        ]
        best = min(dict.fromkeys(rooms), key=lambda room: cost(room, trials))
        self.input_length, widest = best
        self.target_lengths = [widest]
        for length in sorted({int(np.ceil(self.input_length * ratio * slack)) for slack in _SLACK}):
            fitting = [trial for trial in trials if trial[:, 1].max() <= length < longest]
            if 2 * len(fitting) >= _TRIALS and cost((self.input_length, length), fitting) < 0.95 * cost(best, fitting):
                self.target_lengths.insert(0, length)
                break
        drawn = (sizes[rng.integers(0, len(sizes), batch_size)] for _ in range(_COUNT_TRIALS))
        counts = np.array([first_fit(trial, *best)[:, 0].max() + 1 for trial in drawn])
        self._row_multiple = row_multiple
        self.row_counts = np.unique(self._whole(covering(counts, _ROW_COUNTS)))

    def __call__(self, examples: np.ndarray) -> Batch:
        """The batch of `examples` [n], indices into the inputs and targets."""
        examples = np.asarray(examples, np.int64)
        sizes = np.stack([_lengths(self._inputs, examples), _lengths(self._targets, examples)], axis=1)  # [n, 2]
        length = next(n for n in self.target_lengths if n >= sizes[:, 1].max())
        places = first_fit(sizes, self.input_length, length)
        needed = int(places[:, 0].max()) + 1
        rows = int(next((n for n in self.row_counts if n >= needed), self._whole(needed)))
        inputs, input_segments = _laid(self._inputs, examples, places[:, [0, 1, 3]], rows, self.input_length)
        targets, target_segments = _laid(self._targets, examples, places[:, [0, 2, 3]], rows, length)
        return Batch(inputs, input_segments, targets, target_segments)

    def _whole(self, rows: Any) -> Any:
        return -(-rows // self._row_multiple) * self._row_multiple


def first_fit(sizes: np.ndarray, input_length: int, target_length: int) -> np.ndarray:
    """Each example's place, [n, 4] int64: its row, where it starts among inputs and among targets, its segment.

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
    return texts.offsets[rows + 1] - texts.offsets[rows]


def _laid(
    texts: Encoded, examples: np.ndarray, places: np.ndarray, rows: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and segments [rows, length] int32; `places` [n, 3] are row, start and segment."""
    counts = _lengths(texts, examples)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … in each example
    to = np.repeat(places[:, 0] * length + places[:, 1], counts) + within
    ids, segments = np.zeros(rows * length, np.int32), np.zeros(rows * length, np.int32)
    ids[to] = texts.flat[np.repeat(texts.offsets[examples], counts) + within]
    segments[to] = np.repeat(places[:, 2], counts)
    return ids.reshape(rows, length), segments.reshape(rows, length)
