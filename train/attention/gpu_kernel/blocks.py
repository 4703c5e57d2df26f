"""Reads blocks of queries, of keys and of results from memory inside of a kernel.

`Arrays` and `ResultArrays` hold what a kernel is given, `Queries`, `Keys` and `Result` what a program has read of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

Ranges = tuple[Any, Any]  # [B, M] int32 each: the first block that each of M blocks sees, and one past the last


class Arrays(NamedTuple):
    """Holds the arrays that all kernels read, and inside of a kernel the references to them."""

    q: Any  # [B, T, H, K]
    k: Any  # [B, S, H, K]
    v: Any  # [B, S, H, K]
    bias: Any  # [H, T+S] float32 by distance, times LOG2_E, or None
    query_segments: Any  # [B, T] int32
    key_segments: Any  # [B, S] int32
    unseen: Any  # [B, T] float32: the logit of a key that this query does not see
    keep: Any  # [B, H, S] float32, or None


class ResultArrays(NamedTuple):
    """Holds the arrays that the kernels of the backward pass read besides, or the references to them."""

    gradient: Any  # of the result, [B, T, H, K]
    log_sums: Any  # log2 of the sum of each query's powers of 2, [B, H, T] float32
    means: Any  # of the gradients of each query's weights, by these weights, [B, H, T] float32


class Queries(NamedTuple):
    """Holds what a program has read of a block of N queries, of one row and head."""

    q: jax.Array  # [N, K]
    segments: jax.Array  # [N]
    unseen: jax.Array  # [N]

    @classmethod
    def load(cls, arrays: Arrays, row: jax.Array, head: jax.Array, positions: pl.Slice) -> "Queries":
        """Reads the block that stands at `positions`."""
        return cls(
            triton.load(arrays.q.at[row, positions, head, :]),
            triton.load(arrays.query_segments.at[row, positions]),
            triton.load(arrays.unseen.at[row, positions]),
        )


class Keys(NamedTuple):
    """Holds what a program has read of a block of N keys, of one row and head."""

    k: jax.Array  # [N, K]
    v: jax.Array  # [N, K]
    segments: jax.Array  # [N]
    keep: jax.Array | None  # [N]

    @classmethod
    def load(cls, arrays: Arrays, row: jax.Array, head: jax.Array, positions: pl.Slice) -> "Keys":
        """Reads the block that stands at `positions`."""
        return cls(
            triton.load(arrays.k.at[row, positions, head, :]),
            triton.load(arrays.v.at[row, positions, head, :]),
            triton.load(arrays.key_segments.at[row, positions]),
            None if arrays.keep is None else triton.load(arrays.keep.at[row, head, positions]),
        )


class Result(NamedTuple):
    """Holds what a program of the backward pass has read of the results of a block of N queries."""

    gradient: jax.Array  # [N, K]
    log_sums: jax.Array  # [N]
    means: jax.Array  # [N]

    @classmethod
    def load(cls, results: ResultArrays, row: jax.Array, head: jax.Array, positions: pl.Slice) -> "Result":
        """Reads the block that stands at `positions`."""
        return cls(
            triton.load(results.gradient.at[row, positions, head, :]),
            triton.load(results.log_sums.at[row, head, positions]),
            triton.load(results.means.at[row, head, positions]),
        )


def block(n: jax.Array, size: int) -> pl.Slice:
    """Returns the positions of block `n`."""
    return pl.Slice(n * size, size)


def bounds(range_refs: Ranges, row: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Reads the first block that block `n` of a row sees, and one past the last."""
    first, end = (triton.load(ref.at[row, n]) for ref in range_refs)
    return first, end


def bias_block(
    arrays: Arrays, head: jax.Array, queries: pl.Slice, keys: pl.Slice, keys_first: bool = False
) -> jax.Array | None:
    """Reads the bias of a block of queries and a block of keys, [M, N] or, with `keys_first`, [N, M].

    Returns None where there is no bias.
    """
    if arrays.bias is None:
        return None
    query = across(jnp.arange(queries.size), 1 - keys_first)
    key = across(jnp.arange(keys.size), keys_first)
    bias: jax.Array = triton.load(
        arrays.bias.at[head, keys.start - queries.start + arrays.q.shape[1] - 1 + key - query]
    )
    return bias


def across(x: jax.Array, axis: int) -> jax.Array:
    """Returns `x` [N] as [N, 1] or [1, N]: one number for all along `axis`."""
    return jnp.expand_dims(x, axis)
