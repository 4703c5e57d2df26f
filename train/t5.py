"""T5, versions 1.0 and 1.1, as Flax NNX modules whose layers are stacked and run by `jax.lax.scan`.

The two versions differ in three places: 1.0 has a ReLU feed-forward, a head tied to the token embedding and logits
scaled by d_model^-½; 1.1 has a gated GELU, a head of its own and no scaling (Raffel et al. 2020, and the T5 1.1
release notes). Parameter names follow T5X, so that a checkpoint maps by name.

Every sequence carries segment ids and positions, so that several short sequences may share a row: attention and the
relative position bias look only inside a segment. Segment 0 is padding. Dropout takes its key as an argument; without
one, nothing is dropped.

Shape names: B rows, S source length, T target length, D d_model, H heads, K d_kv, F d_ff, V vocabulary, L layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from conf.schema import Size
from train.attention import MASKED, Segments, attention
from train.sharding import by_rows, by_vocabulary, scan

Params = dict[str, Any]  # nested, with T5X's names; the stacked layers' leaves have a leading axis [L]


# --- pieces ----------------------------------------------------------------------------------------------------------


def dropout(x: jax.Array, rate: float, key: jax.Array | None, broadcast_axis: int) -> jax.Array:
    """Drops entries of `x` with one mask along `broadcast_axis`, as T5X does along the length; float in, float out."""
    if key is None or rate == 0.0:
        return x
    shape = list(x.shape)
    shape[broadcast_axis] = 1
    keep = jax.random.bernoulli(key, 1.0 - rate, tuple(shape))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def split_key(key: jax.Array | None, n: int) -> list[jax.Array | None]:
    """`n` keys from one, or `n` times None."""
    return [None] * n if key is None else list(jax.random.split(key, n))


def relative_buckets(
    relative_position: jax.Array, *, bidirectional: bool, buckets: int, max_distance: int
) -> jax.Array:
    """T5's bucket of each relative position (key minus query), int32, same shape (Raffel et al. 2020, section 2.1).

    Half of the buckets are exact; the others grow logarithmically up to `max_distance`. Bidirectional attention keeps
    one half of all buckets for keys that come after the query.
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


class Dense(nnx.Module):
    """A linear map without bias; float32 `kernel` [in, out], applied in the dtype of its input."""

    def __init__(self, n_in: int, n_out: int, *, stddev: float, rngs: nnx.Rngs):
        self.kernel = nnx.Param(stddev * jax.random.normal(rngs.params(), (n_in, n_out), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[...].astype(x.dtype)


class RMSNorm(nnx.Module):
    """Divides by the root mean square over the last axis (in float32) and scales; no mean, no bias."""

    def __init__(self, d: int, epsilon: float):
        self.scale = nnx.Param(jnp.ones((d,), jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        inverse_rms = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
        return (x32 * inverse_rms).astype(x.dtype) * self.scale[...].astype(x.dtype)


class RelativeBias(nnx.Module):
    """One table a stack: a learned number per (bucket, head), added to the attention logits of every layer."""

    def __init__(self, size: Size, *, bidirectional: bool, rngs: nnx.Rngs):
        shape = (size.relative_buckets, size.heads)
        bound = math.sqrt(3.0 / ((shape[0] + shape[1]) / 2))
        self.rel_embedding = nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))
        self.bidirectional, self.max_distance = bidirectional, size.relative_max_distance

    def __call__(self, query_positions: jax.Array, key_positions: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Positions [B or 1, T] and [B or 1, S] int32 -> bias [B or 1, H, T, S]."""
        table = self.rel_embedding[...]
        relative = key_positions[:, None, :] - query_positions[:, :, None]  # [B, T, S]
        bucket = relative_buckets(
            relative, bidirectional=self.bidirectional, buckets=table.shape[0], max_distance=self.max_distance
        )
        one_hot = jax.nn.one_hot(bucket, table.shape[0], dtype=dtype)  # [B, T, S, buckets]; a gather's gradient is slow
        return jnp.einsum("btsn,nh->bhts", one_hot, table.astype(dtype))


class Attention(nnx.Module):
    """Multi-head attention without 1/√K: T5 folds it into the query kernel's initial scale."""

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
        bias: jax.Array | None,
        segments: Segments,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """X [B, T, D], memory [B, S, D] -> [B, T, D]; bias and segments as `train.attention` takes them."""
        return self.attend(self.queries(x), *self.keys_values(memory), bias, segments, key)

    def few(self, t: int, s: int) -> bool:
        """Whether `from_few` takes at most half of the products of `__call__` for T queries and a memory of S.

        With more than half it was no faster on a CPU.
        """
        d, width = self.key.kernel[...].shape
        k = width // self.heads
        return 2 * t * d * (k + s) <= k * s * (d + t)

    def from_few(self, x: jax.Array, memory: jax.Array, segments: Segments) -> jax.Array:
        """What `__call__` gives without bias and dropout, by fewer products where T is small against K.

        q · (W m) is (Wᵀ q) · m, and a weighted sum of W m is W times that of m: so the projections of keys and values
        are applied to what each head asks for and finds, T·H vectors [D], and not to a memory of S.
        """
        rows, t, _ = x.shape
        d = memory.shape[2]
        of_keys, of_values = (
            dense.kernel[...].astype(x.dtype).reshape(d, self.heads, -1) for dense in (self.key, self.value)
        )
        asked = jnp.einsum("bthk,dhk->bhtd", self.queries(x), of_keys).reshape(rows, self.heads * t, 1, d)
        own = jnp.tile(segments[0], (1, self.heads))
        found = attention(asked, memory[:, :, None], memory[:, :, None], None, (own, segments[1]))  # [B, H*T, 1, D]
        y = jnp.einsum("bhtd,dhk->bthk", found.reshape(rows, self.heads, t, d), of_values)
        return self.out(y.reshape(rows, t, -1))

    def queries(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, H, K]"""
        return self._heads(self.query(x))

    def keys_values(self, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, S, D] -> keys and values, each [B, S, H, K]: all that attention needs to know of what it looks at."""
        return self._heads(self.key(memory)), self._heads(self.value(memory))

    def attend(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        bias: jax.Array | None,
        segments: Segments | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Queries [B, T, H, K], keys and values [B, S, H, K] -> [B, T, D]."""
        y = attention(q, k, v, bias, segments, self.rate, key)
        return self.out(y.reshape(*q.shape[:2], -1))  # [B, T, H, K] -> [B, T, H*K] -> [B, T, D]

    def _heads(self, y: jax.Array) -> jax.Array:
        """[B, S, H*K] -> [B, S, H, K]"""
        return y.reshape(*y.shape[:2], self.heads, -1)


class FeedForward(nnx.Module):
    """D -> F -> D with ReLU (1.0), or gated with GELU's tanh form (1.1)."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        d, f = size.d_model, size.d_ff
        self.gated = size.activation == "gated_gelu"
        if self.gated:
            self.wi_0 = Dense(d, f, stddev=d**-0.5, rngs=rngs)
            self.wi_1 = Dense(d, f, stddev=d**-0.5, rngs=rngs)
        else:
            self.wi = Dense(d, f, stddev=d**-0.5, rngs=rngs)
        self.wo = Dense(f, d, stddev=f**-0.5, rngs=rngs)
        self.rate = size.dropout

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """[B, T, D] -> [B, T, D]"""
        hidden = jax.nn.gelu(self.wi_0(x), approximate=True) * self.wi_1(x) if self.gated else jax.nn.relu(self.wi(x))
        return self.wo(dropout(hidden, self.rate, key, broadcast_axis=-2))


# --- layers and stacks -----------------------------------------------------------------------------------------------


class EncoderLayer(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.pre_attention_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.attention = Attention(size, rngs=rngs)
        self.pre_mlp_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.mlp = FeedForward(size, rngs=rngs)
        self.rate = size.dropout

    def __call__(self, x: jax.Array, bias: jax.Array, segments: jax.Array, key: jax.Array | None) -> jax.Array:
        """X [B, S, D], bias [B or 1, H, S, S], segments [B, S] -> [B, S, D]"""
        k = split_key(key, 4)
        h = self.pre_attention_layer_norm(x)
        h = self.attention(h, h, bias, (segments, segments), k[0])
        x = x + dropout(h, self.rate, k[1], broadcast_axis=-2)
        return x + dropout(self.mlp(self.pre_mlp_layer_norm(x), k[2]), self.rate, k[3], broadcast_axis=-2)


class DecoderLayer(nnx.Module):
    """Self-attention, attention over the encoder's output, feed-forward; each with its norm before it."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.pre_self_attention_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.self_attention = Attention(size, rngs=rngs)
        self.pre_cross_attention_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.encoder_decoder_attention = Attention(size, rngs=rngs)
        self.pre_mlp_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.mlp = FeedForward(size, rngs=rngs)
        self.rate = size.dropout

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        bias: jax.Array,
        segments: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """X [B, T, D], memory [B, S, D], bias [B or 1, H, T, T], segments [B, T] of the targets and [B, S] of the
        memory -> [B, T, D]
        """
        across = (segments, memory_segments)
        k = split_key(key, 6)
        h = self.pre_self_attention_layer_norm(x)
        h = self.self_attention(h, h, bias, (segments, segments), k[0])
        x = x + dropout(h, self.rate, k[1], broadcast_axis=-2)
        h = self.pre_cross_attention_layer_norm(x)
        cross = self.encoder_decoder_attention
        few = key is None and cross.few(x.shape[1], memory.shape[1])
        h = cross.from_few(h, memory, across) if few else cross(h, memory, None, across, k[2])
        x = x + dropout(h, self.rate, k[3], broadcast_axis=-2)
        return x + dropout(self.mlp(self.pre_mlp_layer_norm(x), k[4]), self.rate, k[5], broadcast_axis=-2)


def stacked(make_layer: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> nnx.Module:
    """A layer module whose every parameter has a leading axis [L]; layer i's own values are slice i."""

    def one(key: jax.Array) -> nnx.State:
        return nnx.split(make_layer(nnx.Rngs(params=key)))[1]

    graph = nnx.split(nnx.eval_shape(lambda: make_layer(nnx.Rngs(params=0))))[0]
    return nnx.merge(graph, jax.vmap(one)(jax.random.split(rngs.params(), layers)))


# What the backward pass finds of a layer: all of it, the products with weights, or its input alone. What is not kept is
# computed again: the same numbers for less memory and more time. `scan` already keeps XLA from merging the two passes.
REMAT: dict[str, Callable] = {
    "none": lambda layer: layer,
    "dots": functools.partial(
        jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable, prevent_cse=False
    ),
    "full": functools.partial(jax.checkpoint, prevent_cse=False),
}


def scan_layers(
    layers: nnx.Module, x: jax.Array, key: jax.Array | None, *inputs: Any, remat: str = "none"
) -> jax.Array:
    """Runs a stacked module's layers over `x` in order; layer i drops by the i-th key of `key`. `remat`: see REMAT."""
    graph, state = nnx.split(layers)
    n = jax.tree.leaves(state)[0].shape[0]
    keys = None if key is None else jax.random.split(key, n)

    def body(x, layer):
        layer_state, layer_key = layer
        return by_rows(nnx.merge(graph, layer_state)(x, *inputs, layer_key)), None

    return scan(REMAT[remat](body), x, (state, keys))[0]


class Encoder(nnx.Module):
    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.relpos_bias = RelativeBias(size, bidirectional=True, rngs=rngs)
        self.layers = stacked(lambda r: EncoderLayer(size, rngs=r), size.layers, rngs)
        self.encoder_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.rate = size.dropout

    def __call__(
        self,
        x: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        key: jax.Array | None = None,
        remat: str = "none",
    ) -> jax.Array:
        """Embedded inputs [B, S, D], segments [B, S] and positions [B or 1, S] int32 -> [B, S, D]."""
        k = split_key(key, 3)
        bias = self.relpos_bias(positions, positions, x.dtype)  # [B or 1, H, S, S]
        x = dropout(x, self.rate, k[0], broadcast_axis=-2)
        x = scan_layers(self.layers, x, k[1], bias, segments, remat=remat)
        return dropout(self.encoder_norm(x), self.rate, k[2], broadcast_axis=-2)


class Decoder(nnx.Module):
    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.relpos_bias = RelativeBias(size, bidirectional=False, rngs=rngs)
        self.layers = stacked(lambda r: DecoderLayer(size, rngs=r), size.layers, rngs)
        self.decoder_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        if not size.tied_head:
            assert size.vocabulary_size is not None
            self.logits_dense = Dense(size.d_model, size.vocabulary_size, stddev=size.d_model**-0.5, rngs=rngs)
        self.rate = size.dropout

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None = None,
        remat: str = "none",
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """Embedded targets [B, T, D], their segments [B, T] and positions [B or 1, T] int32, and the encoder's output
        [B, S, D] -> [B, T, D]; `seen` as `T5.hidden_states` takes it.
        """
        k = split_key(key, 3)
        if seen is None:
            seen = positions[:, :, None] >= positions[:, None, :]  # [B or 1, T, T]
        bias = self.relpos_bias(positions, positions, x.dtype) + jnp.where(seen[:, None], 0, MASKED).astype(x.dtype)
        x = dropout(x, self.rate, k[0], broadcast_axis=-2)
        x = scan_layers(self.layers, x, k[1], memory, bias, segments, memory_segments, remat=remat)
        return dropout(self.decoder_norm(x), self.rate, k[2], broadcast_axis=-2)


class T5(nnx.Module):
    """The encoder-decoder. The token embedding is owned once, here: the stacks take embedded inputs."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        if size.vocabulary_size is None:
            raise ValueError("size.vocabulary_size is not set: call with_vocabulary first")
        shape = (size.vocabulary_size, size.d_model)
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32))
        self.encoder = Encoder(size, rngs=rngs)
        self.decoder = Decoder(size, rngs=rngs)
        self.tied_head = size.tied_head

    def encode(
        self,
        inputs: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        dtype: jnp.dtype = jnp.float32,
        key: jax.Array | None = None,
        remat: str = "none",
    ) -> jax.Array:
        """Token ids [B, S] int32 -> the encoder's output [B, S, D] in `dtype`, in which activations are kept.

        `remat` says what is kept for the backward pass: see REMAT.
        """
        x = by_rows(by_vocabulary(self.embedding[...].astype(dtype))[inputs])
        return self.encoder(x, segments, positions, key, remat)

    def decode(
        self,
        decoder_inputs: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        memory: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None = None,
        remat: str = "none",
    ) -> jax.Array:
        """Shifted target ids [B, T] and the encoder's output [B, S, D] -> logits [B, T, V] float32.

        A target position sees the sources of its own segment.
        """
        return self.logits(self.hidden_states(decoder_inputs, segments, positions, memory, memory_segments, key, remat))

    def hidden_states(
        self,
        decoder_inputs: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        memory: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None = None,
        remat: str = "none",
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """What `decode` hands to the head: [B, T, D] in the dtype of `memory`.

        `seen` [B or 1, T, T] bool says which positions of its segment each sees; by default those of no later position.
        """
        embedding = by_vocabulary(self.embedding[...].astype(memory.dtype))
        x = by_rows(embedding[decoder_inputs])
        return self.decoder(x, memory, segments, positions, memory_segments, key, remat, seen)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """The head: [B, T, D] -> [B, T, V] float32, computed in the dtype of `hidden`."""
        if not self.tied_head:
            return self.decoder.logits_dense(hidden).astype(jnp.float32)
        embedding = self.embedding[...].astype(hidden.dtype)
        return ((hidden * embedding.shape[1] ** -0.5) @ embedding.T).astype(jnp.float32)


# --- rows of sequences -----------------------------------------------------------------------------------------------


def plain_rows(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Segments [B, T] (1, or 0 on padding) and positions [1, T] (0, 1, …), int32, of one sequence a row, pad id 0.

    The positions are every row's, so that the relative position bias is made once and not once a row.
    """
    return (ids != 0).astype(jnp.int32), jnp.arange(ids.shape[1], dtype=jnp.int32)[None]


def shift_right(targets: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """Decoder inputs [B, T]: the targets one step later, after T5's start token, which is the pad id 0.

    Where several targets share a row, each of the `segments` [B, T] starts with that token.
    """
    shifted = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))
    if segments is None:
        return shifted
    return jnp.where(segments == jnp.pad(segments[:, :-1], ((0, 0), (1, 0))), shifted, 0)


# --- making one ------------------------------------------------------------------------------------------------------


def with_vocabulary(size: Size, pieces: int) -> Size:
    """`size` with its vocabulary fixed: the tokenizer's pieces, rounded up to 128, where the config leaves it open."""
    return size if size.vocabulary_size else dataclasses.replace(size, vocabulary_size=-(-pieces // 128) * 128)


@functools.lru_cache(maxsize=16)
def _abstract(size: Size) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: T5(size, rngs=nnx.Rngs(params=0))))


def abstract_params(size: Size) -> Params:
    """The parameters' shapes and dtypes as a nested dict; costs no memory."""
    return nnx.to_pure_dict(_abstract(size)[1])


def model(size: Size, params: Params) -> T5:
    """The module over these parameters; only wraps them, so it may be called inside `jax.jit`."""
    graph, state = _abstract(size)
    state = jax.tree.map(lambda x: x, state)  # a copy: the cached one stays abstract
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def init_params(size: Size, key: jax.Array) -> Params:
    """Random parameters, a nested dict of float32. Jit it with out_shardings and they are born sharded."""
    return nnx.to_pure_dict(nnx.split(T5(size, rngs=nnx.Rngs(params=key)))[1])


def count_parameters(size: Size) -> int:
    """How many numbers the model has; a tied head counts once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(size)))


def forward_flops(size: Size, input_tokens: np.ndarray, target_tokens: np.ndarray) -> np.ndarray:
    """Floating-point operations of one forward pass, per example [n] float64; a multiply-add counts two.

    Counts the matrix products: projections, attention, feed-forward and head, without padding. `input_tokens` and
    `target_tokens` [n] (or a number); several label strings against one input count with the sum of their tokens, but
    each attends to its own tokens alone, which this bounds from above. Norms and softmax are left out.
    """
    s, t = np.asarray(input_tokens, np.float64), np.asarray(target_tokens, np.float64)
    assert size.vocabulary_size is not None
    d, inner = size.d_model, size.heads * size.d_kv
    mlp = 2 * d * size.d_ff * (3 if size.activation == "gated_gelu" else 2)  # a token
    encoder = s * (8 * d * inner + mlp) + 4 * s * s * inner
    own = t * (8 * d * inner + mlp) + 4 * t * t * inner
    cross = 4 * t * d * inner + 4 * s * d * inner + 4 * t * s * inner
    return size.layers * (encoder + own + cross) + 2 * t * d * size.vocabulary_size
