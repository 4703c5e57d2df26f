"""Computes running sums of small whole numbers in order of rank, to be read off before any rank.

A running sum is taken one number after the other, which is slow. Here the ranks are cut into blocks of 64, and the k-th
numbers of all blocks are added at once: the sums within blocks fit a byte, and only one number a block is added up
along the ranks. All sums are of whole numbers, so that they are exact whatever their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

_BLOCK = 64  # ranks; a sum over a block of -1, 0 and 1 fits int8
_FEW = 16  # a sixteenth of the ranks is looked up rank by rank; of more, all sums are made
_LOWEST = -128  # below any sum over a block
_NUMBERS_AT_A_TIME = 1 << 20  # of int8, so that they fit a core's cache


@dataclass
class RankedSums:
    """Holds the sums of J rows of values over the first 0 … n ranks."""

    ranks: int  # n
    starts: np.ndarray  # [J, B + 1] int64, the sum before each of B blocks, and over all
    within: np.ndarray  # [J, 64 · B] int8, at 64 · B the k-th block-wise sum of each block, k by k

    @classmethod
    def of_order(cls, order: np.ndarray, values: np.ndarray) -> Self:
        """Computes the sums of `values` [J, n] int8, each -1, 0 or 1, with the examples of rank 0, 1 … in `order`."""
        return cls.of_parts(order, values, ())[0]

    @classmethod
    def of_parts(cls, order: np.ndarray, values: np.ndarray, parts: Sequence[np.ndarray]) -> list[Self]:
        """Computes what `of_order` does, and then the same of some of the examples alone, [n] bool for each part."""
        n = len(order)
        blocks = -(-n // _BLOCK)
        place = np.zeros(blocks * _BLOCK, dtype=order.dtype)
        place[:n] = order
        place = place.reshape(blocks, _BLOCK).T.ravel()  # the first of each block, then the second of each …
        last = n - (blocks - 1) * _BLOCK  # how many ranks the last block has
        counted = [part.take(place).view(np.int8).reshape(_BLOCK, blocks) for part in parts]
        within = np.empty((1 + len(parts), len(values), _BLOCK, blocks), dtype=np.int8)
        at_a_time = max(1, _NUMBERS_AT_A_TIME // (len(within) * max(n, 1)))
        for start in range(0, len(values), at_a_time):
            some = within[:, start : start + at_a_time]
            taken = some[0]
            np.take(values[start : start + at_a_time], place, axis=1, out=taken.reshape(len(taken), -1), mode="clip")
            taken[:, last:, -1:] = 0
            for of_part, counts in zip(some[1:], counted, strict=True):
                np.multiply(taken, counts, out=of_part)
            for k in range(1, _BLOCK):
                np.add(some[:, :, k - 1], some[:, :, k], out=some[:, :, k])
        starts = np.zeros((len(within), len(values), blocks + 1), dtype=np.int64)
        np.cumsum(within[:, :, -1], axis=2, out=starts[:, :, 1:])
        return [cls(n, *both) for both in zip(starts, within.reshape(len(within), len(values), -1), strict=True)]

    @property
    def total(self) -> np.ndarray:
        """Returns the sums over all ranks: [J] int64."""
        return self.starts[:, -1]

    def before(self, ranks: np.ndarray) -> np.ndarray:
        """Returns the sums over the first `ranks` [T], 0 … n in any order: [J, T] int64."""
        blocks = self.starts.shape[1] - 1
        if len(ranks) > self.ranks // _FEW:
            sums = np.empty((len(self.within), len(ranks)), dtype=np.int64)
            running = np.zeros(blocks * _BLOCK + 1, dtype=np.int32)
            for row, (start, within) in enumerate(zip(self.starts, self.within, strict=True)):
                by_block = running[1:].reshape(blocks, _BLOCK)
                np.add(within.reshape(_BLOCK, blocks).T, start[:-1, None], out=by_block, casting="unsafe")
                sums[row] = running.take(ranks)
            return sums
        block, inside = np.divmod(ranks, _BLOCK)
        sums = self.starts.take(block, axis=1)
        some = np.flatnonzero(inside)
        sums[:, some] += self.within.take((inside[some] - 1) * blocks + block[some], axis=1)
        return sums

    def highest(self, skipped: np.ndarray | None = None) -> np.ndarray:
        """Returns the highest of the sums over the first 0, 1 … n ranks: [J] int64.

        Those over the `skipped` [T] ranks, each of 1 … n - 1, are left out.
        """
        blocks = self.starts.shape[1] - 1
        within = self.within
        if skipped is not None and len(skipped):
            block, inside = np.divmod(skipped - 1, _BLOCK)
            within = within.copy()
            within[:, inside * blocks + block] = _LOWEST
        in_block = within.reshape(len(within), _BLOCK, blocks).max(axis=1)
        highest: np.ndarray = np.maximum((self.starts[:, :-1] + in_block).max(axis=1), 0)
        return highest

    def sum_of_all(self) -> np.ndarray:
        """Adds up the sums over the first 1, 2 … n ranks: [J] int64."""
        blocks = self.starts.shape[1] - 1
        padding = blocks * _BLOCK - self.ranks  # each of it counts as one more sum over all ranks
        in_blocks = np.empty(len(self.within), dtype=np.int64)
        for row, numbers in enumerate(self.within):
            in_blocks[row] = numbers.sum(dtype=np.int64)
        all_sums: np.ndarray = in_blocks + _BLOCK * self.starts[:, :-1].sum(axis=1) - padding * self.total
        return all_sums
