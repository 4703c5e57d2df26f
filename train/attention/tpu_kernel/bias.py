"""Spreads the bias from distances to a matrix inside of a kernel, and sums the matrix's gradient back to distances."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from train.attention.tpu_kernel.plan import Plan


def spread_before_first_row(distances_ref: Any, bias_ref: Any, plan: Plan) -> None:
    """Writes the matrix of biases [group, T, S] of a group of heads, when its first row comes."""

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        for head in range(plan.group):
            for block in plan.blocks:
                size = block.stop - block.start
                # Row i of the matrix starts at index T-1-i: all rows at that of the block's first, then i further back.
                first = rotated(distances_ref[head], -(plan.queries - 1 - block.start))
                rows = shifted_by_row(jnp.broadcast_to(first, (size, plan.distances)), 1)
                bias_ref[head, block] = rows[:, : plan.keys]


def summed_along_diagonals(matrix_ref: Any, head: int, plan: Plan) -> jax.Array:
    """Returns [1, T+S] float32: the sum of one head's matrix [T, S] over all pairs of each distance."""
    total = jnp.zeros((1, plan.distances), jnp.float32)
    for block in plan.blocks:
        size = block.stop - block.start
        rows = jnp.concatenate([matrix_ref[head, block], jnp.zeros((size, plan.queries), jnp.float32)], axis=1)
        by_distance = jnp.sum(shifted_by_row(rows, -1), axis=0, keepdims=True)
        total += rotated(by_distance, plan.queries - 1 - block.start)
    return total


def shifted_by_row(x: jax.Array, step: int) -> jax.Array:
    """Rotates row i of `x` [M, N] by i·step columns to the right: for each power of 2 in i, all such rows at once."""
    row = lax.broadcasted_iota(jnp.int32, x.shape, 0)

    def shift_rows_with(bit: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.where((row >> bit) & 1 == 1, rotated(x, step * (1 << bit)), x)

    # A loop, because XLA on a CPU would fuse the turns and compute each of them anew for the next.
    shifted: jax.Array = lax.fori_loop(0, (x.shape[0] - 1).bit_length(), shift_rows_with, x)
    return shifted


def rotated(x: jax.Array, shift: int | jax.Array) -> jax.Array:
    """Rotates `x` [M, N] by `shift` columns to the right, -N < shift < N."""
    shift = jnp.int32(shift)
    return pltpu.roll(x, jnp.where(shift < 0, shift + x.shape[1], shift), 1)
