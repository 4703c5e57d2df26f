"""Reads a checkpoint's tensors into parameters: one leaf at a time, each straight into its place on the devices."""

import json
import math

import jax
import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Size
from train import t5
from train.data.tokens import Vocabulary
from train.pretrained.find import Checkpoint
from train.pretrained.tensors import Index, LeafPath, Weights, put_leaf
from train.sharding import state_shardings

SHOWN = 100  # faults of a checkpoint that an error lists


def load(checkpoint: Checkpoint, size: Size, mesh: jax.sharding.Mesh | None) -> t5.Params:
    """Returns the parameters, float32 and stacked: laid over `mesh` by the table of `train.sharding`, or as numpy.

    bfloat16 and float16 tensors are widened. Raises EdgewiseError naming every tensor that is missing, misshaped or
    not part of the model, and for files cut short.
    """
    weights = checkpoint.open()
    if wrong := weights.faults(size):
        more = f"; and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise EdgewiseError(
            f"{weights.where} is not the model that its description says it is: {'; '.join(wrong[:SHOWN])}{more}. "
            f"Expected exactly the tensors of {described(size)}; download or copy it again"
        )
    return place(weights, size, mesh)


def place(weights: Weights, size: Size, mesh: jax.sharding.Mesh | None) -> t5.Params:
    """Reads every leaf into its place. Beside the parameters, one leaf is in memory at a time."""
    abstract = t5.abstract_params(size)
    shardings = None if mesh is None else state_shardings(mesh, abstract)
    leaves = [
        (tuple(entry.key for entry in path), leaf.shape, index)
        for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(abstract))
    ]
    shardings = jax.tree.leaves(shardings)
    params: t5.Params = {}
    # The largest first: the copy of a leaf on its way to a device is then largest while few others are there.
    for path, shape, i in sorted(leaves, key=lambda leaf: -math.prod(leaf[1])):
        if mesh is None:
            array = read_leaf(weights, size, path, shape, (slice(None),) * len(shape))
        else:
            array = jax.block_until_ready(placed(weights, size, path, shape, shardings[i]))
        put_leaf(params, path, array)
    return params


def placed(
    weights: Weights, size: Size, path: LeafPath, shape: tuple[int, ...], sharding: jax.sharding.Sharding
) -> jax.Array:
    """Returns one leaf laid over the devices; each of its parts is read once, and no other part with it."""
    parts: dict[str, np.ndarray] = {}  # devices that hold the same part share it

    def part(index: Index | None) -> np.ndarray:
        assert index is not None
        key = json.dumps([piece.indices(n) for piece, n in zip(index, shape)])
        if key not in parts:
            parts[key] = read_leaf(weights, size, path, shape, index)
        return parts[key]

    return jax.make_array_from_callback(shape, sharding, part)


def read_leaf(weights: Weights, size: Size, path: LeafPath, shape: tuple[int, ...], index: Index) -> np.ndarray:
    """Returns `leaf[index]` as float32 numpy; a stacked leaf's layers are read one by one."""
    out = np.empty([len(range(*piece.indices(n))) for piece, n in zip(index, shape)], np.float32)
    if "layers" not in path:
        out[...] = weights.read(size, path, None, index)
    else:
        for row, layer in enumerate(range(*index[0].indices(shape[0]))):
            out[row] = weights.read(size, path, layer, index[1:])
    return out


def described(size: Size) -> str:
    """Describes an architecture in one line."""
    head = ("tied" if size.tied_head else "its own") + (", scaled" if size.scales_head else ", unscaled")
    return (
        f"d_model {size.d_model}, d_kv {size.d_kv}, d_ff {size.d_ff}, {size.layers}+{size.decoder_depth} layers, "
        f"{size.heads} heads, vocabulary {size.vocabulary_size}, {size.activation}, head {head}"
    )


def check_vocabulary(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Raises EdgewiseError for a vocabulary with another number of pieces than the checkpoint's own.

    A checkpoint without one takes any: that it fits into the embedding is for `cell_size` to check.
    """
    if checkpoint.vocabulary is None:
        return
    own = Vocabulary.from_file(checkpoint.vocabulary)
    if own.size != vocabulary.size:
        raise EdgewiseError(
            f"tokenizer.path holds {vocabulary.size} pieces, but {checkpoint.name} was trained with {own.size} "
            "(its own spiece.model): leave tokenizer.path out, or give the vocabulary that goes with the checkpoint"
        )
