"""Applies the head to a slice of positions at a time, so that logits of all positions are never held at once."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from train import t5
from train.sharding import scan

SLICE_BYTES = 64 * 2**20  # what the float32 logits of one slice may take

Values = TypeVar("Values")  # an array [B, T, …], or a tuple of them


def slice_length(rows: int, vocabulary: int, limit: int = SLICE_BYTES) -> int:
    """Returns how many positions of `rows` rows have float32 logits of at most `limit` bytes in all; at least 1."""
    return max(1, limit // (4 * rows * vocabulary))


def over_positions(
    model: t5.T5,
    hidden: jax.Array,
    targets: jax.Array,
    function: Callable[[jax.Array, jax.Array], Values],
    limit: int = SLICE_BYTES,
    outputs: jax.Array | None = None,
) -> Values:
    """Returns `function(logits, targets)` of all positions, computed slice by slice.

    hidden [B, T, D] in any float dtype, as `T5.hidden_states` returns it; targets [B, T, …] int32. `function` takes
    float32 logits [B, t, V] and targets [B, t, …] of a slice of t positions, and returns values [B, t, …], each
    position's from its own logits alone; the result is those values [B, T, …] of all positions. With token ids
    `outputs` [U] int32 the logits are theirs alone: U stands for V.

    Slices are cut along T, so that rows stay where they are on a mesh. The logits of one slice take at most `limit`
    bytes, or B·V·4 where one position of every row is more than that: never a multiple of T.
    """
    rows, length, _ = hidden.shape
    vocabulary = model.embedding[...].shape[0] if outputs is None else len(outputs)
    slices = -(-length // slice_length(rows, vocabulary, limit))
    if slices == 1:
        return function(model.logits(hidden, outputs), targets)
    width = -(-length // slices)

    def cut(x: jax.Array) -> jax.Array:
        """Cuts [B, T, …] into [slices, B, width, …], the last slice filled up with zeros."""
        x = jnp.pad(x, [(0, 0), (0, slices * width - length)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(rows, slices, width, *x.shape[2:]), 1, 0)

    def join(x: jax.Array) -> jax.Array:
        """Joins [slices, B, width, …] to [B, T, …]."""
        return jnp.moveaxis(x, 0, 1).reshape(rows, slices * width, *x.shape[3:])[:, :length]

    def run_slice(_: None, inputs: tuple[jax.Array, jax.Array]) -> tuple[None, Values]:
        return None, function(model.logits(inputs[0], outputs), inputs[1])

    _, values = scan(run_slice, None, (cut(hidden), cut(targets)))
    joined: Values = jax.tree.map(join, values)
    return joined
