"""Model weights in the Hugging Face layout: safetensors, in one file or in shards, and `config.json`.

The names are Hugging Face's T5's; its linear weights are [out, in], ours [in, out], and our layers are stacked. Starts
without JAX.
"""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

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
    read_json,
    stored_index,
)

CONFIG, WEIGHTS, INDEX, VOCABULARY = "config.json", "model.safetensors", "model.safetensors.index.json", "spiece.model"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_SUBLAYERS = {"attention": "SelfAttention", "self_attention": "SelfAttention", "mlp": "DenseReluDense"}
_SUBLAYERS["encoder_decoder_attention"] = "EncDecAttention"
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # in early checkpoints, never read
_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_HEAD = "lm_head.weight"
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}


def layout(size: Size) -> Iterator[Tensor]:
    """Every tensor of an architecture."""
    yield Tensor("shared.weight", ("embedding",), None, False)
    if not size.tied_head:
        yield Tensor(_HEAD, ("decoder", "logits_dense", "kernel"), None, True)
    for stack, sublayers in SUBLAYERS.items():
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield Tensor(bias, (stack, "relpos_bias", "rel_embedding"), None, False)
        yield Tensor(f"{stack}.final_layer_norm.weight", (stack, f"{stack}_norm", "scale"), None, False)
        for i in range(size.layers):
            for j, (norm, sublayer) in enumerate(sublayers):
                prefix = f"{stack}.block.{i}.layer.{j}"
                yield Tensor(f"{prefix}.layer_norm.weight", (stack, "layers", norm, "scale"), i, False)
                for name in mlp_kernels(size) if sublayer == "mlp" else _ATTENTION:
                    theirs = f"{prefix}.{_SUBLAYERS[sublayer]}.{_ATTENTION.get(name, name)}.weight"
                    yield Tensor(theirs, (stack, "layers", sublayer, name, "kernel"), i, True)


# --- config.json -----------------------------------------------------------------------------------------------------


def hf_config(size: Size) -> dict[str, Any]:
    """The architecture as Hugging Face's T5 `config.json` says it."""
    gated = size.activation == "gated_gelu"
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "d_ff": size.d_ff,
        "d_kv": size.d_kv,
        "d_model": size.d_model,
        "decoder_start_token_id": 0,
        "dropout_rate": size.dropout,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "is_encoder_decoder": True,
        "layer_norm_epsilon": size.layer_norm_epsilon,
        "model_type": "t5",
        "num_decoder_layers": size.layers,
        "num_heads": size.heads,
        "num_layers": size.layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": size.relative_max_distance,
        "relative_attention_num_buckets": size.relative_buckets,
        "tie_word_embeddings": size.tied_head,
        "vocab_size": size.vocabulary_size,
    }


def read_size(file: Path, name: str) -> Size:
    """The size that a `config.json` describes; EdgewiseError when it is not a T5 that this project runs."""
    config = read_json(file, "a T5 config.json")
    if config.get("model_type") != "t5":
        raise EdgewiseError(
            f"{file} says model_type={config.get('model_type')!r}: expected 't5', the only network that runs here"
        )
    keys = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size")
    if bad := [key for key in keys if not isinstance(config.get(key), int) or config[key] < 1]:
        said = ", ".join(f"{key}={config.get(key)!r}" for key in bad)
        raise EdgewiseError(f"{file} says {said}: expected numbers above 0")
    forward = config.get("feed_forward_proj", "relu")
    if forward not in ("relu", "gated-gelu") or config.get("num_decoder_layers") not in (None, config["num_layers"]):
        raise EdgewiseError(
            f"{file} says feed_forward_proj={forward!r}, {config['num_layers']} encoder and "
            f"{config.get('num_decoder_layers')} decoder layers: expected relu or gated-gelu, and as many of both"
        )
    # transformers 5 says that every head is tied; a head of its own then shows by its unscaled inputs alone
    tied = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return Size(
        name=name,
        d_model=config["d_model"],
        d_kv=config["d_kv"],
        d_ff=config["d_ff"],
        layers=config["num_layers"],
        heads=config["num_heads"],
        vocabulary_size=config["vocab_size"],
        relative_buckets=config.get("relative_attention_num_buckets", 32),
        relative_max_distance=config.get("relative_attention_max_distance", 128),
        dropout=config.get("dropout_rate", 0.1),
        activation="gated_gelu" if forward == "gated-gelu" else "relu",
        tied_head=tied,
        layer_norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
    )


# --- safetensors -----------------------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes from the file's start


class SafetensorsWeights:
    """The tensors of safetensors files, read by position.

    Not by `safetensors.safe_open`: it maps the file, and pages once touched stay in memory beside the parameters.
    """

    def __init__(self, where: str, files: list[Path]):
        """Reads the headers. EdgewiseError for a file that is no safetensors file or is cut short."""
        self.where = where
        self._entries: dict[str, _Entry] = {}
        for file in files:
            self._entries.update(_header(file))

    def faults(self, size: Size) -> list[str]:
        entries = self._named(size)
        found = {name: entry.shape for name, entry in entries.items()}
        ignored = {_UNUSED, *_EMBEDDING, *({_HEAD} if size.tied_head else ())}
        wrong = faults_of(layout(size), found, size, ignored)
        return wrong + [
            f"{name} has the dtype {entry.dtype}, expected one of {', '.join(_DTYPES)}"
            for name, entry in entries.items()
            if entry.dtype not in _DTYPES
        ]

    def read(self, size: Size, path: LeafPath, layer: int | None, index: Index) -> np.ndarray:
        tensor = next(t for t in layout(size) if t.path == path and t.layer == layer)
        entry = self._named(size)[tensor.name]
        rows, *rest = stored_index(index, tensor.transposed)
        start, stop, _ = rows.indices(entry.shape[0])
        dtype = _DTYPES[entry.dtype]
        width = int(np.prod(entry.shape[1:]))
        data = np.fromfile(
            entry.file, dtype, count=(stop - start) * width, offset=entry.offset + start * width * dtype.itemsize
        )
        part = data.reshape(stop - start, *entry.shape[1:])[(slice(None), *rest)].astype(np.float32, copy=False)
        return part.T if tensor.transposed else part

    def _named(self, size: Size) -> dict[str, _Entry]:
        """The entries, with the embedding under its first name whichever it has in the files."""
        aliases = (*_EMBEDDING, *((_HEAD,) if size.tied_head else ()))
        embedding = next((self._entries[name] for name in aliases if name in self._entries), None)
        return self._entries if embedding is None else {**self._entries, _EMBEDDING[0]: embedding}


def _header(file: Path) -> dict[str, _Entry]:
    """A file starts with its header's length (8 bytes, little-endian) and the header, JSON; the tensors follow."""
    try:
        with file.open("rb") as stream:
            length = struct.unpack("<Q", stream.read(8))[0]
            header = json.loads(stream.read(min(length, 100 << 20)))
            present = os.fstat(stream.fileno()).st_size
        header.pop("__metadata__", None)
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        entries = {
            name: _Entry(file, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
            for name, entry in header.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise EdgewiseError(
            f"{file} is damaged or is no safetensors file ({error}): download or train it again"
        ) from None
    if present != expected:
        raise EdgewiseError(
            f"{file} is damaged: it has {present:,} bytes where its header says {expected:,}; download it again"
        )
    return entries


def index_shards(index: Path) -> list[str]:
    """The names of the shards that a `model.safetensors.index.json` lists."""
    try:
        return sorted(set(read_json(index, "an index of shards")["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        raise EdgewiseError(f"{index} has no weight_map: expected one of tensor name to file name") from None


def weight_files(folder: Path) -> list[Path]:
    """The files with the tensors of a folder. EdgewiseError where there are none, or an index names absent ones."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickles = [name for name in PICKLES if (folder / name).is_file()]
        raise no_safetensors(str(folder), pickles)
    files = [folder / name for name in index_shards(folder / INDEX)]
    if absent := [file.name for file in files if not file.is_file()]:
        raise EdgewiseError(
            f"{folder} is incomplete: {INDEX} names {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} "
            "not there; download it again"
        )
    return files


def no_safetensors(where: str, pickles: list[str]) -> EdgewiseError:
    """What to say where a checkpoint has no safetensors."""
    if pickles:
        return EdgewiseError(
            f"{where} has its weights only as torch pickles ({', '.join(pickles)}), which run code when they are "
            "loaded and are never read here: expected model.safetensors. Convert it with transformers "
            "(model.save_pretrained), or take a revision with safetensors (ORG/NAME@REVISION)"
        )
    return EdgewiseError(f"{where} holds neither {WEIGHTS} nor {INDEX}: expected one of them")


# --- writing ---------------------------------------------------------------------------------------------------------


def save(directory: Path, size: Size, params: dict[str, Any]) -> list[Path]:
    """Writes `model.safetensors` (float32) and `config.json`; the same parameters give the same bytes."""
    stacked: dict[LeafPath, np.ndarray] = {}
    tensors = {}
    for name, path, layer, transposed in layout(size):
        if path not in stacked:
            stacked[path] = np.asarray(leaf_of(params, path), np.float32)
        tensor = stacked[path] if layer is None else stacked[path][layer]
        tensors[name] = np.ascontiguousarray(tensor.T if transposed else tensor)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(hf_config(size), indent=2, sort_keys=True) + "\n")
    return [directory / WEIGHTS, directory / CONFIG]
