"""Computes logits, weights and their gradients for a block of queries and a block of keys inside of a kernel."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import triton

from train.attention.gpu_kernel.blocks import Keys, Queries, Result, across
from train.attention.gpu_kernel.plan import Plan, as_shape
from train.attention.gpu_kernel.visible_blocks import UNSEEN

LOG2_E = math.log2(math.e)  # the kernels' logits are multiplied by this: a GPU computes powers of 2


def logits(queries: Queries, keys: Keys, bias: jax.Array | None, plan: Plan, keys_first: bool = False) -> jax.Array:
    """Returns the logits float32 of M queries and N keys, times LOG2_E: [M, N] or, with `keys_first`, [N, M]."""
    x = product(keys.k, queries.q.T) if keys_first else product(queries.q, keys.k.T)
    x *= LOG2_E
    if bias is not None:
        x += bias
    key_segments = across(keys.segments, keys_first)
    unseen = across(queries.unseen, 1 - keys_first)
    if plan.pads_keys:
        unseen = jnp.where(key_segments < 0, UNSEEN, unseen)
    return jnp.where(across(queries.segments, 1 - keys_first) == key_segments, x, unseen)


def weights_again(
    queries: Queries, keys: Keys, result: Result, bias: jax.Array | None, plan: Plan, keys_first: bool = False
) -> jax.Array:
    """Returns the weights of M queries for N keys float32: [M, N] or, with `keys_first`, [N, M]."""
    x = logits(queries, keys, bias, plan, keys_first)
    return exp2(x - across(result.log_sums, 1 - keys_first), plan)


def logit_gradients(weights: jax.Array, keys: Keys, result: Result, keys_first: bool = False) -> jax.Array:
    """Returns the gradient of the logits that `weights` come from, not times LOG2_E: float32, of the same shape."""
    d_weights = product(keys.v, result.gradient.T) if keys_first else product(result.gradient, keys.v.T)
    if keys.keep is not None:
        d_weights *= across(keys.keep, keys_first)
    return weights * (d_weights - across(result.means, 1 - keys_first))


def exp2(x: jax.Array, plan: Plan) -> jax.Array:
    """Returns 2 to the power of `x`, and 0 where that is below the least normal number of float32.

    Numbers below that one would take a GPU three operations more for each power.
    """
    if plan.interpret:
        return jnp.exp2(x)
    [powers] = triton.elementwise_inline_asm(
        "ex2.approx.ftz.f32 $0, $1;",
        args=[x],
        constraints="=f,f",
        pack=1,
        result_shape_dtypes=[as_shape(x)],
    )
    return jnp.asarray(powers)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a b, [M, N] x [N, K] -> [M, K] float32."""
    multiplied: jax.Array = triton.dot(a, b, precision=lax.Precision.HIGHEST)
    return multiplied
