"""Defines T5's relative position bias: a learned number for each head and each bucket of distances."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train.attention import MASKED, DistanceBias, takes_distances


def relative_buckets(
    relative_position: jax.Array, *, bidirectional: bool, buckets: int, max_distance: int
) -> jax.Array:
    """Returns T5's bucket of each relative position (key minus query), int32 of the same shape.

    Half of the buckets hold one distance each; the others grow logarithmically up to `max_distance`. Bidirectional
    attention keeps one half of all buckets for keys that come after the query. Source: Raffel et al. 2020, section 2.1,
    and `_relative_position_bucket` in Mesh TensorFlow.
    """
    bucket = jnp.zeros_like(relative_position)
    distance = -relative_position
    if bidirectional:
        buckets //= 2
        bucket += jnp.where(distance < 0, buckets, 0)
        distance = jnp.abs(distance)
    else:
        distance = jnp.maximum(distance, 0)
    exact = buckets // 2
    log_ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / math.log(max_distance / exact)
    far = exact + (log_ratio * (buckets - exact)).astype(jnp.int32)
    return bucket + jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))


NEIGHBOUR_BIAS = 8.0  # on the logits: of 50 tokens, the neighbour gets 98 % of a head's weight


def look_at_neighbours(table: jax.Array, heads: int) -> jax.Array:
    """Returns a bidirectional table [buckets, H] whose first `heads` columns prefer one distance each.

    They are -1, 1, -2, 2, … The bias is NEIGHBOUR_BIAS at that distance (key minus query) and 0 at all others.
    """
    for head in range(heads):
        distance = head // 2 + 1
        bucket = distance + (table.shape[0] // 2 if head % 2 else 0)  # one distance a bucket: these are the nearest
        table = table.at[:, head].set(0.0).at[bucket, head].set(NEIGHBOUR_BIAS)
    return table


class RelativeBias(nnx.Module):
    """Holds a stack's one table of biases, which are added to the attention logits of every layer."""

    def __init__(self, size: Size, *, bidirectional: bool, rngs: nnx.Rngs):
        shape = (size.relative_buckets, size.heads)
        bound = math.sqrt(3.0 / ((shape[0] + shape[1]) / 2))
        table = jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)
        if bidirectional and size.neighbour_heads is not None:
            table = look_at_neighbours(table, size.neighbour_heads)
        self.rel_embedding = nnx.Param(table)
        self.bidirectional, self.max_distance = bidirectional, size.relative_max_distance
        self.width = size.d_kv

    def __call__(self, query_positions: jax.Array, key_positions: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Returns the bias [B or 1, H, T, S] in `dtype` for positions [B or 1, T] and [B or 1, S] int32."""
        table = self.rel_embedding[...]
        relative = key_positions[:, None, :] - query_positions[:, :, None]  # [B, T, S]
        bucket = relative_buckets(
            relative, bidirectional=self.bidirectional, buckets=table.shape[0], max_distance=self.max_distance
        )
        one_hot = jax.nn.one_hot(bucket, table.shape[0], dtype=dtype)  # [B, T, S, buckets]; a gather's gradient is slow
        return jnp.einsum("btsn,nh->bhts", one_hot, table.astype(dtype))

    def along_rows(self, rows: int, length: int, dtype: jnp.dtype) -> jax.Array | DistanceBias:
        """Returns the bias of a stack whose positions count along the row: 0, 1, …, `length` - 1.

        It is by distance where attention takes it so, and else [1, H, T, T] in `dtype`. A causal stack's has MASKED at
        the keys that come after their query.
        """
        table = self.rel_embedding[...]
        if takes_distances(rows, length, table.shape[1], self.width, dtype):
            return self.by_distance(length)
        positions = jnp.arange(length, dtype=jnp.int32)[None]
        bias = self(positions, positions, dtype)
        if self.bidirectional:
            return bias
        return bias + jnp.where(positions[:, :, None] >= positions[:, None, :], 0, MASKED)[:, None].astype(dtype)

    def by_distance(self, length: int) -> DistanceBias:
        """Returns the bias of `length` queries and as many keys, float32, with MASKED as `along_rows` says."""
        table = self.rel_embedding[...]
        distance = jnp.arange(1 - length, length, dtype=jnp.int32)  # key minus query
        bucket = relative_buckets(
            distance, bidirectional=self.bidirectional, buckets=table.shape[0], max_distance=self.max_distance
        )
        one_hot = jax.nn.one_hot(bucket, table.shape[0], dtype=jnp.float32)  # [2T-1, buckets]
        bias = jnp.einsum("dn,nh->hd", one_hot, table, precision=jax.lax.Precision.HIGHEST)
        return DistanceBias(bias if self.bidirectional else jnp.where(distance > 0, MASKED, bias))
