"""Batches: for training by (seed, epoch) alone and packed, for scoring by length, so that little is padded."""

from collections.abc import Callable

import numpy as np

from conf.schema import Infer
from train.data.lengths import covering
from train.data.packing import Batch, Packer, sum_of_lengths
from train.data.tokens import Encoded


class TrainBatches:
    """Endless packed batches. Step s is at hand without the steps before it.

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
        """`row_cost` and `row_multiple` as `Packer` takes them.

        Raises ValueError where inputs and targets don't match, or there is nothing to batch.
        """
        import grain  # seconds to import: only training pays

        if len(inputs) != len(targets) or len(inputs) == 0 or batch_size < 1:
            raise ValueError(
                f"{len(inputs)} inputs, {len(targets)} targets, batch_size={batch_size}: "
                "expected as many targets as inputs, and at least one of each"
            )
        self.packer = Packer(inputs, targets, batch_size, row_cost, row_multiple)
        self._order = grain.MapDataset.range(len(inputs)).seed(seed).shuffle().repeat().batch(batch_size)

    def indices(self, step: int) -> np.ndarray:
        """The examples of step `step` (from 0), [batch_size] int64."""
        return np.asarray(self._order[step], np.int64)

    def batch(self, step: int) -> Batch:
        """The batch of step `step` (from 0)."""
        return self.packer(self.indices(step))

    __call__ = batch


def scoring_batches(lengths: np.ndarray, batch_size: int, buckets: int) -> list[tuple[np.ndarray, int]]:
    """Every row once, in batches of like length, each padded to one of at most `buckets` lengths.

    `lengths` is [n] integer. Returns (rows [at most batch_size] int64, length) by rising length; only the first may
    hold fewer rows. Of all such plans it is one with the fewest positions, dummy rows included: sorted rows in runs
    are best for any set of lengths, a short batch costs its length times batch_size wherever it stands and least at
    the short end, where it also moves each later cut to a shorter row; the lengths are chosen by dynamic programming.
    Raises ValueError for batch_size or buckets below 1.
    """
    if batch_size < 1 or buckets < 1:
        raise ValueError(f"batch_size={batch_size}, buckets={buckets}: expected 1 or more")
    lengths = np.asarray(lengths)
    n = len(lengths)
    if n == 0:
        return []
    order = np.argsort(lengths, kind="stable")  # [n]
    ends = np.arange(n, 0, -batch_size)[::-1]  # [batches]: the last is n, the first at most batch_size
    longest = lengths[order[ends - 1]]  # [batches], rising
    chosen = covering(longest, buckets)
    padded_to = chosen[np.searchsorted(chosen, longest)]
    starts = np.concatenate([[0], ends[:-1]])
    return [(order[start:end], int(length)) for start, end, length in zip(starts, ends, padded_to, strict=True)]


def plan_batches(infer: Infer, lengths: np.ndarray, batch_size: int) -> list[tuple[np.ndarray, int]]:
    """Batches over the fewest lengths that keep padding under `max_padding`: each length is compiled by itself."""
    for buckets in range(1, infer.length_buckets + 1):
        batches = scoring_batches(lengths, batch_size, buckets)
        if padding_share(lengths, batches, batch_size) <= infer.max_padding:
            break
    return batches


def padding_share(lengths: np.ndarray, batches: list[tuple[np.ndarray, int]], batch_size: int) -> float:
    """The share of input positions that hold no token, when each batch is filled up to `batch_size` rows."""
    positions = sum(batch_size * length for _, length in batches)
    tokens = sum(int(np.sum(np.asarray(lengths)[rows])) for rows, _ in batches)
    return 1 - tokens / positions if positions else 0.0
