"""Runs the forward pass on a TPU, by one kernel."""

import functools
from typing import Any

import jax
from jax.experimental import pallas as pl

from train.attention.tpu_kernel.bias import spread_before_first_row
from train.attention.tpu_kernel.plan import Plan, Specs, cost
from train.attention.tpu_kernel.softmax import Masks, kept, product, softmax_parts

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array, jax.Array | None]


def forward_pass(*arguments: Any) -> tuple[jax.Array, Residuals]:
    """Returns the result, and what the backward pass needs: the arguments."""
    *arrays, plan = arguments
    q, k, v, by_distance, query_segments, key_segments, keep = arrays
    specs = Specs(plan)
    out = pl.pallas_call(
        functools.partial(forward_kernel, plan=plan),
        grid=plan.grid,
        in_specs=specs.inputs(by_distance, keep),
        out_specs=specs.of_queries,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        scratch_shapes=specs.matrices(0 if by_distance is None else 1),
        compiler_params=specs.compiler_params,
        cost_estimate=cost(plan, products=2, arrays=4),
        interpret=plan.interpret,
        name="t5_attention_forward",
    )(q, k, v, *specs.as_blocks(by_distance, query_segments, key_segments, keep))
    return out, (q, k, v, by_distance, query_segments, key_segments, keep)


def forward_kernel(
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    distances_ref: Any,
    query_segments_ref: Any,
    key_segments_ref: Any,
    keep_ref: Any,
    out_ref: Any,
    *matrices: Any,
    plan: Plan,
) -> None:
    """Computes the result for one row and one group of heads."""
    (bias_ref,) = matrices or (None,)
    if bias_ref is not None:
        spread_before_first_row(distances_ref, bias_ref, plan)
    masks = Masks(query_segments_ref[0], key_segments_ref[0])
    for head in range(plan.group):
        lanes = slice(head * plan.width, (head + 1) * plan.width)
        k = k_ref[0, :, lanes]
        v = kept(v_ref[0, :, lanes], keep_ref, head)
        for block in plan.blocks:
            bias = None if bias_ref is None else bias_ref[head, block]
            exponentials, total = softmax_parts(q_ref[0, block, lanes], k, bias, masks, block)
            attended = product(exponentials.astype(v.dtype), v) / total
            out_ref[0, block, lanes] = attended.astype(out_ref.dtype)
