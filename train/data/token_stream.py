"""Encodes the documents of plain text once, into files of token ids, and reads rows of them back.

Neither the texts nor their ids are ever in memory as a whole. The ids of all documents stand one after the other, an
EOS after each; a row is the next so many of them, so that rows are full and cross from one document into the next.
"""

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from conf.schema import Dataset
from train.data.notices import print_once
from train.data.origins import PlainText
from train.data.selection import counts
from train.data.text_files import Documents, is_held_out
from train.data.tokens import Vocabulary
from train.progress import Meter, progress

_VERSION = 1  # goes up with every change to which ids a document becomes
_ENCODED_AT_ONCE = 1 << 20  # characters of documents
_MEGABYTE = 10**6
_ENCODING = threading.Lock()  # of the threads of one process, the first encodes and the others read


@dataclass(frozen=True)
class TokenStream:
    """Reads the token ids of a split's documents from their file, where each id takes 2 bytes or 4."""

    file: Path
    dtype: np.dtype[Any]
    tokens: int
    documents: int

    def rows(self, length: int) -> int:
        """Returns how many full rows of `length` tokens there are; what is left at the end is in none."""
        return self.tokens // length

    def read_rows(self, numbers: np.ndarray, length: int) -> np.ndarray:
        """Returns the rows `numbers` [n], counted from 0, as [n, length] int32.

        They are read, not mapped into memory, which would grow with every row that has been looked at.
        """
        out = np.empty((len(numbers), length), self.dtype)
        width = length * self.dtype.itemsize
        with self.file.open("rb", buffering=0) as stream:
            for place, number in enumerate(numbers.tolist()):
                stream.seek(number * width)
                read = stream.readinto(out[place].data)
                if read != width:
                    raise ValueError(f"{self.file}: row {number} of {length} tokens is beyond its end")
        return out.astype(np.int32)


@dataclass(frozen=True)
class EncodedText:
    """Holds the token streams of plain text: what is trained on, and what is held out.

    `left_out` maps a reason to the number of documents that were not read for it.
    """

    train: TokenStream
    validation: TokenStream
    left_out: dict[str, int]


def encode_text(vocabulary: Vocabulary, dataset: Dataset, digest: str, cache: Path) -> EncodedText:
    """Returns the documents' token ids, which are read from the folder `cache` where they have been encoded before.

    `digest` is that of the dataset's `Source`. Two processes may encode at once: each writes a folder of its own, and
    the first to be done gives it the name. Raises EdgewiseError for files that can't be read, and OSError for a disk
    that has no room.
    """
    key = f"{_VERSION} {digest} {dataset.template} {vocabulary.digest}"
    folder = Path(cache) / f"{dataset.name}-text-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with _ENCODING:
        encoded = _read(folder)
        if encoded is None:
            _write(vocabulary, dataset, folder)
            encoded = _read(folder)
    assert encoded is not None
    if encoded.left_out:
        total = sum(encoded.left_out.values())
        print_once(f"{dataset.name}: {total:,} documents left out ({counts(encoded.left_out)})")
    return encoded


def split_documents(dataset: Dataset) -> tuple[Iterator[tuple[str, str]], list[Documents]]:
    """Returns an iterator over all documents, each with its split, `train` or `validation`, and what reads them.

    Raises EdgewiseError, here or on the way, for files that can't be read.
    """
    origin = PlainText(dataset)
    parts = {split: Documents(dataset, files) for split, files in origin.files.items()}

    def documents() -> Iterator[tuple[str, str]]:
        for split, texts in parts.items():
            for text in texts:
                if len(parts) == 1:
                    held_out = is_held_out(text, dataset.validation_share, dataset.split_seed)
                    yield "validation" if held_out else "train", text
                else:
                    yield split, text

    return documents(), list(parts.values())


def shown(documents: Iterable[tuple[str, str]], read_from: list[Documents], title: str) -> Iterator[tuple[str, str]]:
    """Yields the documents, and shows how many megabytes of the files' text have gone by."""
    total = max(sum(documents.text_bytes for documents in read_from) // _MEGABYTE, 1)
    with progress(title, total, "MB") as meter:
        yield from _counted(documents, meter)


def _counted(documents: Iterable[tuple[str, str]], meter: Meter) -> Iterator[tuple[str, str]]:
    size = 0
    for split, text in documents:
        yield split, text
        size += len(text)
        if size >= _MEGABYTE:
            meter.advance(min(size // _MEGABYTE, meter.total - meter.done))
            size %= _MEGABYTE


def _write(vocabulary: Vocabulary, dataset: Dataset, folder: Path) -> None:
    """Encodes all documents into `folder`, whole or not at all."""
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    dtype = np.dtype(np.uint16 if vocabulary.size <= 1 << 16 else np.int32)
    try:
        documents, read_from = split_documents(dataset)
        with (temporary / "train.ids").open("wb") as train, (temporary / "validation.ids").open("wb") as validation:
            writers = {
                "train": _Writer(vocabulary, train, dtype),
                "validation": _Writer(vocabulary, validation, dtype),
            }
            for split, text in shown(documents, read_from, f"{dataset.name}: encoding"):
                writers[split].add(text)
            splits = {split: writer.finish() for split, writer in writers.items()}
        left_out: dict[str, int] = {}
        for texts in read_from:
            for reason, count in texts.left_out.items():
                left_out[reason] = left_out.get(reason, 0) + count
        about = {"dtype": dtype.name, "splits": splits, "left_out": left_out}
        (temporary / "about.json").write_text(json.dumps(about))
        try:
            os.rename(temporary, folder)
        except OSError:  # another process was first, or what is there is damaged
            if _read(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Writer:
    """Collects documents until there are enough to encode at once, and writes their ids."""

    def __init__(self, vocabulary: Vocabulary, stream: BinaryIO, dtype: np.dtype[Any]) -> None:
        self._vocabulary, self._stream, self._dtype = vocabulary, stream, dtype
        self._texts: list[str] = []
        self._characters = self._tokens = self._documents = 0

    def add(self, text: str) -> None:
        """Takes one document."""
        self._texts.append(text)
        self._characters += len(text)
        if self._characters >= _ENCODED_AT_ONCE:
            self._encode()

    def finish(self) -> dict[str, int]:
        """Writes what is left, and returns how many tokens and documents there are in all."""
        self._encode()
        return {"tokens": self._tokens, "documents": self._documents}

    def _encode(self) -> None:
        encoded = self._vocabulary.encode(self._texts, 1 << 62)
        self._stream.write(encoded.flat.astype(self._dtype).tobytes())
        self._tokens += len(encoded.flat)
        self._documents += len(self._texts)
        self._texts, self._characters = [], 0


def _read(folder: Path) -> EncodedText | None:
    """Reads what `_write` has written; returns None where there is nothing, or not all of it."""
    try:
        about = json.loads((folder / "about.json").read_text())
        dtype = np.dtype(about["dtype"])
        streams = {}
        for split in ("train", "validation"):
            tokens, file = int(about["splits"][split]["tokens"]), folder / f"{split}.ids"
            if file.stat().st_size != tokens * dtype.itemsize:
                return None
            streams[split] = TokenStream(file, dtype, tokens, int(about["splits"][split]["documents"]))
        left_out = {str(reason): int(count) for reason, count in about["left_out"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return EncodedText(streams["train"], streams["validation"], left_out)
