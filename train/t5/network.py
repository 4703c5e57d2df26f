"""Defines the whole T5 network and how its parameters are made, shaped, counted and put into it."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size
from train.sharding import by_rows, by_vocabulary
from train.t5.layers import float32_product
from train.t5.stacks import LOOP, Decoder, Encoder, Execution

Params = dict[str, Any]  # nested, with T5X's names; the stacked layers' leaves have a leading axis [L]


class T5(nnx.Module):
    """Holds the encoder, the decoder and the token embedding that both read: the stacks take embedded inputs.

    Raises ValueError for a size without a vocabulary.
    """

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        if size.vocabulary_size is None:
            raise ValueError("size.vocabulary_size is not set: call with_vocabulary first")
        shape = (size.vocabulary_size, size.d_model)
        stddev = 1.0 if size.embedding_stddev is None else size.embedding_stddev
        self.embedding = nnx.Param(stddev * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.encoder = Encoder(size, rngs=rngs)
        self.decoder = Decoder(size, rngs=rngs)
        self.tied_head, self.scales_head = size.tied_head, size.scales_head

    def encode(
        self,
        inputs: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None,
        dtype: jnp.dtype = jnp.float32,
        key: jax.Array | None = None,
        execution: Execution = LOOP,
    ) -> jax.Array:
        """Encodes token ids [B, S] int32 and returns the encoder's output [B, S, D] in `dtype`, the activations' own.

        `segments` [B, S] and `positions` [B or 1, S] are int32, as `plain_rows` makes them; without positions, they
        count along the row. With a `key`, drops activations. `execution` says how the layers are run.
        """
        x = by_rows(by_vocabulary(self.embedding[...].astype(dtype))[inputs])
        return self.encoder(x, segments, positions, key, execution)

    def decode(
        self,
        decoder_inputs: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None,
        memory: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None = None,
        execution: Execution = LOOP,
        outputs: jax.Array | None = None,
    ) -> jax.Array:
        """Decodes shifted target ids [B, T] int32 over the encoder's output [B, S, D] to logits [B, T, V] float32.

        A target position sees the sources of its own segment; the arguments are those of `hidden_states` and `logits`.
        """
        hidden = self.hidden_states(decoder_inputs, segments, positions, memory, memory_segments, key, execution)
        return self.logits(hidden, outputs)

    def hidden_states(
        self,
        decoder_inputs: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None,
        memory: jax.Array,
        memory_segments: jax.Array,
        key: jax.Array | None = None,
        execution: Execution = LOOP,
        visible: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the decoder's output before the head, [B, T, D] in the dtype of `memory`.

        decoder_inputs [B, T] int32, as `shift_right` makes them; segments [B, T] and [B, S] and positions [B or 1, T]
        int32; memory [B, S, D]. `visible` [B or 1, T, T] bool says which positions (last axis) of its segment each
        position sees; by default its own and earlier ones. Without positions, they count along the row, and `visible`
        is the default.
        """
        embedding = by_vocabulary(self.embedding[...].astype(memory.dtype))
        x = by_rows(embedding[decoder_inputs])
        return self.decoder(x, memory, segments, positions, memory_segments, key, execution, visible)

    def logits(self, hidden: jax.Array, outputs: jax.Array | None = None) -> jax.Array:
        """Applies the head to `hidden` [B, T, D]; returns [B, T, V] float32, of factors in the dtype of `hidden`.

        With token ids `outputs` [U] int32 it returns theirs alone, [B, T, U].
        """
        if self.scales_head:  # by a factor in float32: rounded to bfloat16 it would make all logits larger or smaller
            hidden = (hidden.astype(jnp.float32) * hidden.shape[-1] ** -0.5).astype(hidden.dtype)
        if not self.tied_head:
            kernel = self.decoder.logits_dense.kernel[...]
            head = kernel if outputs is None else kernel[:, outputs]
        else:
            embedding = self.embedding[...]
            head = (embedding if outputs is None else embedding[outputs]).T
        return float32_product(hidden, head.astype(hidden.dtype))


# --- parameters ------------------------------------------------------------------------------------------------------


def with_vocabulary(size: Size, pieces: int) -> Size:
    """Returns `size` with a vocabulary: its own, or else the tokenizer's number of pieces rounded up to 128."""
    return size if size.vocabulary_size else dataclasses.replace(size, vocabulary_size=-(-pieces // 128) * 128)


@functools.lru_cache(maxsize=16)
def _abstract(size: Size) -> tuple[nnx.GraphDef[T5], nnx.State[Any, Any]]:
    """Returns the network's structure, and its parameters' shapes and dtypes."""
    return nnx.split(nnx.eval_shape(lambda: T5(size, rngs=nnx.Rngs(params=0))))


def abstract_params(size: Size) -> Params:
    """Returns the parameters' shapes and dtypes as a nested dict; costs no memory."""
    return nnx.to_pure_dict(_abstract(size)[1])


def model(size: Size, params: Params) -> T5:
    """Returns the network with these parameters in it; copies nothing, so it may be called inside `jax.jit`."""
    graph, state = _abstract(size)
    state = jax.tree.map(lambda x: x, state)  # a copy: the cached one stays abstract
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def init_params(size: Size, key: jax.Array) -> Params:
    """Returns random parameters, a nested dict of float32. Jit it with out_shardings and they are born sharded."""
    return nnx.to_pure_dict(nnx.split(T5(size, rngs=nnx.Rngs(params=key)))[1])


def cast(params: Params, dtype: str, head: bool = True) -> Params:
    """Returns the parameters in the activations' `dtype`, laid out as they are: the network reads no others.

    Without `head` the embedding and the head stay as they are, for those who compute the logits in float32. What has
    the dtype already is not copied. A batch then reads half of what it would in float32, and casts nothing.
    """
    wanted = jnp.dtype(dtype)

    def is_cast(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        return leaf.dtype != wanted and (head or not {"embedding", "logits_dense"} & {entry.key for entry in path})

    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    places = [i for i, (path, leaf) in enumerate(leaves) if is_cast(path, leaf)]
    values = [leaf for _, leaf in leaves]
    if places:
        convert = _conversion(wanted, tuple(values[i].sharding for i in places))
        for i, value in zip(places, convert([values[i] for i in places]), strict=True):
            values[i] = value
    lighter: Params = jax.tree.unflatten(structure, values)
    return lighter


@functools.lru_cache(maxsize=32)
def _conversion(
    dtype: jnp.dtype, shardings: tuple[jax.sharding.Sharding, ...]
) -> Callable[[list[jax.Array]], list[jax.Array]]:
    """Returns the compiled function that casts a list of arrays which lie over the devices as `shardings` say."""
    return jax.jit(lambda arrays: [x.astype(dtype) for x in arrays], out_shardings=list(shardings))


def count_parameters(size: Size) -> int:
    """Returns how many numbers the model's parameters are; a tied head counts once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(size)))
