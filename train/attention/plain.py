"""Computes attention in plain JAX, in two ways that differ in what they keep in memory.

`plain` holds the weights of all rows at once, [B, H, T, S], and leaves their fusion to the compiler. `row_by_row` takes
one head of one row after the other, so that its weights, [T, S], stay in the processor's cache, and computes them again
in the backward pass. The results are the same up to the order of sums.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

MASKED = -1e10  # added to a logit that may not be attended to; finite, so that a row of padding stays finite

Segments = tuple[jax.Array, jax.Array]  # of queries [B, T] and of keys [B, S], int32


def plain(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, segments: Segments | None) -> jax.Array:
    """Attends with queries `q` [B, T, H, K] to keys `k` and values `v` [B, S, H, K], for all rows at once.

    Returns [B, T, H, K]. `bias` and `segments` are as `train.attention.attention` takes them.
    """
    logits = jnp.einsum("bthk,bshk->bhts", q, k).astype(jnp.float32)
    if bias is not None:
        logits += bias.astype(jnp.float32)
    if segments is not None:
        logits += segment_mask(*segments, jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
    return jnp.einsum("bhts,bshk->bthk", weights, v)


def row_by_row(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, segments: Segments | None
) -> jax.Array:
    """Computes what `plain` does for one row after the other, with the heads written out."""
    _, queries, heads, _ = q.shape
    keys = k.shape[1]
    one_bias = bias is None or bias.shape[0] == 1  # for all rows

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop keeps the passes apart
    def attend_in_row(row: dict[str, Any]) -> jax.Array:
        added = jnp.zeros((heads, queries, keys), jnp.float32)
        if bias is not None:
            added += (bias[0] if one_bias else row["bias"]).astype(jnp.float32)
        if segments is not None:
            query_segments, key_segments = row["segments"]
            added += segment_mask(query_segments[None], key_segments[None], jnp.float32)[0]

        def attend_with_head(h: int) -> jax.Array:  # in plain matrices: a CPU is slower with axes of one
            logits = (row["q"][:, h] @ row["k"][:, h].T).astype(jnp.float32) + added[h]
            weighted: jax.Array = jax.nn.softmax(logits, axis=-1).astype(q.dtype) @ row["v"][:, h]
            return weighted

        return jnp.stack([attend_with_head(h) for h in range(heads)], axis=1)

    rows = {"q": q, "k": k, "v": v, "bias": None if one_bias else bias, "segments": segments}
    attended: jax.Array = jax.lax.map(attend_in_row, rows)
    return attended


def segment_mask(query_segments: jax.Array, key_segments: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns [B, 1, T, S] for segments [B, T] and [B, S] int32: 0 where they are the same, MASKED elsewhere."""
    same = query_segments[:, None, :, None] == key_segments[:, None, None, :]
    return jnp.where(same, 0, MASKED).astype(dtype)


def drop_keys(v: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Drops whole keys' values in `v` [B, S, H, K]: the same as dropping the keys' weights, on a smaller array."""
    rows, keys, heads, _ = v.shape
    keep = jnp.transpose(kept_keys(rate, key, rows, heads, keys), (0, 3, 1, 2))  # [B, S, H, 1]
    return jnp.where(keep, v / (1.0 - rate), jnp.zeros_like(v))


def kept_keys(rate: float, key: jax.Array, rows: int, heads: int, keys: int) -> jax.Array:
    """Draws which keys are kept, [B, H, 1, S] bool, each with probability 1 - `rate`."""
    return jax.random.bernoulli(key, 1.0 - rate, (rows, heads, 1, keys))
