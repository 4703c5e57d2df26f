"""T5X checkpoints: a msgpack file `checkpoint`, and large leaves as tensorstore zarr arrays beside it.

Layout and names are T5X's (`t5x/checkpoints.py`, version 3): {version, optimizer: {target, state}}; a leaf of `target`
is an array, or a tensorstore spec with a path relative to the checkpoint. Starts without JAX.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import tensorstore

from conf.errors import EdgewiseError
from conf.schema import Size
from train.pretrained.tensors import (
    SUBLAYERS,
    Index,
    LeafPath,
    Tensor,
    faults_of,
    leaf_of,
    mlp_kernels,
    put_leaf,
    stored_index,
)

FILE, VERSION = "checkpoint", 3
_CHUNK_ELEMENTS = 16 << 20  # 64 MiB of float32 before compression, as T5X writes
_DTYPES = ("float32", "float16", "bfloat16")
_TENSORSTORE_ERRORS = (ValueError, OSError, RuntimeError)


def layout(size: Size) -> Iterator[Tensor]:
    """Every tensor of an architecture."""
    yield Tensor("token_embedder/embedding", ("embedding",), None, False)
    if not size.tied_head:
        yield Tensor("decoder/logits_dense/kernel", ("decoder", "logits_dense", "kernel"), None, False)
    for stack, sublayers in SUBLAYERS.items():
        bias = (stack, "relpos_bias", "rel_embedding")
        yield Tensor("/".join(bias), bias, None, True)
        norm_path = (stack, f"{stack}_norm", "scale")
        yield Tensor("/".join(norm_path), norm_path, None, False)
        for i in range(size.layers):
            for norm, sublayer in sublayers:
                names = mlp_kernels(size) if sublayer == "mlp" else ("query", "key", "value", "out")
                for rest in [(norm, "scale")] + [(sublayer, name, "kernel") for name in names]:
                    yield Tensor("/".join((stack, f"layers_{i}", *rest)), (stack, "layers", *rest), i, False)


class T5XWeights:
    """The tensors of a T5X checkpoint in a local folder or at a `gs://` address. `message` is its msgpack file."""

    def __init__(self, where: str):
        """Reads the msgpack file. EdgewiseError where there is none, or it is another version's."""
        self.where = where.rstrip("/")
        self._store = _key_value_store(self.where)
        self._arrays: dict[str, Any] = {}
        try:
            answer = tensorstore.KvStore.open(self._store).result().read(FILE).result()
        except _TENSORSTORE_ERRORS as error:
            raise EdgewiseError(
                f"{self.where} can't be read ({_first_line(error)}): expected a T5X checkpoint there. Without a "
                "network, copy it and give the folder: train.init=PATH"
            ) from None
        if answer.state != "value":
            raise EdgewiseError(f"{self.where} has no file named {FILE}: expected a T5X checkpoint's folder")
        self.message: bytes = answer.value
        self._leaves = self._target()

    def _target(self) -> dict[str, Any]:
        try:
            content = msgpack.unpackb(self.message, ext_hook=_decode, raw=False, strict_map_key=False)
        except Exception as error:  # msgpack raises many kinds
            raise EdgewiseError(
                f"{self.where}/{FILE} is damaged or is no msgpack file ({_first_line(error)}): copy it again"
            ) from None
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise EdgewiseError(
                f"{self.where}/{FILE} is a T5X checkpoint of version {version}: expected version {VERSION}"
            )
        target = content.get("optimizer", {}).get("target")
        if not isinstance(target, dict):
            raise EdgewiseError(f"{self.where}/{FILE} holds no optimizer/target: expected the parameters there")
        return dict(_flatten(target, ()))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter."""
        return {name: self._shape(leaf) for name, leaf in self._leaves.items()}

    def _shape(self, leaf: Any) -> tuple[int, ...]:
        return leaf.shape if isinstance(leaf, np.ndarray) else tuple(leaf.get("metadata", {}).get("shape", ()))

    @property
    def folders(self) -> list[str]:
        """The zarr arrays' paths, relative to the checkpoint."""
        return sorted(_relative(leaf) for leaf in self._leaves.values() if isinstance(leaf, dict))

    def size(self, name: str) -> Size:
        """The architecture, from the names and shapes. What they don't say has T5's values."""
        shapes = self.shapes
        needed = {
            "embedding": "token_embedder/embedding",
            "bias": "encoder/relpos_bias/rel_embedding",
            "query": "encoder/layers_0/attention/query/kernel",
            "out": "encoder/layers_0/mlp/wo/kernel",
        }
        if absent := [tensor for tensor in needed.values() if len(shapes.get(tensor, ())) != 2]:
            raise EdgewiseError(
                f"{self.where} is not a T5 that this project runs: {', '.join(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} missing or no matrix (scanned layers are not read)"
            )
        embedding, bias, query, out = (shapes[tensor] for tensor in needed.values())
        layers = {int(match[1]) for match in map(re.compile(r"encoder/layers_(\d+)/").match, shapes) if match}
        return Size(
            name=name,
            d_model=embedding[1],
            d_kv=query[1] // bias[0],
            d_ff=out[0],
            layers=max(layers) + 1,
            heads=bias[0],
            vocabulary_size=embedding[0],
            relative_buckets=bias[1],
            activation="gated_gelu" if "encoder/layers_0/mlp/wi_0/kernel" in shapes else "relu",
            tied_head="decoder/logits_dense/kernel" not in shapes,
        )

    def faults(self, size: Size) -> list[str]:
        wrong = []
        found = self.shapes
        for name, leaf in self._leaves.items():
            if isinstance(leaf, dict):
                try:
                    array = self._array(name)
                except _TENSORSTORE_ERRORS as error:
                    wrong.append(f"{name} can't be read from {_relative(leaf)} ({_first_line(error)})")
                    continue
                found[name], dtype = tuple(array.shape), array.dtype.name
            else:
                dtype = leaf.dtype.name
            if dtype not in _DTYPES:
                wrong.append(f"{name} has the dtype {dtype}, expected one of {', '.join(_DTYPES)}")
        return wrong + faults_of(layout(size), found, size, set())

    def read(self, size: Size, path: LeafPath, layer: int | None, index: Index) -> np.ndarray:
        tensor = next(t for t in layout(size) if t.path == path and t.layer == layer)
        leaf = self._leaves[tensor.name]
        stored = stored_index(index, tensor.transposed)
        try:
            part = leaf[stored] if isinstance(leaf, np.ndarray) else self._array(tensor.name)[stored].read().result()
        except _TENSORSTORE_ERRORS as error:
            raise EdgewiseError(
                f"{self.where}: {tensor.name} can't be read ({_first_line(error)}): copy the checkpoint again"
            ) from None
        part = np.asarray(part).astype(np.float32, copy=False)
        return part.T if tensor.transposed else part

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            leaf = self._leaves[name]
            store = {**self._store, "path": f"{self._store['path']}{_relative(leaf)}/"}
            spec = {"driver": leaf["driver"], "kvstore": store}
            if leaf["driver"] == "zarr":
                spec["fill_missing_data_reads"] = False  # a chunk that was not copied would be read as zeros
            self._arrays[name] = tensorstore.open(spec, open=True, read=True).result()
        return self._arrays[name]


def _flatten(tree: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, node in tree.items():
        if isinstance(node, dict) and "__msgpack_chunked_array__" in node:
            chunks = node["chunks"]
            shape = [node["shape"][str(i)] for i in range(len(node["shape"]))]
            yield "/".join((*path, name)), np.concatenate([chunks[str(i)] for i in range(len(chunks))]).reshape(shape)
        elif isinstance(node, dict) and not ("driver" in node and "kvstore" in node):
            yield from _flatten(node, (*path, name))
        else:
            yield "/".join((*path, name)), node if isinstance(node, dict) else np.asarray(node)


def _relative(spec: dict[str, Any]) -> str:
    return str(spec["kvstore"].get("path") or spec.get("path", "")).strip("/")


def _key_value_store(where: str) -> dict[str, Any]:
    """Tensorstore's spec of a folder or of a `gs://` address."""
    if where.startswith("gs://"):
        bucket, _, path = where.removeprefix("gs://").partition("/")
        context = {"gcs_request_retries": {"max_retries": 3, "initial_delay": "500ms", "max_delay": "2s"}}
        return {"driver": "gcs", "bucket": bucket, "path": f"{path}/", "context": context}
    return {"driver": "file", "path": f"{Path(where).expanduser().absolute()}/"}


def _first_line(error: Exception) -> str:
    line = (
        str(error).strip().partition("\n")[0].partition(" [")[0]
    )  # then come specs and places in tensorstore's source
    return line[:200] or type(error).__name__


# flax.serialization's extension types: 1 is an array (shape, dtype's name, bytes in C order), 3 a scalar of numpy.


def _decode(code: int, data: bytes) -> Any:
    if code not in (1, 3):
        return msgpack.ExtType(code, data)
    shape, dtype, buffer = msgpack.unpackb(data, raw=True)
    name = dtype.decode()
    array = np.frombuffer(buffer, ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)).reshape(shape)
    return array if code == 1 else array[()]


def _encode(value: Any) -> msgpack.ExtType:
    assert isinstance(value, np.ndarray)
    fields = (value.shape, value.dtype.name, value.tobytes("C"))
    return msgpack.ExtType(1, msgpack.packb(fields, use_bin_type=True))


def save(directory: Path, size: Size, params: dict[str, Any]) -> None:
    """Writes a T5X checkpoint into `directory`: matrices as zarr, the rest in the msgpack file, all float32."""
    target: dict[str, Any] = {}
    for name, path, layer, transposed in layout(size):
        leaf = leaf_of(params, path)
        value = np.asarray(leaf if layer is None else leaf[layer], np.float32)
        value = np.ascontiguousarray(value.T if transposed else value)
        stored: Any = value
        if value.ndim == 2:
            folder = "target." + name.replace("/", ".")
            chunks = [max(1, min(value.shape[0], _CHUNK_ELEMENTS // value.shape[1])), value.shape[1]]
            metadata = {"compressor": {"id": "gzip"}, "shape": list(value.shape), "chunks": chunks}
            stored = {
                "driver": "zarr",
                "dtype": "float32",
                "kvstore": {"driver": "file", "path": folder},
                "metadata": metadata,
            }
            spec = {
                "driver": "zarr",
                "kvstore": _key_value_store(str(directory / folder)),
                "metadata": {**metadata, "dtype": "<f4"},
                "store_data_equal_to_fill_value": True,
            }
            tensorstore.open(spec, create=True).result().write(value).result()
        put_leaf(target, tuple(name.split("/")), stored)
    state = {"step": np.array(0, np.int32), "param_states": {}}
    content = {"version": VERSION, "optimizer": {"target": target, "state": state}}
    (directory / FILE).write_bytes(msgpack.packb(content, default=_encode, strict_types=True))
