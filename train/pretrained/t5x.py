"""Reads and writes T5X checkpoints: a msgpack file `checkpoint`, and large leaves as tensorstore zarr arrays beside it.

Layout and names are T5X's (`t5x/checkpoints.py`, version 3): {version, optimizer: {target, state}}; a leaf of `target`
is an array, or a tensorstore spec with a path relative to the checkpoint. Reading starts without JAX, so that a
finished cell is skipped at once: that is why the file is not read by `flax.serialization`, which writes it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import msgpack
import numpy as np
import tensorstore

from conf.errors import EdgewiseError, first_line
from conf.schema import Size
from train.pretrained.tensors import (
    SUBLAYERS,
    Index,
    LeafPath,
    Tensor,
    check_finite,
    depth,
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
    """Yields every tensor of an architecture."""
    yield Tensor("token_embedder/embedding", ("embedding",), None, False)
    if not size.tied_head:
        yield Tensor("decoder/logits_dense/kernel", ("decoder", "logits_dense", "kernel"), None, False)
    for stack, sublayers in SUBLAYERS.items():
        bias = (stack, "relpos_bias", "rel_embedding")
        yield Tensor("/".join(bias), bias, None, True)
        norm_path = (stack, f"{stack}_norm", "scale")
        yield Tensor("/".join(norm_path), norm_path, None, False)
        for i in range(depth(size, stack)):
            for norm, sublayer in sublayers:
                names = mlp_kernels(size) if sublayer == "mlp" else ("query", "key", "value", "out")
                for rest in [(norm, "scale")] + [(sublayer, name, "kernel") for name in names]:
                    yield Tensor("/".join((stack, f"layers_{i}", *rest)), (stack, "layers", *rest), i, False)


class T5XWeights:
    """Reads the tensors of a T5X checkpoint in a local folder or at a `gs://` address.

    `message` is the msgpack file's content.
    """

    def __init__(self, where: str):
        """Reads the msgpack file. Raises EdgewiseError where there is none, or it is damaged or of another version."""
        self.where = where.rstrip("/")
        self._store = _key_value_store(self.where)
        self._arrays: dict[str, Any] = {}
        try:
            answer = tensorstore.KvStore.open(self._store).result().read(FILE).result()
        except _TENSORSTORE_ERRORS as error:
            raise EdgewiseError(
                f"{self.where} can't be read ({_cause(error)}): expected a T5X checkpoint there. Without a "
                "network, copy it and give the folder: train.init=PATH"
            ) from None
        if answer.state != "value":
            raise EdgewiseError(f"{self.where} has no file named {FILE}: expected a T5X checkpoint's folder")
        self.message: bytes = answer.value
        self._leaves = self._target()

    def _target(self) -> "dict[str, np.ndarray | Spec]":
        """Returns the leaves of the parameters, by name. Raises EdgewiseError where the file holds no such tree."""
        where = f"{self.where}/{FILE}"
        try:
            content = msgpack.unpackb(self.message, ext_hook=_decode, raw=False, strict_map_key=False)
        except Exception as error:  # msgpack raises many kinds
            raise EdgewiseError(f"{where} is damaged or is no msgpack file ({_cause(error)}): copy it again") from None
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise EdgewiseError(f"{where} is a T5X checkpoint of version {version}: expected version {VERSION}")
        optimizer = content.get("optimizer")
        target = optimizer.get("target") if isinstance(optimizer, dict) else None
        if not isinstance(target, dict):
            raise EdgewiseError(f"{where} holds no optimizer/target: expected the parameters there")
        try:
            return dict(_flatten(target, ()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EdgewiseError(
                f"{where} is damaged ({type(error).__name__}: {_cause(error)}): expected arrays, or tensorstore specs "
                "of them, in optimizer/target; copy it again"
            ) from None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of every parameter, by name."""
        return {name: leaf.shape for name, leaf in self._leaves.items()}

    @property
    def folders(self) -> list[str]:
        """Returns the zarr arrays' paths, relative to the checkpoint."""
        return sorted(leaf.path for leaf in self._leaves.values() if isinstance(leaf, Spec))

    def size(self, name: str) -> Size:
        """Returns the architecture, from the names and shapes. What they don't say has T5's values."""
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
        layers, decoder_layers = (
            max((int(m[1]) for m in map(re.compile(rf"{stack}/layers_(\d{{1,4}})/").match, shapes) if m), default=0) + 1
            for stack in ("encoder", "decoder")
        )
        if not bias[0]:
            raise EdgewiseError(f"{self.where}: {needed['bias']} has shape {list(bias)}: expected [heads, buckets]")
        return Size(
            name=name,
            d_model=embedding[1],
            d_kv=query[1] // bias[0],
            d_ff=out[0],
            layers=layers,
            decoder_layers=decoder_layers,
            heads=bias[0],
            vocabulary_size=embedding[0],
            relative_buckets=bias[1],
            activation="gated_gelu" if "encoder/layers_0/mlp/wi_0/kernel" in shapes else "relu",
            tied_head="decoder/logits_dense/kernel" not in shapes,
        )

    def faults(self, size: Size) -> list[str]:
        """Returns a sentence for every parameter that is missing, misshaped, unreadable or not part of the model."""
        wrong = []
        shapes = self.shapes
        for name, leaf in self._leaves.items():
            if isinstance(leaf, Spec):
                try:
                    array = self._array(name, leaf)
                except _TENSORSTORE_ERRORS as error:
                    wrong.append(f"{name} can't be read from {leaf.path} ({_cause(error)})")
                    continue
                shapes[name], dtype = tuple(array.shape), array.dtype.name
            else:
                dtype = leaf.dtype.name
            if dtype not in _DTYPES:
                wrong.append(f"{name} has the dtype {dtype}, expected one of {', '.join(_DTYPES)}")
        return wrong + faults_of(layout(size), shapes, size, set())

    def read(self, size: Size, path: LeafPath, layer: int | None, index: Index) -> np.ndarray:
        """Returns `leaf[index]` as float32. Raises EdgewiseError where it can't be read or is not finite."""
        tensor = next(t for t in layout(size) if t.path == path and t.layer == layer)
        leaf = self._leaves[tensor.name]
        stored = stored_index(index, tensor.transposed)
        try:
            part = self._array(tensor.name, leaf)[stored].read().result() if isinstance(leaf, Spec) else leaf[stored]
        except _TENSORSTORE_ERRORS as error:
            raise EdgewiseError(
                f"{self.where}: {tensor.name} can't be read ({_cause(error)}): copy the checkpoint again"
            ) from None
        part = np.asarray(part).astype(np.float32, copy=False)
        check_finite(part, tensor.name, f"{self.where}/{leaf.path if isinstance(leaf, Spec) else FILE}")
        return part.T if tensor.transposed else part

    def _array(self, name: str, leaf: "Spec") -> Any:
        """Returns tensorstore's array of a leaf, which is opened once."""
        if name not in self._arrays:
            store = {**self._store, "path": f"{self._store['path']}{leaf.path}/"}
            spec: dict[str, Any] = {"driver": leaf.driver, "kvstore": store}
            if leaf.driver == "zarr":
                spec["fill_missing_data_reads"] = False  # a chunk that was not copied would be read as zeros
            self._arrays[name] = tensorstore.open(spec, open=True, read=True).result()
        return self._arrays[name]


class Spec(NamedTuple):
    """Holds what is read of a leaf's tensorstore spec: its driver, its path under the checkpoint, its shape."""

    driver: str
    path: str
    shape: tuple[int, ...]

    @classmethod
    def from_tree(cls, spec: dict[str, Any]) -> "Spec":
        """Reads a spec as T5X writes it. Raises ValueError, KeyError or TypeError for another."""
        path = str(spec["kvstore"].get("path") or spec.get("path", "")).strip("/")
        if not path or ".." in path.split("/"):
            raise ValueError(f"a spec with the path {path!r}")
        return cls(str(spec["driver"]), path, tuple(map(int, spec.get("metadata", {}).get("shape", ()))))


def _flatten(tree: dict[str, Any], path: tuple[str, ...]) -> "Iterator[tuple[str, np.ndarray | Spec]]":
    """Yields the leaves of nested dicts, by their paths; arrays that flax has cut into chunks are put together."""
    for name, node in tree.items():
        here = "/".join((*path, str(name)))
        if isinstance(node, dict) and "__msgpack_chunked_array__" in node:
            chunks, lengths = node["chunks"], node["shape"]
            shape = [lengths[str(i)] for i in range(len(lengths))]
            yield here, np.concatenate([chunks[str(i)] for i in range(len(chunks))]).reshape(shape)
        elif isinstance(node, dict) and "driver" in node and "kvstore" in node:
            yield here, Spec.from_tree(node)
        elif isinstance(node, dict):
            yield from _flatten(node, (*path, str(name)))
        else:
            yield here, np.asarray(node)


def _key_value_store(where: str) -> dict[str, Any]:
    """Returns tensorstore's spec of a folder or of a `gs://` address."""
    if where.startswith("gs://"):
        bucket, _, path = where.removeprefix("gs://").partition("/")
        context = {"gcs_request_retries": {"max_retries": 3, "initial_delay": "500ms", "max_delay": "2s"}}
        return {"driver": "gcs", "bucket": bucket, "path": f"{path}/", "context": context}
    return {"driver": "file", "path": f"{Path(where).expanduser().absolute()}/"}


def _cause(error: Exception) -> str:
    """Returns what an error says, without the specs and the places in tensorstore's source that follow it."""
    return first_line(error, most=10_000).partition(" [")[0][:200] or type(error).__name__


def _decode(code: int, data: bytes) -> Any:
    """Decodes an extension type of `flax.serialization`: 1 is an array, 3 a scalar of numpy.

    Both hold a shape, the dtype's name, and the bytes in C order.
    """
    if code not in (1, 3):
        return msgpack.ExtType(code, data)
    shape, dtype, buffer = msgpack.unpackb(data, raw=True)
    name = dtype.decode()
    array = np.frombuffer(buffer, ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)).reshape(shape)
    return array if code == 1 else array[()]


def save(directory: Path, size: Size, params: dict[str, Any]) -> None:
    """Writes a T5X checkpoint into `directory`: matrices as zarr, the rest in the msgpack file, all float32.

    Raises EdgewiseError for a model that this layout can't describe: one whose head is scaled though it is not tied, or
    tied and not scaled. Raises OSError where the disk is full.
    """
    from flax import serialization  # starts JAX

    if size.scales_head != size.tied_head:
        raise EdgewiseError(
            f"{size.name} has tied_head={size.tied_head} and scaled_head={size.scales_head}: T5X's layout doesn't say "
            "whether the head is scaled, and it would be taken for one that is scaled where it is tied. Take format=hf"
        )
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
            try:
                tensorstore.open(spec, create=True).result().write(value).result()
            except _TENSORSTORE_ERRORS as error:
                raise _writing_error(error, directory / folder) from None
        put_leaf(target, tuple(name.split("/")), stored)
    state = {"step": np.array(0, np.int32), "param_states": {}}
    content = {"version": VERSION, "optimizer": {"target": target, "state": state}}
    (directory / FILE).write_bytes(serialization.msgpack_serialize(content, in_place=True))


def _writing_error(error: Exception, folder: Path) -> Exception:
    """Returns what tensorstore raises where the system refuses a write as the OSError that it is."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    if number is None:
        return EdgewiseError(f"{folder} can't be written ({_cause(error)}): give another folder")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(folder))
