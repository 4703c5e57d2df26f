"""What the two layouts of a T5 checkpoint share: which tensors an architecture has, and what may be wrong with them."""

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
    """A tensor of a checkpoint: its name there, and the leaf (and layer, where leaves are stacked) that it is here."""

    name: str
    path: LeafPath
    layer: int | None
    transposed: bool  # its axes are the leaf's, reversed


class Weights(Protocol):
    """A checkpoint's tensors, none of them read yet."""

    where: str

    def faults(self, size: Size) -> list[str]:
        """One sentence for every tensor that is missing, misshaped, or not of this architecture."""
        ...

    def read(self, size: Size, path: LeafPath, layer: int | None, index: Index) -> np.ndarray:
        """Part of a leaf (of one layer of it, where leaves are stacked), float32, in the leaf's own axes."""
        ...


def mlp_kernels(size: Size) -> tuple[str, ...]:
    """The names of the feed-forward's kernels."""
    return ("wi_0", "wi_1", "wo") if size.activation == "gated_gelu" else ("wi", "wo")


def leaf_shape(size: Size, path: LeafPath) -> tuple[int, ...]:
    """The shape of a leaf, without the leading axis of stacked layers."""
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
    """What `Weights.faults` says, from the names and shapes that a checkpoint holds."""
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
    """The index into a tensor as it is stored."""
    return index[::-1] if transposed else index


def leaf_of(params: dict[str, Any], path: LeafPath) -> Any:
    """The leaf at a path of nested dicts."""
    for name in path:
        params = params[name]
    return params


def put_leaf(params: dict[str, Any], path: LeafPath, leaf: Any) -> None:
    """Sets the leaf at a path, making the dicts on the way."""
    for name in path[:-1]:
        params = params.setdefault(name, {})
    params[path[-1]] = leaf


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """A JSON object; EdgewiseError where the file can't be read or holds something else."""
    try:
        described = json.loads(file.read_text())
        if not isinstance(described, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise EdgewiseError(f"{file} can't be read as JSON ({error}): expected {expected}") from None
    return described


def elements(shape: Iterable[int]) -> int:
    """How many numbers an array of this shape has."""
    return math.prod(shape)
