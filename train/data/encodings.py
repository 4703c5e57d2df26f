"""Encodes a split's texts once: their token ids are kept on disk by its fingerprint and read back memory-mapped."""

import hashlib
import json
import os
import shutil
import threading
import uuid
from pathlib import Path

import numpy as np

from train.data.notices import print_once
from train.data.splits import Split
from train.data.tokens import Encoded, Vocabulary

_VERSION = 1  # goes up with every change to what `Vocabulary.encode` gives
_ENCODING = threading.Lock()  # of the threads of one process, the first encodes and the others read


def encode_split(vocabulary: Vocabulary, split: Split, max_length: int, cache: Path, what: str = "inputs") -> Encoded:
    """Returns the ids of the split's inputs or targets (`what`), cut to `max_length` tokens.

    They are read from `cache` where they have been encoded before. How many texts are cut, and how many targets hold
    <unk>, is printed on stderr. Two processes may encode at once: each writes a folder of its own, and the first to be
    done gives it the name.
    """
    texts = {"inputs": split.inputs, "targets": split.targets}[what]
    folder = _folder(vocabulary, split, max_length, cache, what)
    with _ENCODING:
        encoded = _read(folder, len(split))
        if encoded is None:
            encoded = vocabulary.encode(texts, max_length)
            _write(encoded, folder)
            encoded = _read(folder, len(split)) or encoded  # mapped: the copy in memory goes
    if encoded.truncated:
        print_once(
            f"{split.dataset} {split.name}: {encoded.truncated:,} of {len(split):,} {what} "
            f"({encoded.truncated / len(split):.1%}) are longer than {max_length} tokens and are cut"
        )
    if what == "targets" and (unknown := encoded.count_unknown()):
        print_once(
            f"{split.dataset} {split.name}: {unknown:,} of {len(split):,} targets ({unknown / len(split):.1%}) hold "
            "characters for which the vocabulary has no piece: <unk> stands in their place, and no model can say them"
        )
    return encoded


def kept_encoding(vocabulary: Vocabulary, split: Split, max_length: int, cache: Path) -> Encoded | None:
    """Returns the ids of the split's inputs as `encode_split` has kept them in `cache`; None where it has not yet."""
    return _read(_folder(vocabulary, split, max_length, cache, "inputs"), len(split))


def _folder(vocabulary: Vocabulary, split: Split, max_length: int, cache: Path, what: str) -> Path:
    """Returns the folder of an encoding, whose name says what decides it."""
    key = f"{_VERSION} {split.fingerprint} {vocabulary.digest} {max_length}"
    key += "" if what == "inputs" else f" {what}"
    return Path(cache) / f"{split.dataset}-{split.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _read(folder: Path, n: int) -> Encoded | None:
    """Reads an encoding of `n` texts; returns None where there is none, or not all of it."""
    try:
        truncated = json.loads((folder / "about.json").read_text())["truncated"]
        # Plain arrays over the maps: np.memmap costs at every slice.
        flat = np.load(folder / "flat.npy", mmap_mode="r").view(np.ndarray)
        offsets = np.load(folder / "offsets.npy", mmap_mode="r").view(np.ndarray)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    whole = flat.dtype == np.int32 and offsets.shape == (n + 1,) and int(offsets[-1]) == len(flat)
    return Encoded(flat, offsets, truncated) if whole else None


def _write(encoded: Encoded, folder: Path) -> None:
    """Writes an encoding for `_read`, whole or not at all."""
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        np.save(temporary / "flat.npy", encoded.flat)
        np.save(temporary / "offsets.npy", encoded.offsets)
        (temporary / "about.json").write_text(json.dumps({"truncated": encoded.truncated}))
        try:
            os.rename(temporary, folder)
        except OSError:  # another process was first, or what is there is damaged
            if _read(folder, len(encoded)) is None:
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(temporary, folder)
    except OSError as error:
        print_once(f"the encoding is not kept: {error}")  # a full disk or a read-only cache stops no one
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
