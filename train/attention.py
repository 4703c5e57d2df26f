"""Attention: softmax(q kᵀ + bias) v inside each segment, two ways that differ in what they keep in memory.

`plain` holds the weights of all rows at once, [B, H, T, S], and leaves their fusion to the compiler. `row_by_row` takes
one head of one row after the other, so that its weights, [T, S], stay in the processor's cache, and computes them again
in the backward pass. Which is taken is a matter of speed, measured on a CPU: docs/performance.md. The results are the
same up to the order of sums.

Shape names as in `train.t5`.
"""

import functools

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
    """Queries [B, T, H, K], keys and values [B, S, H, K] -> [B, T, H, K]; logits and softmax in float32.

    `bias` [B or 1, H or 1, T, S] is added to the logits; with `segments`, a query sees the keys of its own segment
    alone. With `key`, weights are dropped at `rate`, those of a key for all queries of its row together, as T5X does.
    """
    if key is not None and rate > 0.0:
        v = _drop(v, rate, key)
    rows, queries, heads, _ = q.shape
    if cpus() == 1 and 4 * heads * queries * k.shape[1] >= ROW_BYTES:
        return row_by_row(q, k, v, bias, segments)
    return plain(q, k, v, bias, segments)


def plain(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, segments: Segments | None) -> jax.Array:
    """`attention` of all rows at once, without dropout."""
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
    """`attention` of one row after the other, its heads written out, without dropout."""
    _, queries, heads, _ = q.shape
    keys, shared = k.shape[1], bias is None or bias.shape[0] == 1

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop keeps the passes apart
    def one(row: dict) -> jax.Array:
        added = jnp.zeros((heads, queries, keys), jnp.float32)
        if bias is not None:
            added += (bias[0] if shared else row["bias"]).astype(jnp.float32)
        if segments is not None:
            own, others = row["segments"]
            added += segment_mask(own[None], others[None], jnp.float32)[0]

        def head(h: int) -> jax.Array:  # in plain matrices: a CPU is slower with axes of one
            logits = (row["q"][:, h] @ row["k"][:, h].T).astype(jnp.float32) + added[h]
            return jax.nn.softmax(logits, axis=-1).astype(q.dtype) @ row["v"][:, h]

        return jnp.stack([head(h) for h in range(heads)], axis=1)

    return jax.lax.map(one, {"q": q, "k": k, "v": v, "bias": None if shared else bias, "segments": segments})


def segment_mask(query_segments: jax.Array, key_segments: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[B, T] and [B, S] int32 -> [B, 1, T, S]: 0 where the segments are the same, MASKED elsewhere."""
    same = query_segments[:, None, :, None] == key_segments[:, None, None, :]
    return jnp.where(same, 0, MASKED).astype(dtype)


def _drop(v: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Values [B, S, H, K] with whole keys dropped: what dropping the keys' weights comes to, on a smaller array."""
    rows, keys, heads, _ = v.shape
    keep = jax.random.bernoulli(key, 1.0 - rate, (rows, heads, 1, keys))
    keep = jnp.transpose(keep, (0, 3, 1, 2))  # [B, S, H, 1]
    return jnp.where(keep, v / (1.0 - rate), jnp.zeros_like(v))
