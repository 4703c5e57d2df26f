"""Batches: for training by (seed, epoch) alone, for scoring by length, so that little is padded."""

from dataclasses import dataclass

import numpy as np

from train.data.tokens import Encoded


@dataclass
class Batch:
    """One training batch, 0-padded."""

    inputs: np.ndarray  # [batch, input_length] int32
    targets: np.ndarray  # [batch, target_length] int32


class TrainBatches:
    """Endless batches of one fixed shape. Step s is at hand without the steps before it.

    The rows are shuffled anew each epoch, by (seed, epoch) alone; a batch may cross from one epoch into the next.
    """

    def __init__(self, inputs: Encoded, targets: Encoded, batch_size: int, seed: int) -> None:
        """Raises ValueError where inputs and targets don't match, or there is nothing to batch."""
        import grain  # seconds to import: only training pays

        if len(inputs) != len(targets) or len(inputs) == 0 or batch_size < 1:
            raise ValueError(
                f"{len(inputs)} inputs, {len(targets)} targets, batch_size={batch_size}: "
                "expected as many targets as inputs, and at least one of each"
            )
        self._inputs, self._targets = inputs, targets
        self.input_length = -(-int(inputs.lengths.max()) // 8) * 8
        self.target_length = int(targets.lengths.max())
        self._order = grain.MapDataset.range(len(inputs)).seed(seed).shuffle().repeat().batch(batch_size)

    def indices(self, step: int) -> np.ndarray:
        """The rows of step `step` (from 0), [batch_size] int64."""
        return np.asarray(self._order[step], np.int64)

    def batch(self, step: int) -> Batch:
        """The batch of step `step` (from 0)."""
        rows = self.indices(step)
        return Batch(self._inputs.padded(rows, self.input_length), self._targets.padded(rows, self.target_length))

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
    chosen = _bucket_lengths(longest, buckets)
    padded_to = chosen[np.searchsorted(chosen, longest)]
    starts = np.concatenate([[0], ends[:-1]])
    return [(order[start:end], int(length)) for start, end, length in zip(starts, ends, padded_to, strict=True)]


def padding_share(lengths: np.ndarray, batches: list[tuple[np.ndarray, int]], batch_size: int) -> float:
    """The share of input positions that hold no token, when each batch is filled up to `batch_size` rows."""
    positions = sum(batch_size * length for _, length in batches)
    tokens = sum(int(np.sum(np.asarray(lengths)[rows])) for rows, _ in batches)
    return 1 - tokens / positions if positions else 0.0


def _bucket_lengths(longest: np.ndarray, buckets: int) -> np.ndarray:
    """At most `buckets` of the values of `longest` [m], sorted, that cover it with the least sum of roundings up."""
    values, counts = np.unique(longest, return_counts=True)  # [v]
    v = len(values)
    if v <= buckets:
        return values
    below = np.concatenate([[0], np.cumsum(counts)])  # [v + 1]: batches with one of the first j values
    # cost[j]: the least cost of the first j values with the buckets so far, the last of them at values[j - 1].
    cost = np.concatenate([[0], values * below[1:]])  # [v + 1]: one bucket
    cuts = []
    for _ in range(buckets - 1):
        # into[i, j - 1]: the first i values by the buckets so far, those from i to j by one more.
        into = cost[:, None] + values * (below[1:] - below[:, None])  # [v + 1, v]
        into[np.arange(v + 1)[:, None] > np.arange(1, v + 1)] = np.iinfo(np.int64).max
        cuts.append(into.argmin(0))  # [v]
        cost = np.concatenate([[0], into.min(0)])
    chosen, j = [], v
    for cut in reversed(cuts):
        if j == 0:
            break
        chosen.append(values[j - 1])
        j = int(cut[j - 1])
    if j:
        chosen.append(values[j - 1])
    return np.unique(chosen)
