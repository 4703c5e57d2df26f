"""Holds what the two layouts of a T5 checkpoint share: which tensors there are, and what may be wrong with them."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Size

Index = tuple[slice, ...]
LeafPath = tuple[str, ...]  # into train.t5's parameters: ("encoder", "layers", "mlp", "wi", "kernel")

SUBLAYERS = {  # stack -> (its norm, the sublayer), in order
    "encoder": [("pre_attention_layer_norm", "attention"), ("pre_mlp_layer_norm", "mlp")],
    "decoder": [
        ("pre_self_attention_layer_norm", "self_attention"),
        ("pre_cross_attention_layer_norm", "encoder_decoder_attention"),
        ("pre_mlp_layer_norm", "mlp"),
    ],
}


class Tensor(NamedTuple):
    """Names a tensor of a checkpoint: as it is called there, and which leaf of `train.t5`'s parameters it is.

    `layer` is which layer's it is, where the leaf has stacked layers, else None. Where it is `transposed`, its axes are
    the leaf's, reversed.
    """

    name: str
    path: LeafPath
    layer: int | None
    transposed: bool


class Weights(Protocol):
    """Reads a checkpoint's tensors one by one; `where` says where they lie."""

    where: str

    def faults(self, size: Size) -> list[str]:
        """Returns a sentence for every tensor that is missing, misshaped, or not part of this architecture."""
        ...

    def read(self, size: Size, path: LeafPath, layer: int | None, index: Index) -> np.ndarray:
        """Returns `leaf[index]` as float32, of one layer where leaves are stacked, in the leaf's own axes."""
        ...


def depth(size: Size, stack: str) -> int:
    """Returns how many layers a stack (`encoder` or `decoder`) has."""
    return size.layers if stack == "encoder" else size.decoder_depth


def check_finite(part: np.ndarray, tensor: str, where: str) -> None:
    """Raises EdgewiseError, which names the tensor and its file, where a number of `part` is NaN or infinite."""
    if not math.isfinite(part.sum(dtype=np.float64)):  # float32 can't overflow there: what is not finite stays so
        faulty = int((~np.isfinite(part)).sum())
        raise EdgewiseError(
            f"{where}: in {tensor}, {faulty:,} of {part.size:,} numbers read are NaN or infinite: expected a "
            "trained model's weights. Take an earlier checkpoint, or train or convert it again"
        )


def mlp_kernels(size: Size) -> tuple[str, ...]:
    """Returns the names of the feed-forward's kernels."""
    return ("wi_0", "wi_1", "wo") if size.activation == "gated_gelu" else ("wi", "wo")


def leaf_shape(size: Size, path: LeafPath) -> tuple[int, ...]:
    """Returns the shape of a leaf, without the leading axis of stacked layers."""
    d, inner, f, v = size.d_model, size.heads * size.d_kv, size.d_ff, size.vocabulary_size
    assert v is not None
    shapes = {
        "embedding": (v, d),
        "logits_dense": (d, v),
        "relpos_bias": (size.relative_buckets, size.heads),
        "out": (inner, d),
        "wo": (f, d),
        **dict.fromkeys(("query", "key", "value"), (d, inner)),
        **dict.fromkeys(("wi", "wi_0", "wi_1"), (d, f)),
    }
    return (d,) if path[-1] == "scale" else shapes[path[-1] if len(path) == 1 else path[-2]]


def faults_of(
    expected: Iterable[Tensor], found: dict[str, tuple[int, ...]], size: Size, ignored: set[str]
) -> list[str]:
    """Returns what `Weights.faults` says, from the names and shapes that a checkpoint holds."""
    faults = []
    names = set()
    for tensor in expected:
        names.add(tensor.name)
        shape = leaf_shape(size, tensor.path)
        wanted = list(shape[::-1] if tensor.transposed else shape)
        if tensor.name not in found:
            faults.append(f"{tensor.name} is missing")
        elif list(found[tensor.name]) != wanted:
            faults.append(f"{tensor.name} has shape {list(found[tensor.name])}, expected {wanted}")
    return faults + [f"{name} is not part of the model" for name in sorted(found) if name not in names | ignored]


def stored_index(index: Index, transposed: bool) -> Index:
    """Returns the index into a tensor as it is stored, from the one into its leaf."""
    return index[::-1] if transposed else index


def leaf_of(params: dict[str, Any], path: LeafPath) -> Any:
    """Returns the leaf at a path of nested dicts."""
    for name in path:
        params = params[name]
    return params


def put_leaf(params: dict[str, Any], path: LeafPath, leaf: Any) -> None:
    """Sets the leaf at a path, making the dicts on the way."""
    for name in path[:-1]:
        params = params.setdefault(name, {})
    params[path[-1]] = leaf


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """Reads a JSON object; raises EdgewiseError where the file can't be read or holds something else."""
    try:
        described = json.loads(file.read_text())
        if not isinstance(described, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise EdgewiseError(f"{file} can't be read as JSON ({error}): expected {expected}") from None
    return described
