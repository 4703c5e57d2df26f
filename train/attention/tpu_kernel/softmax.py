"""Computes the softmax of a block of queries over all keys of a row, and matrix products, inside of a kernel."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from train.attention.plain import MASKED
from train.attention.tpu_kernel.plan import LANES

PADDED = 2 * MASKED  # the logit of a key that is there only to make S a multiple of LANES; its segment is below 0


class Masks:
    """Tells which keys a block of queries sees: those of the query's own segment."""

    def __init__(self, query_segments: jax.Array, key_segments: jax.Array) -> None:
        """Takes the segments of one row, [1, T] and [1, S] int32."""
        self._of_queries, self._of_keys = column(query_segments), key_segments
        self._unseen = jnp.where(key_segments < 0, PADDED, MASKED)

    def apply(self, logits: jax.Array, block: slice) -> jax.Array:
        """Returns `logits` [block, S] float32 where the key is seen, and what stands for minus infinity elsewhere."""
        return jnp.where(self._of_queries[block] == self._of_keys, logits, self._unseen)


def softmax_parts(
    q: jax.Array, k: jax.Array, bias: jax.Array | None, masks: Masks, block: slice
) -> tuple[jax.Array, jax.Array]:
    """Returns exp(logit - largest) [block, S] and its sums [block, 1], float32, for q [block, K] and k [S, K]."""
    logits = product_with_transposed(q, k)
    if bias is not None:
        logits += bias
    logits = masks.apply(logits, block)
    exponentials = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    return exponentials, jnp.sum(exponentials, axis=1, keepdims=True)


def kept(v: jax.Array, keep_ref: Any, head: int) -> jax.Array:
    """Multiplies each key's values, [S, K], by its factor; without factors, returns them as they are."""
    return v if keep_ref is None else (v * column(keep_ref[0, head])).astype(v.dtype)


def column(row: jax.Array) -> jax.Array:
    """Transposes [1, N] to [N, 1]."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a b, [M, N] x [N, K] -> [M, K] float32."""
    return lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def product_with_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a bᵀ, [M, K] x [N, K] -> [M, N] float32."""
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def product_of_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns aᵀ b, [M, N] x [M, K] -> [N, K] float32."""
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
