"""Computes running sums of small whole numbers in order of rank, to be read off before any rank.

A running sum is taken one number after the other, which is slow. Here the ranks are cut into blocks of 64, and the k-th
numbers of all blocks are added at once: the sums within blocks fit a byte, and only one number a block is added up
along the ranks. All sums are of whole numbers, so that they are exact whatever their order.

The numbers of an example lie side by side in memory: to sort many rows of numbers by one rank is then to move an
example's bytes at once, several times faster than to sort row by row.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

_BLOCK = 64  # ranks; a sum over a block of -1, 0 and 1 fits int8, and 64 of such sums fit int16
_LOWEST = -128  # below any sum within a block: marks ranks that are skipped


@dataclass
class RankedSums:
    """Holds the sums of J rows of values over the first 0 … n ranks."""

    ranks: int  # n
    starts: np.ndarray  # [B + 1, J] int64, the sum before each of B blocks, and over all
    within: np.ndarray  # [64, B, J] int8, at k the sum over each block's first k + 1 ranks

    @classmethod
    def of_order(cls, order: np.ndarray, values: np.ndarray) -> Self:
        """Computes the sums of `values` [J, n] int8, each -1, 0 or 1, with the examples of rank 0, 1 … in `order`.

        It is fastest where an example's values lie side by side in memory, as in the transpose of an array [n, J]. An
        order of fewer examples sums these alone.
        """
        ranks, blocks, rows = len(order), -(-len(order) // _BLOCK), len(values)
        place = np.zeros(blocks * _BLOCK, dtype=order.dtype)
        place[:ranks] = order
        place = place.reshape(blocks, _BLOCK).T.ravel()  # the first of each block, then the second of each …
        within = values.T.take(place, axis=0, mode="clip").reshape(_BLOCK, blocks, rows)
        if blocks:
            within[ranks - (blocks - 1) * _BLOCK :, -1] = 0  # the last block has ranks that count nothing
        for k in range(1, _BLOCK):
            np.add(within[k - 1], within[k], out=within[k])
        starts = np.zeros((blocks + 1, rows), dtype=np.int64)
        np.cumsum(within[-1], axis=0, out=starts[1:])
        return cls(ranks, starts, within)

    @property
    def total(self) -> np.ndarray:
        """Returns the sums over all ranks: [J] int64."""
        total: np.ndarray = self.starts[-1]
        return total

    def before(self, ranks: np.ndarray) -> np.ndarray:
        """Returns the sums over the first `ranks` [T], 0 … n in any order: [J, T] int64."""
        blocks = len(self.starts) - 1
        block, inside = np.divmod(ranks, _BLOCK)
        sums = self.starts.take(block, axis=0)
        some = np.flatnonzero(inside)
        sums[some] += self.within.reshape(_BLOCK * blocks, -1).take((inside[some] - 1) * blocks + block[some], axis=0)
        by_row: np.ndarray = np.ascontiguousarray(sums.T)
        return by_row

    def highest(self, skipped: np.ndarray | None = None) -> np.ndarray:
        """Returns the highest of the sums over the first 0, 1 … n ranks: [J] int64.

        Those over the `skipped` [T] ranks, each of 1 … n - 1, are left out.
        """
        within = self.within
        if skipped is not None and len(skipped):
            blocks, rows = within.shape[1:]
            within = within.copy()
            block, inside = (skipped - 1) // _BLOCK, (skipped - 1) % _BLOCK
            within.reshape(-1, rows)[inside * blocks + block] = _LOWEST
        highest_within = within.max(axis=0)
        # the sum before the first rank, 0, is never skipped: it stands for the blocks of which all ranks are
        in_blocks = np.where(highest_within == _LOWEST, 0, self.starts[:-1] + highest_within)
        highest: np.ndarray = np.maximum(in_blocks.max(axis=0), 0)
        return highest

    def weighted_sum(self, weights: np.ndarray) -> np.ndarray:
        """Adds up the sums over the first 1, 2 … n ranks, each times its weight: [n] float64 to [J] int64.

        It is exact for whole weights, 0 or more, that add up to less than 2⁴⁶.
        """
        blocks = len(self.starts) - 1
        padded = np.zeros(blocks * _BLOCK)
        padded[: self.ranks] = weights
        within_blocks = np.ascontiguousarray(padded.reshape(blocks, _BLOCK).T)  # [64, B]
        total: np.ndarray = within_blocks.sum(axis=0).astype(np.int64) @ self.starts[:-1]
        for of_block, within in zip(within_blocks, self.within, strict=True):  # bytes become numbers of eight bytes
            total += (of_block @ within).astype(np.int64)
        return total

    def sum_of_all(self) -> np.ndarray:
        """Adds up the sums over the first 1, 2 … n ranks: [J] int64."""
        blocks = len(self.starts) - 1
        padding = blocks * _BLOCK - self.ranks  # each of it counts as one more sum over all ranks
        in_blocks = np.add.reduce(self.within, axis=0, dtype=np.int16).sum(axis=0, dtype=np.int64)
        all_sums: np.ndarray = in_blocks + _BLOCK * self.starts[:-1].sum(axis=0) - padding * self.total
        return all_sums
