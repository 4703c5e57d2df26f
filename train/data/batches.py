"""Makes batches: for training by (seed, epoch) alone and packed, for scoring by length, so that little is padded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from conf.schema import Infer
from train.data.lengths import between, cheapest_runs
from train.data.packing import Batch, Packer, sum_of_lengths
from train.data.tokens import Encoded


def row_order(n: int, batch_size: int, seed: int) -> Callable[[int], np.ndarray]:
    """Returns the function of a step, from 0, to the examples in its batch: [batch_size] int64, from 0 to n - 1.

    The `n` examples are shuffled anew each epoch, by (seed, epoch) alone; a batch may cross from one epoch into the
    next.
    """
    import grain  # seconds to import: only training pays

    order = grain.MapDataset.range(n).seed(seed).shuffle().repeat().batch(batch_size)
    return lambda step: np.asarray(order[step], np.int64)


class TrainBatches:
    """Makes packed training batches without end; that of step s is made without those of the steps before it.

    The examples are shuffled anew each epoch, by (seed, epoch) alone; a batch may cross from one epoch into the next.
    """

    def __init__(
        self,
        inputs: Encoded,
        targets: Encoded,
        batch_size: int,
        seed: int,
        row_cost: Callable[[int, int], float] = sum_of_lengths,
        row_multiple: int = 1,
    ) -> None:
        """Takes n inputs and their n targets; `row_cost` and `row_multiple` are as `Packer` takes them.

        Raises ValueError where inputs and targets don't match, or there is nothing to batch.
        """
        if len(inputs) != len(targets) or len(inputs) == 0 or batch_size < 1:
            raise ValueError(
                f"{len(inputs)} inputs, {len(targets)} targets, batch_size={batch_size}: "
                "expected as many targets as inputs, and at least one of each"
            )
        self.packer = Packer(inputs, targets, batch_size, row_cost, row_multiple)
        self._order = row_order(len(inputs), batch_size, seed)

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of step `step` (from 0), [batch_size] int64."""
        return self._order(step)

    def batch(self, step: int) -> Batch:
        """Returns the batch of step `step` (from 0)."""
        return self.packer(self.indices(step))

    __call__ = batch


class ScoringBatch(NamedTuple):
    """Names rows that are scored together, and the shape to which they are padded."""

    rows: np.ndarray  # [at most row_count] int64
    length: int
    row_count: int  # of the shape: where `rows` are fewer, empty rows fill it up


@dataclass(frozen=True)
class Budget:
    """Limits a batch to `tokens` positions, its inputs' and its outputs' together.

    `outputs` maps the length of a padded input to the number of its row's output positions. Row counts are multiples of
    `row_multiple`, the devices that share a batch. Where not even that many rows fit, a batch has that many all the
    same. Another length, which is compiled by itself, is worth `rows_a_length` rows or more.
    """

    tokens: int
    outputs: Callable[[int], int]
    row_multiple: int = 1
    rows_a_length: int = 64

    def rows(self, length: int) -> int:
        """Returns the most rows that a batch padded to `length` may have."""
        return max(self.tokens // (length + self.outputs(length)) // self.row_multiple, 1) * self.row_multiple

    def batches(self, n: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns into how many batches `n` rows are cut where a batch may have `most`, and how many rows each has.

        There are as few batches as can hold the rows, all of one shape, with as few empty rows as that allows. All
        arrays are integer and are broadcast against each other.
        """
        count = -(-n // most)
        each = -(-n // np.maximum(count, 1))
        return count, -(-each // self.row_multiple) * self.row_multiple


_LENGTHS = 512  # more are not distinguished: the plan takes their square of steps


def scoring_batches(lengths: np.ndarray, budget: Budget, buckets: int) -> list[ScoringBatch]:
    """Cuts rows into batches of like length within `budget`, each padded to one of at most `buckets` lengths.

    `lengths` [n] integer are those of the rows, 1 or more; every row is in one batch. Batches come by rising length;
    those of one length have one shape, and only the first of them may hold fewer rows. Each row is padded to the
    shortest of the lengths that holds it. The lengths are those with the fewest input positions, empty rows included,
    found by dynamic programming over the distinct lengths of rows or, where the longest is beyond 512, over as many
    multiples that lengths are rounded up to. Raises ValueError for `buckets` below 1.
    """
    if buckets < 1:
        raise ValueError(f"buckets={buckets}: expected 1 or more")
    lengths = np.asarray(lengths)
    if len(lengths) == 0:
        return []
    longest = int(lengths.max())
    step = -(-longest // _LENGTHS)
    values, counts = np.unique(np.minimum(-(-lengths // step) * step, longest), return_counts=True)  # [v]
    most = np.array([budget.rows(int(length)) for length in values])  # [v]
    count, each = budget.batches(between(counts), most)  # [v + 1, v]
    ends = cheapest_runs(count * each * values, buckets)
    row_counts = each[np.append(0, ends[:-1] + 1), ends]
    by_length = np.split(np.argsort(lengths, kind="stable"), np.cumsum(counts)[ends[:-1]])
    batches = []
    for rows, length, row_count in zip(by_length, values[ends].tolist(), row_counts.tolist(), strict=True):
        cuts = range(len(rows), 0, -row_count)[::-1]  # the first batch may be short
        batches += [ScoringBatch(rows[max(0, cut - row_count) : cut], length, row_count) for cut in cuts]
    return batches


def plan_batches(infer: Infer, lengths: np.ndarray, budget: Budget) -> list[ScoringBatch]:
    """Cuts rows into batches of the fewest lengths that keep padding under `infer.max_padding`.

    Each length is compiled by itself, so that a small split has fewer of them than `infer.length_buckets`, whatever the
    padding: one for the budget's `rows_a_length`. `lengths` and `budget` are as `scoring_batches` takes them.
    """
    for buckets in range(1, worthwhile_lengths(len(lengths), infer.length_buckets, budget.rows_a_length) + 1):
        batches = scoring_batches(lengths, budget, buckets)
        if padding_share(lengths, batches) <= infer.max_padding:
            break
    return batches


def worthwhile_lengths(n: int, buckets: int, rows_a_length: int = Budget.rows_a_length) -> int:
    """Returns how many lengths `n` rows are worth: one for `rows_a_length` rows, and at most `buckets`."""
    return max(min(buckets, -(-n // rows_a_length)), 1)


def padding_share(lengths: np.ndarray, batches: Sequence[ScoringBatch]) -> float:
    """Returns the share of input positions that hold no token, those of empty rows included."""
    positions = sum(batch.row_count * batch.length for batch in batches)
    tokens = sum(int(np.sum(np.asarray(lengths)[batch.rows])) for batch in batches)
    return 1 - tokens / positions if positions else 0.0
