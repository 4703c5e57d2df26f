"""One decoder step at a time: keys and values of the positions before it are kept, those of the input made once.

Shape names as in `train.t5`, and N beams a row, M positions of room: the decoder looks at B rows' inputs for B·N
hypotheses. A row's beams share the keys and values of its input, as queries do, so those are held once a row.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train import t5
from train.attention import MASKED
from train.sharding import by_rows, by_vocabulary, scan


class Cache(NamedTuple):
    """Keys and values of self-attention, each [L, B·N, M, H, K] in the activations' dtype; later positions are 0."""

    keys: jax.Array
    values: jax.Array

    def reordered(self, parents: jax.Array) -> "Cache":
        """Beam n of a row goes on from beam `parents`[row, n], int32 [B, N], of the same row."""
        rows, beams = parents.shape

        def reorder(x: jax.Array) -> jax.Array:
            by_row = x.reshape(x.shape[0], rows, beams, *x.shape[2:])  # [L, B, N, M, H, K]
            return jax.vmap(lambda row, parent: row[:, parent], (1, 0), 1)(by_row, parents).reshape(x.shape)

        return Cache(reorder(self.keys), reorder(self.values))


Step = Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]


def start(
    params: t5.Params, inputs: jax.Array, size: Size, dtype: str, max_length: int, beams: int
) -> tuple[Step, Cache]:
    """Encodes inputs [B, S] int32, padded with 0, and returns a step function and an empty cache.

    `step(tokens, index, cache)` takes the decoder's input tokens [B, N] int32 of position `index` (int32 scalar, below
    `max_length`) and the cache of the positions before it; it returns the next token's logits [B, N, V] float32 and
    the cache with this position in it. It does the same sums as `T5.decode` on the whole prefix, up to their order.
    The head is float32 whatever `dtype` the activations have, as T5X has it: bfloat16 logits often tie.
    """
    activations = jnp.dtype(dtype)
    model = t5.model(size, params)
    segments, positions = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, positions, activations)
    rows = inputs.shape[0]
    embedding = by_vocabulary(model.embedding[...])
    # Every step reads all of the layers' parameters: cast once, they are half as much to read in bfloat16.
    graph, layers = nnx.split(model.decoder.layers)
    layers = jax.tree.map(lambda x: x.astype(activations), layers)

    def layer_of(state: nnx.State) -> t5.DecoderLayer:
        return cast(t5.DecoderLayer, nnx.merge(graph, state))

    _, (input_keys, input_values) = scan(  # each [L, B, S, H, K]
        lambda _, state: (None, layer_of(state).encoder_decoder_attention.keys_values(memory)), None, layers
    )
    across = (jnp.ones((rows, beams), jnp.int32), segments)  # no beam sees padding
    place = jnp.arange(max_length, dtype=jnp.int32)[None]  # [1, M]

    def step(tokens: jax.Array, index: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        x = by_rows(embedding[tokens]).astype(activations)  # [B, N, D]
        later = jnp.where(place > index, MASKED, 0).astype(activations)  # [1, M]
        self_bias = model.decoder.relpos_bias(index.reshape(1, 1), place, activations) + later  # [1, H, 1, M]

        def run_layer(carry: tuple, layer_inputs: tuple) -> tuple[tuple, None]:
            x, keys, values = carry
            state, i, layer_input_keys, layer_input_values = layer_inputs
            layer = layer_of(state)
            h = layer.pre_self_attention_layer_norm(x).reshape(-1, 1, x.shape[2])  # [B, N, D] -> [B*N, 1, D]
            attention = layer.self_attention
            keys, values = (
                jax.lax.dynamic_update_slice(kept, new[None], (i, 0, index, 0, 0))  # [1, B*N, 1, H, K] into the cache
                for kept, new in zip((keys, values), attention.keys_values(h), strict=True)
            )
            x = x + attention.attend(attention.queries(h), keys[i], values[i], self_bias).reshape(x.shape)
            h = layer.pre_cross_attention_layer_norm(x)
            attention = layer.encoder_decoder_attention
            x = x + attention.attend(attention.queries(h), layer_input_keys, layer_input_values, None, across)
            return (by_rows(x + layer.mlp(layer.pre_mlp_layer_norm(x))), keys, values), None

        each = (layers, jnp.arange(size.layers), input_keys, input_values)
        (x, keys, values), _ = scan(run_layer, (x, cache.keys, cache.values), each)
        return model.logits(model.decoder.decoder_norm(x).astype(jnp.float32)), Cache(keys, values)

    empty = jnp.zeros((size.layers, rows * beams, max_length, size.heads, size.d_kv), activations)
    return step, Cache(empty, empty)
