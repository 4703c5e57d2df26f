"""Defines multi-head attention as a module: the four projections around `train.attention.attention`."""

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train.attention import DistanceBias, Segments, attention, segment_mask
from train.t5.layers import Dense, dropout


class Attention(nnx.Module):
    """Projects to queries, keys and values, attends with H heads, and projects back.

    There is no factor 1/√K on the logits: T5 folds it into the query kernel's initial scale.
    """

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        d, inner = size.d_model, size.heads * size.d_kv
        self.heads = size.heads
        self.query = Dense(d, inner, stddev=(d * size.d_kv) ** -0.5, rngs=rngs)
        self.key = Dense(d, inner, stddev=d**-0.5, rngs=rngs)
        self.value = Dense(d, inner, stddev=d**-0.5, rngs=rngs)
        self.out = Dense(inner, d, stddev=inner**-0.5, rngs=rngs)
        self.rate = size.dropout

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        bias: jax.Array | DistanceBias | None,
        segments: Segments,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Attends from `x` [B, T, D] to `memory` [B, S, D] and returns [B, T, D].

        `bias`, `segments` and the dropout's `key` are as `train.attention.attention` takes them.
        """
        return self.attend(self.queries(x), *self.keys_values(memory), bias, segments, key)

    def absorbing_halves_products(self, queries: int, keys: int) -> bool:
        """Returns whether `attend_absorbed` takes at most half of the products of `__call__`, for T queries and S keys.

        With more than half it was no faster on a CPU.
        """
        d, inner = self.key.kernel[...].shape
        k = inner // self.heads
        return 2 * queries * d * (k + keys) <= k * keys * (d + queries)

    def attend_absorbed(
        self, x: jax.Array, memory: jax.Array, segments: Segments, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns what `__call__` does without bias, by fewer products where T is small against K.

        The projections of keys and values are absorbed into the queries and the result: q · (W m) is (Wᵀ q) · m, and a
        weighted sum of W m is W times that of m. So they are applied to T·H vectors [D], and not to a memory of S.
        """
        rows, t, _ = x.shape
        d = memory.shape[2]
        key_kernel, value_kernel = (
            dense.kernel[...].astype(x.dtype).reshape(d, self.heads, -1) for dense in (self.key, self.value)
        )  # each [D, H, K]
        q = jnp.einsum("bthk,dhk->bhtd", self.queries(x), key_kernel)  # [B, H, T, D]
        q = q.reshape(rows, self.heads * t, 1, d)  # [B, H, T, D] -> [B, H*T, 1, D]: all heads as queries of one
        query_segments = jnp.tile(segments[0], (1, self.heads))  # [B, H*T]
        if key is None or self.rate == 0.0:
            one_head = memory[:, :, None]  # [B, S, 1, D]
            y = attention(q, one_head, one_head, None, (query_segments, segments[1]))  # [B, H*T, 1, D]
        else:
            y = self._attend_memory_with_dropout(q[:, :, 0], memory, (query_segments, segments[1]), key)
        y = jnp.einsum("bhtd,dhk->bthk", y.reshape(rows, self.heads, t, d), value_kernel)
        return self.out(y.reshape(rows, t, -1))  # [B, T, H, K] -> [B, T, H*K] -> [B, T, D]

    def _attend_memory_with_dropout(
        self, q: jax.Array, memory: jax.Array, segments: Segments, key: jax.Array
    ) -> jax.Array:
        """Returns the weighted sums [B, H*T, D] of `memory` [B, S, D] for absorbed queries [B, H*T, D].

        Drops the same weights as `attention` does with this key. There they are dropped with the values, which all
        heads have in common here.
        """
        rows, queries, _ = q.shape
        logits = jnp.einsum("bnd,bsd->bns", q, memory).astype(jnp.float32)
        logits += segment_mask(*segments, jnp.float32)[:, 0]
        weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
        by_head = weights.reshape(rows, self.heads, -1, memory.shape[1])  # [B, H*T, S] -> [B, H, T, S]
        weights = dropout(by_head, self.rate, key, broadcast_axis=-2).reshape(rows, queries, -1)
        return jnp.einsum("bns,bsd->bnd", weights, memory)

    def queries(self, x: jax.Array) -> jax.Array:
        """Projects `x` [B, T, D] to queries [B, T, H, K]."""
        return self._by_head(self.query(x))

    def keys_values(self, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Projects `memory` [B, S, D] to keys and values, each [B, S, H, K]: all that attention needs to know of it."""
        return self._by_head(self.key(memory)), self._by_head(self.value(memory))

    def attend(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        bias: jax.Array | DistanceBias | None,
        segments: Segments | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Attends with queries [B, T, H, K] to keys and values [B, S, H, K] and projects the result to [B, T, D]."""
        y = attention(q, k, v, bias, segments, self.rate, key)
        return self.out(y.reshape(*q.shape[:2], -1))  # [B, T, H, K] -> [B, T, H*K] -> [B, T, D]

    def _by_head(self, y: jax.Array) -> jax.Array:
        """Reshapes [B, S, H*K] to [B, S, H, K]."""
        return y.reshape(*y.shape[:2], self.heads, -1)
