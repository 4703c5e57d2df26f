"""Runs the backward pass on a GPU: a kernel for keys and values, one for queries, and one for the bias."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from train.attention.gpu_kernel.blocks import (
    Arrays,
    Keys,
    Queries,
    Ranges,
    Result,
    ResultArrays,
    bias_block,
    block,
    bounds,
)
from train.attention.gpu_kernel.forward import Residuals
from train.attention.gpu_kernel.plan import Plan, as_shape, call_kernel
from train.attention.gpu_kernel.visible_blocks import coarser, ranges
from train.attention.gpu_kernel.weights import logit_gradients, product, weights_again

MOST_GROUPS = 8  # of rows, for each of which the bias's gradient is added up by itself: more programs at a time
Gradients = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, None, None, None]


def backward_pass(plan: Plan, residuals: Residuals, gradient: jax.Array) -> Gradients:
    """Returns the gradients of the arguments of `attend`."""
    arrays, visible, out, log_sums = residuals
    means = jnp.einsum("bthk,bthk->bht", gradient, out, preferred_element_type=jnp.float32)
    results = ResultArrays(gradient, log_sums, means)
    rows, queries, heads, _ = arrays.q.shape
    keys = arrays.k.shape[1]
    coarse = plan.kept // plan.read
    dk, dv = call_kernel(
        keys_kernel,
        plan,
        plan.kept,
        plan.backward_stages,
        (keys // plan.kept, heads, rows),
        (arrays, results, ranges(coarser(jnp.swapaxes(visible, 1, 2), coarse))),
        (as_shape(arrays.k), as_shape(arrays.v)),
    )
    [dq] = call_kernel(
        queries_kernel,
        plan,
        plan.kept,
        plan.backward_stages,
        (queries // plan.kept, heads, rows),
        (arrays, results, ranges(coarser(visible, coarse))),
        (as_shape(arrays.q),),
    )
    if arrays.bias is None:
        return dq, dk, dv, None, None, None, None
    size = plan.read
    groups, distances = math.gcd(rows, MOST_GROUPS), queries // size + keys // size - 1
    [blocks] = call_kernel(
        bias_kernel,
        plan,
        size,
        plan.backward_stages,
        (distances, heads, groups),
        (arrays, results, visible.astype(jnp.int32)),
        (jax.ShapeDtypeStruct((groups, heads, distances, size, size), jnp.float32),),
    )
    return dq, dk, dv, summed_along_diagonals(jnp.sum(blocks, axis=0)), None, None, None


def keys_kernel(
    arrays: Arrays, results: ResultArrays, range_refs: Ranges, dk_ref: Any, dv_ref: Any, *, plan: Plan
) -> None:
    """Computes the gradients of a block of keys and of their values."""
    j, head, row = (pl.program_id(axis) for axis in range(3))
    own = block(j, plan.kept)
    keys = Keys.load(arrays, row, head, own)

    def add_queries(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        dk, dv = sums
        other = block(i, plan.read)
        queries, result = Queries.load(arrays, row, head, other), Result.load(results, row, head, other)
        bias = bias_block(arrays, head, other, own, keys_first=True)
        weights = weights_again(queries, keys, result, bias, plan, keys_first=True)
        dv += product(weights.astype(result.gradient.dtype), result.gradient)
        d_logits = logit_gradients(weights, keys, result, keys_first=True)
        dk += product(d_logits.astype(queries.q.dtype), queries.q)
        return dk, dv

    zeros = jnp.zeros(keys.k.shape, jnp.float32)
    dk, dv = lax.fori_loop(*bounds(range_refs, row, j), add_queries, (zeros, zeros))
    if keys.keep is not None:
        dv *= keys.keep[:, None]
    triton.store(dk_ref.at[row, own, head, :], dk.astype(dk_ref.dtype))
    triton.store(dv_ref.at[row, own, head, :], dv.astype(dv_ref.dtype))


def queries_kernel(arrays: Arrays, results: ResultArrays, range_refs: Ranges, dq_ref: Any, *, plan: Plan) -> None:
    """Computes the gradient of a block of queries."""
    i, head, row = (pl.program_id(axis) for axis in range(3))
    own = block(i, plan.kept)
    queries, result = Queries.load(arrays, row, head, own), Result.load(results, row, head, own)

    def add_keys(j: jax.Array, dq: jax.Array) -> jax.Array:
        other = block(j, plan.read)
        keys = Keys.load(arrays, row, head, other)
        weights = weights_again(queries, keys, result, bias_block(arrays, head, own, other), plan)
        d_logits = logit_gradients(weights, keys, result)
        return dq + product(d_logits.astype(keys.k.dtype), keys.k)

    dq = lax.fori_loop(*bounds(range_refs, row, i), add_keys, jnp.zeros(queries.q.shape, jnp.float32))
    triton.store(dq_ref.at[row, own, head, :], dq.astype(dq_ref.dtype))


def bias_kernel(arrays: Arrays, results: ResultArrays, visible_ref: Any, blocks_ref: Any, *, plan: Plan) -> None:
    """Adds up the gradient of the logits over a group of rows and all pairs of blocks of one distance.

    `visible_ref` is [B, M, N] int32 and says which of M blocks of queries see something of which of N blocks of keys.
    """
    n, head, group = (pl.program_id(axis) for axis in range(3))
    rows, query_blocks, key_blocks = visible_ref.shape
    rows //= pl.num_programs(2)
    size = plan.read
    distance = n - (query_blocks - 1)  # of a block of keys from a block of queries, in blocks
    first, end = jnp.maximum(0, -distance), jnp.minimum(query_blocks, key_blocks - distance)
    bias = bias_block(arrays, head, block(first, size), block(first + distance, size))

    def add_row(row: jax.Array, total: jax.Array) -> jax.Array:
        def add_block(i: jax.Array, total: jax.Array) -> jax.Array:
            def visible_block() -> jax.Array:
                of_queries, of_keys = block(i, size), block(i + distance, size)
                queries, keys = Queries.load(arrays, row, head, of_queries), Keys.load(arrays, row, head, of_keys)
                result = Result.load(results, row, head, of_queries)
                weights = weights_again(queries, keys, result, bias, plan)
                return total + logit_gradients(weights, keys, result)

            visible = triton.load(visible_ref.at[row, i, i + distance]) != 0
            added: jax.Array = lax.cond(visible, visible_block, lambda: total)
            return added

        added: jax.Array = lax.fori_loop(first, end, add_block, total)
        return added

    total = lax.fori_loop(group * rows, (group + 1) * rows, add_row, jnp.zeros((size, size), jnp.float32))
    triton.store(blocks_ref.at[group, head, n], total)


def summed_along_diagonals(blocks: jax.Array) -> jax.Array:
    """Returns [H, T+S] float32: the sum over all pairs of each distance, in the order in which `attend` has them.

    Entry [h, n, r, c] of `blocks` [H, T/M + S/M - 1, M, M] has the distance (n - (T/M - 1)) · M + c - r.
    """
    heads, n, size, _ = blocks.shape
    # Rows of 2·M numbers, read as if they had one less, shift row i by i. They start from the last row of a block.
    rows = jnp.pad(blocks[:, :, ::-1], ((0, 0), (0, 0), (0, 0), (0, size))).reshape(heads, n, 2 * size**2)
    shifted = rows[:, :, :-size].reshape(heads, n, size, 2 * size - 1)
    by_distance = jnp.pad(jnp.sum(shifted, axis=2), ((0, 0), (0, 0), (0, 1)))  # [H, N, 2·M]
    # The later half of what one block has is of the same distances as the earlier half of the next one's.
    earlier, later = (by_distance[:, :, half : half + size].reshape(heads, n * size) for half in (0, size))
    return jnp.pad(earlier, ((0, 0), (0, size))) + jnp.pad(later, ((0, 0), (size, 0)))
