"""Defines the encoder and the decoder: their layers, and how a stack of layers is made and run."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train.attention import MASKED, DistanceBias
from train.sharding import by_rows, cpus, scan
from train.t5.layers import Dense, FeedForward, RMSNorm, dropout, split_key
from train.t5.multi_head import Attention
from train.t5.positions import RelativeBias

# --- layers ----------------------------------------------------------------------------------------------------------


class Layer(nnx.Module):
    """Holds what the layers of both stacks end with: x + mlp(norm(x)), with dropout."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.pre_mlp_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.mlp = FeedForward(size, rngs=rngs)
        self.rate = size.dropout

    def add(self, x: jax.Array, block: jax.Array, key: jax.Array | None) -> jax.Array:
        """Adds a block's output to its input, both [B, T, D], with dropout along the length."""
        return x + dropout(block, self.rate, key, broadcast_axis=-2)

    def add_mlp(self, x: jax.Array, hidden_key: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """Adds the feed-forward block of `x` [B, T, D] to it."""
        return self.add(x, self.mlp(self.pre_mlp_layer_norm(x), hidden_key), key)


class EncoderLayer(Layer):
    """Computes x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.pre_attention_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.attention = Attention(size, rngs=rngs)
        super().__init__(size, rngs=rngs)  # last: the order decides which random numbers a parameter starts with

    def __call__(
        self, x: jax.Array, bias: jax.Array | DistanceBias, segments: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """Maps `x` [B, S, D], with bias [B or 1, H, S, S] or by distance, and segments [B, S], to [B, S, D]."""
        k = split_key(key, 4)
        h = self.pre_attention_layer_norm(x)
        x = self.add(x, self.attention(h, h, bias, (segments, segments), k[0]), k[1])
        return self.add_mlp(x, k[2], k[3])


class DecoderLayer(Layer):
    """Adds self-attention, attention over the encoder's output, and feed-forward, each with its norm before it."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.pre_self_attention_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.self_attention = Attention(size, rngs=rngs)
        self.pre_cross_attention_layer_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.encoder_decoder_attention = Attention(size, rngs=rngs)
        super().__init__(size, rngs=rngs)  # last: the order decides which random numbers a parameter starts with

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        bias: jax.Array | DistanceBias,
        segments: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """Maps `x` [B, T, D] to [B, T, D], looking at the encoder's output `memory` [B, S, D].

        `bias` is [B or 1, H, T, T] or by distance, `segments` [B, T] are those of the targets, `memory_segments` [B, S]
        the memory's.
        """
        k = split_key(key, 6)
        h = self.pre_self_attention_layer_norm(x)
        x = self.add(x, self.self_attention(h, h, bias, (segments, segments), k[0]), k[1])
        x = self.add(x, self._cross_attention(x, memory, segments, memory_segments, k[2]), k[3])
        return self.add_mlp(x, k[4], k[5])

    def _cross_attention(
        self,
        x: jax.Array,
        memory: jax.Array,
        segments: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """Attends from `x` [B, T, D] to `memory` [B, S, D] in whichever way takes fewer products."""
        h = self.pre_cross_attention_layer_norm(x)
        cross, across = self.encoder_decoder_attention, (segments, memory_segments)
        # with dropout, which is training, a CPU goes on summing in the order in which it has trained models before
        if (key is None or cpus() == 0) and cross.absorbing_halves_products(x.shape[1], memory.shape[1]):
            return cross.attend_absorbed(h, memory, across, key)
        return cross(h, memory, None, across, key)


# --- stacks ----------------------------------------------------------------------------------------------------------


def stacked(make_layer: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> nnx.Module:
    """Returns a layer module whose every parameter has a leading axis [L]; layer i's own values are slice i."""

    def parameters(key: jax.Array) -> nnx.State[Any, Any]:
        return nnx.split(make_layer(nnx.Rngs(params=key)))[1]

    graph = nnx.split(nnx.eval_shape(lambda: make_layer(nnx.Rngs(params=0))))[0]
    return nnx.merge(graph, jax.vmap(parameters)(jax.random.split(rngs.params(), layers)))


# By the names that `train.remat` has: how much of a layer's work is kept for the backward pass. All of it, the products
# with weights, or its input alone. The rest is computed again: the same numbers for less memory and more time.
REMAT: dict[str, Callable[..., Callable[..., Any]]] = {
    "none": lambda layer, prevent_cse: layer,
    "dots": functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
    "full": jax.checkpoint,
}


@dataclass(frozen=True)
class Execution:
    """Says how a stack's layers are run, which changes no number beyond rounding.

    `remat` names an entry of REMAT. With `unroll` the layers are written out one after the other, and each keeps its
    values for the backward pass where they are; otherwise one loop runs them, and copies what each keeps into arrays of
    all layers. A loop compiles in the same time however many layers there are.
    """

    remat: str = "none"
    unroll: bool = False


LOOP = Execution()


def run_layers(
    layers: nnx.Module, x: jax.Array, key: jax.Array | None, *inputs: Any, execution: Execution = LOOP
) -> jax.Array:
    """Runs a stacked module's layers over `x` [B, T, D] in order, each called with (x, *inputs, key of its own)."""
    graph, state = nnx.split(layers)
    n = jax.tree.leaves(state)[0].shape[0]
    keys = None if key is None else jax.random.split(key, n)

    def run_layer(x: jax.Array, layer: tuple[nnx.State[Any, Any], jax.Array | None]) -> tuple[jax.Array, None]:
        layer_state, layer_key = layer
        return by_rows(nnx.merge(graph, layer_state)(x, *inputs, layer_key)), None

    # a loop keeps XLA from merging the two passes of what is computed again; written out, `prevent_cse` does
    run = REMAT[execution.remat](run_layer, prevent_cse=execution.unroll)
    if not execution.unroll:
        return scan(run, x, (state, keys))[0]
    for layer in unstacked((state, keys), n):
        x, _ = run(x, layer)
    return x


def unstacked(stack: Any, n: int) -> list[Any]:
    """Returns the `n` slices of a tree of arrays [n, …] along their first axis, each a tree of arrays […].

    They are cut by one operation an array, whose gradient joins the slices' own; indexing would add up n arrays of the
    whole's size.
    """
    leaves, structure = jax.tree.flatten(stack)
    slices = [[part[0] for part in jnp.split(leaf, n)] for leaf in leaves]
    return [jax.tree.unflatten(structure, layer) for layer in zip(*slices, strict=True)]


class Encoder(nnx.Module):
    """Runs the encoder's layers between dropout, and ends with a norm."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.relpos_bias = RelativeBias(size, bidirectional=True, rngs=rngs)
        self.layers = stacked(lambda r: EncoderLayer(size, rngs=r), size.layers, rngs)
        self.encoder_norm = RMSNorm(size.d_model, size.layer_norm_epsilon)
        self.rate = size.dropout

    def __call__(
        self,
        x: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None,
        key: jax.Array | None = None,
        execution: Execution = LOOP,
    ) -> jax.Array:
        """Maps embedded inputs [B, S, D], with segments [B, S] and positions [B or 1, S] int32, to [B, S, D].

        Without positions, they count along the row, and attention may take the bias by distance.
        """
        k = split_key(key, 3)
        if positions is None:
            bias: jax.Array | DistanceBias = self.relpos_bias.along_rows(x.shape[0], x.shape[1], x.dtype)
        else:
            bias = self.relpos_bias(positions, positions, x.dtype)  # [B or 1, H, S, S]
        x = dropout(x, self.rate, k[0], broadcast_axis=-2)
        x = run_layers(self.layers, x, k[1], bias, segments, execution=execution)
        return dropout(self.encoder_norm(x), self.rate, k[2], broadcast_axis=-2)


class Decoder(nnx.Module):
    """Runs the decoder's layers between dropout, and ends with a norm; holds the head where it is not tied."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.relpos_bias = RelativeBias(size, bidirectional=False, rngs=rngs)
        self.layers = stacked(lambda r: DecoderLayer(size, rngs=r), size.decoder_depth, rngs)
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
        positions: jax.Array | None,
        memory_segments: jax.Array,
        key: jax.Array | None = None,
        execution: Execution = LOOP,
        visible: jax.Array | None = None,
    ) -> jax.Array:
        """Maps embedded targets [B, T, D] to [B, T, D], looking at the encoder's output `memory` [B, S, D].

        Segments are [B, T] and [B, S], positions [B or 1, T], all int32; `positions` and `visible` are as
        `T5.hidden_states` takes them.
        """
        k = split_key(key, 3)
        if positions is None:
            bias: jax.Array | DistanceBias = self.relpos_bias.along_rows(x.shape[0], x.shape[1], x.dtype)
        else:
            if visible is None:
                visible = positions[:, :, None] >= positions[:, None, :]  # [B or 1, T, T]
            unseen = jnp.where(visible[:, None], 0, MASKED).astype(x.dtype)
            bias = self.relpos_bias(positions, positions, x.dtype) + unseen
        x = dropout(x, self.rate, k[0], broadcast_axis=-2)
        x = run_layers(self.layers, x, k[1], memory, bias, segments, memory_segments, execution=execution)
        return dropout(self.decoder_norm(x), self.rate, k[2], broadcast_axis=-2)
