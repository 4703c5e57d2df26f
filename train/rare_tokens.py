"""Has a model read the tokens that its training texts hardly have as <unk>, from the first step to the last answer.

What a token means can't be learnt from one or two texts, and what is learnt of it instead is noise; <unk> is learnt
from all of them together. Training replaces their ids. A finished model has <unk>'s embedding as theirs, so that it
reads them so wherever it is used, with the vocabulary that it has.
"""

import functools
from typing import Any

import jax
import numpy as np

from train.data.tokens import EOS, PAD, UNK, Encoded


def rare_tokens(inputs: Encoded, targets: Encoded, least: int, pieces: int) -> np.ndarray:
    """Returns the ids below `pieces` that `inputs` have fewer than `least` times, rising int64.

    Ids that are in no input are among them; those that `targets` have are not, as the decoder reads them too, nor are
    padding, EOS and UNK.
    """
    counts = np.bincount(inputs.flat, minlength=pieces)[:pieces]
    is_rare = counts < least
    is_rare[[PAD, EOS, UNK]] = False
    is_rare[np.unique(targets.flat)] = False
    return np.flatnonzero(is_rare)


def as_unknown(inputs: Encoded, rare: np.ndarray) -> Encoded:
    """Returns the inputs with the ids `rare` replaced by UNK's."""
    return Encoded(np.where(np.isin(inputs.flat, rare), np.int32(UNK), inputs.flat), inputs.offsets, inputs.truncated)


def reads_as_unknown(params: dict[str, Any], rare: np.ndarray) -> dict[str, Any]:
    """Returns T5's parameters with <unk>'s embedding as that of the ids `rare`, laid out as they are."""
    embedding = params["embedding"]
    return {**params, "embedding": _copied(embedding, rare, embedding.sharding)}


@functools.partial(jax.jit, static_argnames="layout")
def _copied(table: jax.Array, rare: np.ndarray, layout: jax.sharding.Sharding) -> jax.Array:
    copied: jax.Array = jax.lax.with_sharding_constraint(table.at[rare].set(table[UNK]), layout)
    return copied
