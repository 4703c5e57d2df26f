"""Tells from the segments which blocks of keys a kernel reads for each block of queries, and the other way round."""

import jax
import jax.numpy as jnp

UNSEEN = -1e30  # the logit of a key that a query does not see


def visibility(query_segments: jax.Array, key_segments: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Tells of segments [B, T] and [B, S] which blocks of `size` queries see something of which blocks of keys.

    Returns that, [B, T/size, S/size] bool, and the logit of a key that a query does not see, [B, T] float32: UNSEEN,
    or 0 where the query sees no key at all. Then all keys weigh the same, as in plain attention, and all are visible.
    """
    rows, queries = query_segments.shape
    key_blocks = key_segments.reshape(rows, 1, -1, size)  # [B, S] -> [B, 1, S/size, size]
    seen = jnp.any(query_segments[:, :, None, None] == key_blocks, axis=3)  # [B, T, S/size]
    sees_nothing = ~jnp.any(seen, axis=2) & (query_segments >= 0)  # [B, T]
    seen |= sees_nothing[:, :, None]
    visible = jnp.any(seen.reshape(rows, queries // size, size, -1), axis=2)  # [B, T/size, S/size]
    return visible, jnp.where(sees_nothing, 0.0, UNSEEN)


def coarser(visible: jax.Array, times: int) -> jax.Array:
    """Returns `visible` [B, M, N] for blocks so many times as large along M: [B, M/times, N]."""
    rows, m, n = visible.shape
    return jnp.any(visible.reshape(rows, m // times, times, n), axis=2)


def ranges(visible: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns of `visible` [B, M, N] the first n that each m sees, and one past the last, [B, M] int32 each.

    Where it sees none, both are 0.
    """
    end = visible.shape[2] - jnp.argmax(visible[:, :, ::-1], axis=2)
    end = jnp.where(jnp.any(visible, axis=2), end, 0)
    return jnp.argmax(visible, axis=2).astype(jnp.int32), end.astype(jnp.int32)
