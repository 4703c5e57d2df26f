"""Keeps what has been read of a dataset, so that training, identity and scoring read each split once between them."""

import dataclasses
import functools
import hashlib
import json
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from conf.errors import EdgewiseError
from conf.schema import AUTO, Dataset, Recipe
from train.data.check import check_dataset
from train.data.origins import ALL, SPLITS, Origin, origin_of
from train.data.selection import selection_settings
from train.data.splits import Split, expected_rows, load_split

KEPT_SOURCES = 8
KEPT_BYTES = 1 << 29


class Source:
    """Reads a dataset's splits, each once, as its files were when the source was made.

    `digest` is the sha256, in hex, of what decides the rows: the bytes of the split files, the Hub's commit or the
    generator's version, and every setting that chooses or renames rows. The folder's name and the files' endings don't
    count, the splits' names do.

    A source keeps for good only what `record` says: a few numbers a split. The rows are in `kept`, which is bounded;
    a split that it has dropped is read again when it is asked for. Threads may ask at once: one reads, the others wait.
    """

    def __init__(self, dataset: Dataset, kept: "KeptSplits | None" = None) -> None:
        """Digests the files and parses nothing; `kept` is by default the process's own.

        Raises EdgewiseError for a dataset config that can't be used, and where there is nothing to read from.
        """
        check_dataset(dataset)
        self.dataset = dataclasses.replace(dataset, recipe=Recipe())  # the recipe decides no row
        self._origin = origin_of(dataset)
        self.digest = _digest(self.dataset, self._origin)
        self._kept = _PROCESS_SPLITS if kept is None else kept
        self._split_records: dict[str, dict[str, Any]] = {}
        self._reading = threading.RLock()

    @functools.cached_property
    def names(self) -> list[str]:
        """Names those of train, validation and test that there are, in this order."""
        there = set(self._origin.parts())
        return [name for name in SPLITS if name in there or (ALL in there and name != "validation")]

    @property
    def provenance(self) -> dict[str, Any]:
        """Says where the rows are from and which are taken, for people to read: JSON values without local paths."""
        return {**self._origin.record(), **selection_settings(self.dataset)}

    def split(self, name: str) -> Split:
        """Returns the rows of `train`, `validation` or `test`.

        Raises EdgewiseError for a split that isn't there, for rows that can't be used, and where the files have changed
        since the source was made.
        """
        with self._reading:
            split = self._kept.get(self, name)
            if split is None:
                split = load_split(self.dataset, name)
                if _digest(self.dataset, origin_of(self.dataset)) != self.digest:
                    raise EdgewiseError(
                        f"dataset={self.dataset.name}: its files changed while {name} was read; "
                        "run the same command again when they are complete"
                    )
                self._split_records[name] = _split_record(self.dataset, split)
                self._kept.put(self, name, split)
            return split

    def record(self) -> dict[str, Any]:
        """Returns what the artifact `data-D` says, as JSON values; reads the splits that have not been read yet.

        It says where the rows are from, how they become text, and each split's counts and fingerprint. Raises
        EdgewiseError as `split` does.
        """
        with self._reading:
            for name in self.names:
                if name not in self._split_records:
                    self.split(name)
            dataset = self.dataset
            return {
                "dataset": dataset.name,
                "source": self.digest,
                "from": self.provenance,
                "template": dataset.template,
                **({"cluster": dataset.cluster} if dataset.cluster not in (AUTO, None) else {}),
                **(
                    {"classes": list(map(list, dataset.classes.items()))} if dataset.classes else {"task": dataset.task}
                ),
                "splits": {name: dict(self._split_records[name]) for name in self.names},
            }

    def has_rows_of(self, other: "Source") -> bool:
        """Returns whether the two sources read the same rows in the same way, from files that are the same now."""
        return (
            self.digest == other.digest
            and self.dataset == other.dataset
            and list(self.dataset.classes or ()) == list(other.dataset.classes or ())  # dicts compare without order
        )


class KeptSplits:
    """Keeps the rows that were asked for last, of at most `most_bytes` in all; a split larger than that is not kept.

    While someone else holds a split, whoever asks for it gets the same one, kept or not.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[Source, str], tuple[Split, int]] = OrderedDict()  # the last asked for at the end
        self._alive: weakref.WeakValueDictionary[tuple[Source, str], Split] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Counts the bytes of all texts that are kept."""
        return sum(size for _, size in self._kept.values())

    def get(self, source: Source, name: str) -> Split | None:
        """Returns the split of this name that `source` has read, or None where it is gone."""
        with self._lock:
            if (source, name) in self._kept:
                self._kept.move_to_end((source, name))
            return self._alive.get((source, name))

    def put(self, source: Source, name: str, split: Split) -> None:
        """Keeps a split that `source` has read, and drops those asked for longest ago where there are too many."""
        size = text_bytes(split)
        with self._lock:
            self._alive[source, name] = split
            if size > self._most_bytes:
                return
            self._kept[source, name] = split, size
            while self.held_bytes > self._most_bytes:
                self._kept.popitem(last=False)


def text_bytes(split: Split) -> int:
    """Counts the bytes that the texts of a split take in memory."""
    columns: Iterable[Sequence[str | None]] = [
        split.example_id,
        split.inputs,
        split.targets,
        split.cluster or [],
        *split.slices.values(),
    ]
    return sum(map(sys.getsizeof, chain(*columns, *(split.golds or ()))))


_PROCESS_SPLITS = KeptSplits(KEPT_BYTES)
_PROCESS_SOURCES: list[Source] = []  # the last asked for at the end
_LOOKING_UP = threading.Lock()


def source_of(dataset: Dataset) -> Source:
    """Returns the source that the whole process shares for a dataset: a new one where config or files have changed.

    The KEPT_SOURCES asked for last are kept, and of the rows of all of them at most KEPT_BYTES. Raises EdgewiseError as
    `Source` does.
    """
    with _LOOKING_UP:
        source = Source(dataset)
        for i, earlier in enumerate(_PROCESS_SOURCES):
            if earlier.has_rows_of(source):
                source = _PROCESS_SOURCES.pop(i)
                break
        _PROCESS_SOURCES.append(source)
        del _PROCESS_SOURCES[:-KEPT_SOURCES]
        return source


def _digest(dataset: Dataset, origin: Origin) -> str:
    """Returns the digest that `Source.digest` describes."""
    parts = origin.digest_parts()
    if selection := selection_settings(dataset):
        parts = {"source": parts, "selection": selection}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _split_record(dataset: Dataset, split: Split) -> dict[str, Any]:
    """Returns a split's part of the record: its counts and its fingerprint."""
    record: dict[str, Any] = {"rows": len(split), "fingerprint": split.fingerprint}
    if split.skipped:
        record["skipped"] = split.skipped
    expected = expected_rows(dataset, split.name)
    if expected is not None:
        record |= {"expected_rows": expected, "difference": len(split) - expected}
    return record
