"""Runs the decoder one position at a time, with the keys and values of the positions before it kept.

Shape names are those of `train.t5`, and N beams a row, M positions that the output may have: the decoder looks at B
rows' inputs for B·N hypotheses. All beams of a row share the keys and values of its input, so those are made and held
once a row. Keys and values of what is written stay where they were written when beams change places: each hypothesis
knows instead under which beam its tokens were written, and attends to those of all its row's that are its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train import t5
from train.attention import MASKED
from train.attention.over_mesh import mesh_parts, platform_of
from train.sharding import by_rows, by_vocabulary, scan
from train.step import UNROLLED_LAYERS


class Cache(NamedTuple):
    """Holds self-attention's keys and values of the positions so far, and which of them are a hypothesis's own.

    `keys` and `values` have, in the activations' dtype, the number of a position and of the beam under which its token
    was written, 0 for later positions: [L, B, M, N, H, K] or, where layers are written out, L arrays [B, M, N, H, K].
    `writers` [B, N, M] int32 has that beam for each position of each present hypothesis.
    """

    keys: Any
    values: Any
    writers: jax.Array

    def reordered(self, parents: jax.Array) -> "Cache":
        """Returns a cache whose beam n of each row is beam `parents`[row, n], int32 [B, N], of this one's same row."""
        return self._replace(writers=jnp.take_along_axis(self.writers, parents[:, :, None], axis=1))


Step = Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]


def writes_out_layers(size: Size) -> bool:
    """Tells whether the decoder's layers are written out in a step, on the devices that the mesh has.

    They are on GPUs, up to as many layers as in training. A loop copies each layer's weights, keys and values out of
    the arrays of all layers before it reads them, which is up to a third of what a step moves (docs/performance.md).
    """
    return platform_of(mesh_parts()[0]) == "gpu" and size.decoder_depth <= UNROLLED_LAYERS


def keeps_positions_last() -> bool:
    """Tells whether the inputs' keys and values are kept as [B, H, K, S], on the devices that the mesh has.

    They are on TPUs, which store the two innermost axes in tiles of 8 or 16 × 128 numbers: as [B, S, H, K], 12 heads of
    64 numbers take 16 times 128, and greedy decoding, which reads them at each step, 2.7 times the bytes.
    """
    return platform_of(mesh_parts()[0]) == "tpu"


def start_decoding(
    params: t5.Params,
    inputs: jax.Array,
    size: Size,
    dtype: str,
    max_length: int,
    beams: int,
    unroll: bool | None = None,
) -> tuple[Step, Cache]:
    """Encodes inputs [B, S] int32, padded with 0, and returns a step function and an empty cache.

    `step(tokens, position, cache)` takes the decoder's input tokens [B, N] int32 of one position (int32 scalar, below
    `max_length`) and the cache of the positions before it; it returns the next token's logits [B, N, V] float32 and
    the cache with this position in it. It does the same sums as `T5.decode` on the whole prefix, up to their order.
    The head is float32 whatever `dtype` the activations have, as T5X has it: bfloat16 logits often tie. `unroll` says
    whether the layers are written out; by default `writes_out_layers` does.
    """
    unroll = writes_out_layers(size) if unroll is None else unroll
    activations = jnp.dtype(dtype)
    model = t5.model(size, params)
    segments, _ = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, None, activations)
    rows = inputs.shape[0]
    embedding = by_vocabulary(model.embedding[...])
    # Every step reads all of the layers' parameters: cast once, they are half as much to read in bfloat16.
    graph, layers = nnx.split(model.decoder.layers)
    layers = jax.tree.map(lambda x: x.astype(activations), layers)

    def layer_of(state: nnx.State[Any, Any]) -> t5.DecoderLayer:
        return cast(t5.DecoderLayer, nnx.merge(graph, state))

    def input_keys_values(state: nnx.State[Any, Any]) -> tuple[jax.Array, jax.Array]:
        return layer_of(state).encoder_decoder_attention.keys_values(memory)

    cross_segments = (jnp.ones((rows, beams), jnp.int32), segments)  # no beam sees padding
    output_positions = jnp.arange(max_length, dtype=jnp.int32)[None]  # [1, M]

    def bias_of(position: jax.Array, writers: jax.Array) -> jax.Array:
        """Returns what is added to self-attention's logits, [B or 1, H, N, M*N]; it masks later and others' tokens."""
        later = jnp.where(output_positions > position, MASKED, 0).astype(activations)  # [1, M]
        bias = model.decoder.relpos_bias(position.reshape(1, 1), output_positions, activations) + later  # [1, H, 1, M]
        if beams == 1:
            return bias
        own = writers[..., None] == jnp.arange(beams)  # [B, N, M, N]
        others = jnp.where(own, 0, MASKED).astype(activations)[:, None]
        # [1, H, 1, M, 1] and [B, 1, N, M, N] -> [B, H, N, M, N] -> [B, H, N, M*N]
        return (bias[..., None] + others).reshape(rows, size.heads, beams, max_length * beams)

    def project(layer: t5.DecoderLayer, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns self-attention's queries, and the keys and values of this position, each [B, N, H, K]."""
        h = layer.pre_self_attention_layer_norm(x)
        return layer.self_attention.queries(h), layer.self_attention.keys_values(h)

    def finish(
        layer: t5.DecoderLayer,
        x: jax.Array,
        q: jax.Array,
        kept: tuple[jax.Array, jax.Array],
        bias: jax.Array,
        of_input: tuple[jax.Array, jax.Array],
    ) -> jax.Array:
        """Attends to what is `kept`, each [B, M, N, H, K], and to the input's keys and values; returns [B, N, D]."""
        keys, values = (array.reshape(rows, max_length * beams, *array.shape[3:]) for array in kept)
        x = x + layer.self_attention.attend(q, keys, values, bias)
        h = layer.pre_cross_attention_layer_norm(x)
        attention = layer.encoder_decoder_attention
        x = x + attention.attend(attention.queries(h), *of_input, None, cross_segments)
        return by_rows(x + layer.mlp(layer.pre_mlp_layer_norm(x)))

    def run_in_loop(x: jax.Array, position: jax.Array, cache: Cache, bias: jax.Array) -> tuple[jax.Array, Any, Any]:
        """Runs the layers, and puts their keys and values of this position into those of all layers."""

        def run_layer(carry: tuple[jax.Array, jax.Array, jax.Array], layer_inputs: Any) -> tuple[Any, None]:
            x, keys, values = carry
            state, i, of_input = layer_inputs
            if positions_last:
                of_input = tuple(jnp.moveaxis(x, -1, 1) for x in of_input)  # [B, H, K, S] -> [B, S, H, K]
            layer = layer_of(state)
            q, new = project(layer, x)
            keys, values = (
                # [1, B, 1, N, H, K] into [L, B, M, N, H, K]
                jax.lax.dynamic_update_slice(kept, added[None, :, None], (i, 0, position, 0, 0, 0))
                for kept, added in zip((keys, values), new, strict=True)
            )
            return (finish(layer, x, q, (keys[i], values[i]), bias, of_input), keys, values), None

        carry, _ = scan(run_layer, (x, cache.keys, cache.values), (layers, jnp.arange(depth), of_inputs))
        return carry

    def run_one_by_one(x: jax.Array, position: jax.Array, cache: Cache, bias: jax.Array) -> tuple[jax.Array, Any, Any]:
        """Does the same with layers that have arrays of their own."""
        kept_of_all = []
        for state, keys, values, of_input in zip(layer_states, cache.keys, cache.values, of_inputs, strict=True):
            layer = layer_of(state)
            q, new = project(layer, x)
            kept = tuple(
                # [B, 1, N, H, K] into [B, M, N, H, K]
                jax.lax.dynamic_update_slice(before, added[:, None], (0, position, 0, 0, 0))
                for before, added in zip((keys, values), new, strict=True)
            )
            x = finish(layer, x, q, (kept[0], kept[1]), bias, of_input)
            kept_of_all.append(kept)
        keys_of_all, values_of_all = zip(*kept_of_all, strict=True)
        return x, keys_of_all, values_of_all

    depth, positions_last = size.decoder_depth, keeps_positions_last()
    shape = (rows, max_length, beams, size.heads, size.d_kv)
    writers = jnp.zeros((rows, beams, max_length), jnp.int32)
    if unroll:
        layer_states = t5.unstacked(layers, depth)
        of_inputs: Any = [input_keys_values(state) for state in layer_states]
        nothing = tuple(jnp.zeros(shape, activations) for _ in layer_states)
        empty, run_layers = Cache(nothing, nothing, writers), run_one_by_one
    else:
        _, of_inputs = scan(lambda _, state: (None, input_keys_values(state)), None, layers)  # each [L, B, S, H, K]
        if positions_last:
            of_inputs = tuple(jnp.moveaxis(x, 2, -1) for x in of_inputs)  # [L, B, S, H, K] -> [L, B, H, K, S]
        zeros = jnp.zeros((depth, *shape), activations)
        empty, run_layers = Cache(zeros, zeros, writers), run_in_loop

    def step(tokens: jax.Array, position: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Decodes one position, as `start_decoding` says."""
        x = by_rows(embedding[tokens]).astype(activations)  # [B, N, D]
        itself = jnp.broadcast_to(jnp.arange(beams, dtype=jnp.int32)[:, None], (rows, beams, 1))
        writers = jax.lax.dynamic_update_slice(cache.writers, itself, (0, 0, position))
        x, keys, values = run_layers(x, position, cache, bias_of(position, writers))
        logits = model.logits(model.decoder.decoder_norm(x).astype(jnp.float32))
        return logits, Cache(keys, values, writers)

    return step, empty
