"""Runs the forward pass on a GPU: one kernel, which also keeps the logarithm of each query's sum."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from train.attention.gpu_kernel.blocks import Arrays, Keys, Queries, Ranges, bias_block, block, bounds
from train.attention.gpu_kernel.plan import Plan, as_shape, call_kernel
from train.attention.gpu_kernel.visible_blocks import UNSEEN, coarser, ranges, visibility
from train.attention.gpu_kernel.weights import LOG2_E, exp2, logits, product

Residuals = tuple[Arrays, jax.Array, jax.Array, jax.Array]


def forward_pass(*arguments: Any) -> tuple[jax.Array, Residuals]:
    """Returns the result, and what the backward pass needs: inputs, visible blocks, result and logarithms of sums."""
    q, k, v, by_distance, query_segments, key_segments, keep, plan = arguments
    rows, queries, heads, _ = q.shape
    visible, unseen = visibility(query_segments, key_segments, plan.read)
    bias = None if by_distance is None else by_distance * LOG2_E
    arrays = Arrays(q, k, v, bias, query_segments, key_segments, unseen, keep)
    sums = jax.ShapeDtypeStruct((rows, heads, queries), jnp.float32)
    out, log_sums = call_kernel(
        forward_kernel,
        plan,
        plan.kept,
        plan.forward_stages,
        (queries // plan.kept, heads, rows),
        (arrays, ranges(coarser(visible, plan.kept // plan.read))),
        (as_shape(q), sums),
    )
    return out, (arrays, visible, out, log_sums)


def forward_kernel(arrays: Arrays, range_refs: Ranges, out_ref: Any, log_sums_ref: Any, *, plan: Plan) -> None:
    """Computes the result of a block of queries, and the logarithms of their sums."""
    i, head, row = (pl.program_id(axis) for axis in range(3))
    own = block(i, plan.kept)
    queries = Queries.load(arrays, row, head, own)

    def add_keys(j: jax.Array, sums: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        attended, largest, total = sums
        keys = Keys.load(arrays, row, head, block(j, plan.read))
        x = logits(queries, keys, bias_block(arrays, head, own, block(j, plan.read)), plan)
        new_largest = jnp.maximum(largest, jnp.max(x, axis=1))
        rescale = jnp.exp2(largest - new_largest)
        powers = exp2(x - new_largest[:, None], plan)
        total = total * rescale + jnp.sum(powers, axis=1)
        if keys.keep is not None:
            powers *= keys.keep[None, :]
        weighted = product(powers.astype(keys.v.dtype), keys.v)
        return attended * rescale[:, None] + weighted, new_largest, total

    start = (
        jnp.zeros(queries.q.shape, jnp.float32),
        jnp.full((plan.kept,), UNSEEN, jnp.float32),
        jnp.zeros((plan.kept,), jnp.float32),
    )
    attended, largest, total = lax.fori_loop(*bounds(range_refs, row, i), add_keys, start)
    triton.store(out_ref.at[row, own, head, :], (attended / total[:, None]).astype(out_ref.dtype))
    triton.store(log_sums_ref.at[row, head, own], largest + jnp.log2(total))
