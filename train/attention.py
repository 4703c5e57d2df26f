"""Computes attention, softmax(q kᵀ + bias) v inside each segment, in two ways that differ in what they keep in memory.

`plain` holds the weights of all rows at once, [B, H, T, S], and leaves their fusion to the compiler. `row_by_row` takes
one head of one row after the other, so that its weights, [T, S], stay in the processor's cache, and computes them again
in the backward pass. Which is taken is a matter of speed, measured on a CPU: docs/performance.md. The results are the
same up to the order of sums.

Shape names as in `train.t5`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from train.sharding import cpus

MASKED = -1e10  # added to a logit that may not be attended to; finite, so that a row of padding stays finite
ROW_BYTES = 128 * 2**10  # of a row's float32 weights: with fewer, a CPU is faster with all rows at once

Segments = tuple[jax.Array, jax.Array]  # of queries [B, T] and of keys [B, S], int32


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    segments: Segments | None = None,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Attends with queries `q` [B, T, H, K] to keys `k` and values `v` [B, S, H, K]; returns [B, T, H, K].

    Logits and softmax are float32, the result has the dtype of `q`. `bias` [B or 1, H or 1, T, S] is added to the
    logits. With `segments`, a query sees the keys of its own segment alone. With a random `key`, weights are dropped at
    `rate`, those of one of `k` for all queries of its row together, as T5X does.
    """
    if key is not None and rate > 0.0:
        v = _drop_keys(v, rate, key)
    rows, queries, heads, _ = q.shape
    if cpus() == 1 and 4 * heads * queries * k.shape[1] >= ROW_BYTES:
        return row_by_row(q, k, v, bias, segments)
    return plain(q, k, v, bias, segments)


def plain(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, segments: Segments | None) -> jax.Array:
    """Computes `attention` for all rows at once, without dropout."""
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
    """Computes `attention` for one row after the other, its heads written out, without dropout."""
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


def _drop_keys(v: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Drops whole keys' values in `v` [B, S, H, K]: the same as dropping the keys' weights, on a smaller array."""
    rows, keys, heads, _ = v.shape
    keep = jax.random.bernoulli(key, 1.0 - rate, (rows, heads, 1, keys))
    keep = jnp.transpose(keep, (0, 3, 1, 2))  # [B, S, H, 1]
    return jnp.where(keep, v / (1.0 - rate), jnp.zeros_like(v))
