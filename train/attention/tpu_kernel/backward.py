"""Runs the backward pass on a TPU, by one kernel, which computes the weights again."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from train.attention.tpu_kernel.bias import spread_before_first_row, summed_along_diagonals
from train.attention.tpu_kernel.forward import Residuals
from train.attention.tpu_kernel.plan import Plan, Specs, cost
from train.attention.tpu_kernel.softmax import (
    Masks,
    kept,
    product,
    product_of_transposed,
    product_with_transposed,
    softmax_parts,
)

Gradients = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, None, None, None]


def backward_pass(plan: Plan, residuals: Residuals, gradient: jax.Array) -> Gradients:
    """Returns the gradients of the arguments of `attend`."""
    q, k, v, by_distance, query_segments, key_segments, keep = residuals
    specs = Specs(plan)
    out_specs = [specs.of_queries, specs.of_keys, specs.of_keys]
    out_shape = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k, v)]
    if by_distance is not None:
        out_specs.append(specs.of_distances)
        out_shape.append(jax.ShapeDtypeStruct((plan.heads, 1, plan.distances), jnp.float32))
    dq, dk, dv, *rest = pl.pallas_call(
        functools.partial(backward_kernel, plan=plan),
        grid=plan.grid,
        in_specs=[*specs.inputs(by_distance, keep), specs.of_queries],
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=specs.matrices(0 if by_distance is None else 2),
        compiler_params=specs.compiler_params,
        cost_estimate=cost(plan, products=5, arrays=7),
        interpret=plan.interpret,
        name="t5_attention_backward",
    )(q, k, v, *specs.as_blocks(by_distance, query_segments, key_segments, keep), gradient)
    return dq, dk, dv, rest[0][:, 0] if rest else None, None, None, None


def backward_kernel(
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    distances_ref: Any,
    query_segments_ref: Any,
    key_segments_ref: Any,
    keep_ref: Any,
    gradient_ref: Any,
    dq_ref: Any,
    dk_ref: Any,
    dv_ref: Any,
    *distances_and_matrices: Any,
    plan: Plan,
) -> None:
    """Computes the gradients for one row and one group of heads, and adds up the bias's."""
    d_distances_ref, bias_ref, d_bias_ref = distances_and_matrices or (None, None, None)
    if bias_ref is not None:
        spread_before_first_row(distances_ref, bias_ref, plan)

        @pl.when(pl.program_id(1) == 0)
        def _() -> None:
            d_bias_ref[...] = jnp.zeros_like(d_bias_ref)

    masks = Masks(query_segments_ref[0], key_segments_ref[0])
    for head in range(plan.group):
        lanes = slice(head * plan.width, (head + 1) * plan.width)
        k = k_ref[0, :, lanes]
        v = kept(v_ref[0, :, lanes], keep_ref, head)
        dk = dv = jnp.zeros((plan.keys, plan.width), jnp.float32)
        for block in plan.blocks:
            q, gradient = q_ref[0, block, lanes], gradient_ref[0, block, lanes]
            bias = None if bias_ref is None else bias_ref[head, block]
            exponentials, total = softmax_parts(q, k, bias, masks, block)
            weights = exponentials / total
            d_weights = product_with_transposed(gradient, v)
            d_logits = weights * (d_weights - jnp.sum(weights * d_weights, axis=1, keepdims=True))
            if d_bias_ref is not None:
                d_bias_ref[head, block] += d_logits
            d_logits = d_logits.astype(q.dtype)
            dq_ref[0, block, lanes] = product(d_logits, k).astype(dq_ref.dtype)
            dk += product_of_transposed(d_logits, q)
            dv += product_of_transposed(weights.astype(gradient.dtype), gradient)
        dk_ref[0, :, lanes] = dk.astype(dk_ref.dtype)
        dv_ref[0, :, lanes] = kept(dv, keep_ref, head).astype(dv_ref.dtype)

    if d_bias_ref is not None:

        @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
        def _() -> None:
            for head in range(plan.group):
                d_distances_ref[head] = summed_along_diagonals(d_bias_ref, head, plan)
