"""Reads and writes model weights in Hugging Face's layout: safetensors, in one file or in shards, and `config.json`.

The names are Hugging Face's T5's; its linear weights are [out, in], ours [in, out], and our layers are stacked. Starts
without JAX.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from conf.errors import EdgewiseError, first_line
from conf.schema import Size
from train.pretrained.hf_config import hf_config
from train.pretrained.safetensors_file import Entry, entries, read_rows, tensor_names
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
    read_json,
    stored_index,
)

CONFIG, WEIGHTS, INDEX, VOCABULARY = "config.json", "model.safetensors", "model.safetensors.index.json", "spiece.model"
GENERATION = "generation_config.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

HEAD = "lm_head.weight"
_LONGEST_NAME = 255  # bytes that file systems allow a file's name

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_SUBLAYERS = {
    "attention": "SelfAttention",
    "self_attention": "SelfAttention",
    "encoder_decoder_attention": "EncDecAttention",
    "mlp": "DenseReluDense",
}
_NEVER_READ = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # of early checkpoints
_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def layout(size: Size) -> Iterator[Tensor]:
    """Yields every tensor of an architecture."""
    yield Tensor("shared.weight", ("embedding",), None, False)
    if not size.tied_head:
        yield Tensor(HEAD, ("decoder", "logits_dense", "kernel"), None, True)
    for stack, sublayers in SUBLAYERS.items():
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield Tensor(bias, (stack, "relpos_bias", "rel_embedding"), None, False)
        yield Tensor(f"{stack}.final_layer_norm.weight", (stack, f"{stack}_norm", "scale"), None, False)
        for i in range(depth(size, stack)):
            for j, (norm, sublayer) in enumerate(sublayers):
                prefix = f"{stack}.block.{i}.layer.{j}"
                yield Tensor(f"{prefix}.layer_norm.weight", (stack, "layers", norm, "scale"), i, False)
                for name in mlp_kernels(size) if sublayer == "mlp" else _ATTENTION:
                    theirs = f"{prefix}.{_SUBLAYERS[sublayer]}.{_ATTENTION.get(name, name)}.weight"
                    yield Tensor(theirs, (stack, "layers", sublayer, name, "kernel"), i, True)


# --- safetensors -----------------------------------------------------------------------------------------------------


class SafetensorsWeights:
    """Reads the tensors of safetensors files."""

    def __init__(self, where: str, files: Sequence[Path]):
        """Reads the headers. Raises EdgewiseError for a damaged file, and for two that hold one tensor."""
        self.where = where
        self._entries: dict[str, Entry] = {}
        for file in files:
            here = entries(file)
            if twice := sorted(set(here) & set(self._entries)):
                raise EdgewiseError(
                    f"{file} holds {', '.join(twice[:5])}, which {self._entries[twice[0]].file} holds too: expected "
                    "each tensor in one shard; download it again"
                )
            self._entries.update(here)

    def faults(self, size: Size) -> list[str]:
        """Returns a sentence for every tensor that is missing, misshaped, not part of the model, or contradicts it."""
        shapes = {name: entry.shape for name, entry in self._named(size).items()}
        ignored = {_NEVER_READ, *_EMBEDDING, *((HEAD,) if size.tied_head else ())}
        return faults_of(layout(size), shapes, size, ignored) + self._contradictions(size)

    def read(self, size: Size, path: LeafPath, layer: int | None, index: Index) -> np.ndarray:
        """Returns `leaf[index]` as float32. Raises EdgewiseError where a number in it is not finite."""
        tensor = next(t for t in layout(size) if t.path == path and t.layer == layer)
        entry = self._named(size)[tensor.name]
        rows, *rest = stored_index(index, tensor.transposed)
        start, stop, _ = rows.indices(entry.shape[0])
        part = read_rows(entry, start, stop)[(slice(None), *rest)].astype(np.float32, copy=False)
        check_finite(part, tensor.name, str(entry.file))
        return part.T if tensor.transposed else part

    def _named(self, size: Size) -> dict[str, Entry]:
        """Returns the entries, with the embedding under its first name whichever it has in the files."""
        aliases = (*_EMBEDDING, *((HEAD,) if size.tied_head else ()))
        embedding = next((self._entries[name] for name in aliases if name in self._entries), None)
        return self._entries if embedding is None else {**self._entries, _EMBEDDING[0]: embedding}

    def _contradictions(self, size: Size) -> list[str]:
        """Returns a sentence for every further copy of the embedding that holds other numbers than the first."""
        copies = [name for name in (*_EMBEDDING, *((HEAD,) if size.tied_head else ())) if name in self._entries]
        return [
            f"{name} holds other numbers than {copies[0]}, with which {CONFIG} says that it is tied"
            + (": set tie_word_embeddings to false there to use it" if name == HEAD else "")
            for name in copies[1:]
            if not _same_numbers(self._entries[copies[0]], self._entries[name])
        ]


def _same_numbers(a: Entry, b: Entry, rows_at_once: int = 4096) -> bool:
    """Tells whether two tensors are equal, without holding either whole."""
    if a.shape != b.shape:
        return False
    for start in range(0, a.shape[0] if a.shape else 0, rows_at_once):  # a number alone is misshaped, which is said
        stop = min(start + rows_at_once, a.shape[0])
        if not np.array_equal(read_rows(a, start, stop), read_rows(b, start, stop)):
            return False
    return True


def has_own_head(files: Sequence[Path]) -> bool:
    """Tells whether the files hold the head's weights beside the embedding's: alone, the two are one tensor."""
    names = {name for file in files for name in tensor_names(file)}
    return HEAD in names and not names.isdisjoint(_EMBEDDING)


def index_shards(index: Path) -> list[str]:
    """Returns the names of the shards that a `model.safetensors.index.json` lists.

    Raises EdgewiseError where it lists none, or something other than files beside it.
    """
    shards = read_json(index, "an index of shards").get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) and all(map(_is_file_name, shards.values())) else set()
    if not names:
        raise EdgewiseError(f"{index} has no weight_map: expected one of tensor name to file name")
    return sorted(names)


def _is_file_name(value: object) -> bool:
    if not isinstance(value, str) or value in ("", ".", ".."):
        return False
    return "/" not in value and "\\" not in value and len(value.encode("utf-8", "replace")) <= _LONGEST_NAME


def weight_files(folder: Path) -> list[Path]:
    """Returns the files with the tensors of a folder.

    Raises EdgewiseError where there are none, or an index names absent ones.
    """
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
    """Returns the error for a checkpoint that has no safetensors."""
    if pickles:
        return EdgewiseError(
            f"{where} has its weights only as torch pickles ({', '.join(pickles)}), which run code when they are "
            "loaded and are never read here: expected model.safetensors. Convert it with transformers "
            "(model.save_pretrained), or take a revision with safetensors (ORG/NAME@REVISION)"
        )
    return EdgewiseError(f"{where} holds neither {WEIGHTS} nor {INDEX}: expected one of them")


# --- writing ---------------------------------------------------------------------------------------------------------


def save(directory: Path, size: Size, params: dict[str, Any]) -> list[Path]:
    """Writes `model.safetensors` (float32) and `config.json`; the same parameters give the same bytes.

    Raises OSError where the disk is full.
    """
    stacked: dict[LeafPath, np.ndarray] = {}
    tensors = {}
    for name, path, layer, transposed in layout(size):
        if path not in stacked:
            stacked[path] = np.asarray(leaf_of(params, path), np.float32)
        tensor = stacked[path] if layer is None else stacked[path][layer]
        tensors[name] = np.ascontiguousarray(tensor.T if transposed else tensor)
    (directory / CONFIG).write_text(json.dumps(hf_config(size), indent=2, sort_keys=True) + "\n")
    try:
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise _writing_error(error, directory / WEIGHTS) from None
    shutil.copymode(directory / CONFIG, directory / WEIGHTS)  # the library leaves it to its owner alone
    return [directory / WEIGHTS, directory / CONFIG]


def _writing_error(error: SafetensorError, file: Path) -> Exception:
    """Returns what the library raises where the system refuses a write as the OSError that it is."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
        return EdgewiseError(f"{file} can't be written ({first_line(error)}): give another folder")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(file))
