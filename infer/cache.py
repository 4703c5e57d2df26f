"""Runs the decoder one position at a time, with the keys and values of the positions before it kept.

Shape names are those of `train.t5`, and N beams a row, M positions that the output may have: the decoder looks at B
rows' inputs for B·N hypotheses. All beams of a row share the keys and values of its input, so those are made and held
once a row.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train import t5
from train.attention import MASKED
from train.sharding import by_rows, by_vocabulary, scan


class Cache(NamedTuple):
    """Holds self-attention's keys and values of the positions so far, 0 for later ones.

    Each is [L, B·N, M, H, K] in the activations' dtype.
    """

    keys: jax.Array
    values: jax.Array

    def reordered(self, parents: jax.Array) -> "Cache":
        """Returns a cache whose beam n of each row is beam `parents`[row, n], int32 [B, N], of this one's same row."""
        rows, beams = parents.shape

        def reorder(x: jax.Array) -> jax.Array:
            by_row = x.reshape(x.shape[0], rows, beams, *x.shape[2:])  # [L, B*N, M, H, K] -> [L, B, N, M, H, K]
            chosen: jax.Array = jax.vmap(lambda row, parent: row[:, parent], (1, 0), 1)(by_row, parents)
            return chosen.reshape(x.shape)

        return Cache(reorder(self.keys), reorder(self.values))


Step = Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]


def start_decoding(
    params: t5.Params, inputs: jax.Array, size: Size, dtype: str, max_length: int, beams: int
) -> tuple[Step, Cache]:
    """Encodes inputs [B, S] int32, padded with 0, and returns a step function and an empty cache.

    `step(tokens, position, cache)` takes the decoder's input tokens [B, N] int32 of one position (int32 scalar, below
    `max_length`) and the cache of the positions before it; it returns the next token's logits [B, N, V] float32 and
    the cache with this position in it. It does the same sums as `T5.decode` on the whole prefix, up to their order.
    The head is float32 whatever `dtype` the activations have, as T5X has it: bfloat16 logits often tie.
    """
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

    _, (input_keys, input_values) = scan(  # each [L, B, S, H, K]
        lambda _, state: (None, layer_of(state).encoder_decoder_attention.keys_values(memory)), None, layers
    )
    cross_segments = (jnp.ones((rows, beams), jnp.int32), segments)  # no beam sees padding
    output_positions = jnp.arange(max_length, dtype=jnp.int32)[None]  # [1, M]

    def step(tokens: jax.Array, position: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Decodes one position, as `start_decoding` says."""
        x = by_rows(embedding[tokens]).astype(activations)  # [B, N, D]
        later = jnp.where(output_positions > position, MASKED, 0).astype(activations)  # [1, M]
        bias = model.decoder.relpos_bias(position.reshape(1, 1), output_positions, activations) + later  # [1, H, 1, M]

        def run_layer(
            carry: tuple[jax.Array, jax.Array, jax.Array],
            layer_inputs: tuple[nnx.State[Any, Any], jax.Array, jax.Array, jax.Array],
        ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
            """Runs layer i; puts its keys and values of this position into those of all layers."""
            x, keys, values = carry
            state, i, layer_input_keys, layer_input_values = layer_inputs
            layer = layer_of(state)
            h = layer.pre_self_attention_layer_norm(x).reshape(-1, 1, x.shape[2])  # [B, N, D] -> [B*N, 1, D]
            attention = layer.self_attention
            keys, values = (
                # [1, B*N, 1, H, K] into [L, B*N, M, H, K]
                jax.lax.dynamic_update_slice(kept, new[None], (i, 0, position, 0, 0))
                for kept, new in zip((keys, values), attention.keys_values(h), strict=True)
            )
            x = x + attention.attend(attention.queries(h), keys[i], values[i], bias).reshape(x.shape)
            h = layer.pre_cross_attention_layer_norm(x)
            attention = layer.encoder_decoder_attention
            x = x + attention.attend(attention.queries(h), layer_input_keys, layer_input_values, None, cross_segments)
            return (by_rows(x + layer.mlp(layer.pre_mlp_layer_norm(x))), keys, values), None

        by_layer = (layers, jnp.arange(size.decoder_depth), input_keys, input_values)
        (x, keys, values), _ = scan(run_layer, (x, cache.keys, cache.values), by_layer)
        return model.logits(model.decoder.decoder_norm(x).astype(jnp.float32)), Cache(keys, values)

    empty = jnp.zeros((size.decoder_depth, rows * beams, max_length, size.heads, size.d_kv), activations)
    return step, Cache(empty, empty)
