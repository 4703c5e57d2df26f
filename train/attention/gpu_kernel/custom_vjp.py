"""Joins the forward and the backward pass on a GPU to one function that JAX can differentiate."""

import functools
from typing import Any

import jax

from train.attention.gpu_kernel.backward import backward_pass
from train.attention.gpu_kernel.forward import forward_pass
from train.attention.gpu_kernel.plan import Plan


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    by_distance: jax.Array | None,
    query_segments: jax.Array,
    key_segments: jax.Array,
    keep: jax.Array | None,
    plan: Plan,
) -> jax.Array:
    """Attends with queries `q` [B, T, H, K] to `k` and `v` [B, S, H, K]; returns [B, T, H, K] in their dtype.

    `by_distance` [H, T+S] float32 holds at index n the bias of a key that is n - (T-1) after its query; the last number
    is not used. Segments are [B, T] and [B, S] int32; a key whose segment is below 0 does not count. `keep` [B, H, S]
    float32 multiplies the values of each key: 0 or 1/(1 - rate). Gradients go to q, k, v and `by_distance`.
    """
    attended: jax.Array = _attend(q, k, v, by_distance, query_segments, key_segments, keep, plan)
    return attended


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _attend(*arguments: Any) -> jax.Array:
    """Computes `attend`, which takes the same arguments."""
    return forward_pass(*arguments)[0]


_attend.defvjp(forward_pass, backward_pass)
