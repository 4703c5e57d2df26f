"""Makes the arrays that the network takes beside token ids, and the decoder's inputs from its targets."""

import jax
import jax.numpy as jnp


def plain_rows(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns segments [B, T] and positions [1, T], int32, for `ids` [B, T] of one sequence a row, padded with 0.

    A segment is 1, or 0 on padding; positions are 0, 1, …, the same in every row, so that the relative position bias
    is made once and not once a row.
    """
    return (ids != 0).astype(jnp.int32), jnp.arange(ids.shape[1], dtype=jnp.int32)[None]


def shift_right(targets: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """Returns decoder inputs [B, T] int32: the targets one step later, after T5's start token, which is the pad id 0.

    Where several targets share a row, each of the `segments` [B, T] starts with that token.
    """
    shifted = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))
    if segments is None:
        return shifted
    return jnp.where(segments == jnp.pad(segments[:, :-1], ((0, 0), (1, 0))), shifted, 0)
