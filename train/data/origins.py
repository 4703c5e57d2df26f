"""Reads rows as they are where a dataset comes from: the built-in generator, a folder of files, or the Hub."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.schema import PLAIN_TEXT, Dataset
from metrics.rows import ENDINGS, Columns, Wanted, listed
from train.data import demo, hub
from train.data.files import check_link, read_file, what_to_rename
from train.data.text_files import text_files

SPLITS = {  # split -> its file names
    "train": ("train",),
    "validation": ("validation", "dev", "val", "valid"),
    "test": ("test",),
}
ALL = "all"  # the part of a source that is not split into train and test yet


@dataclass
class Table:
    """Holds rows as they are in the source."""

    where: str  # the file, or what else to name in an error
    names: list[str]  # of all columns
    columns: Columns  # the wanted ones


class Origin(ABC):
    """Reads the rows of one place.

    A `lenient` origin skips, and counts, rows that lack a value: nobody can mend the Hub's.
    """

    lenient = False

    @abstractmethod
    def parts(self) -> list[str]:
        """Names the parts that there are: of train, validation and test, in this order, or `all` in place of two."""

    @abstractmethod
    def table(self, part: str, wanted: Wanted) -> Table:
        """Reads the rows of one part. Raises EdgewiseError for one that isn't there, and for unreadable files."""

    @abstractmethod
    def digest_parts(self) -> dict[str, Any]:
        """Returns what decides the rows, as JSON values; parses nothing."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Says where the rows are from, for people: names, checksums, the Hub's id and commit; no local paths."""

    def labels(self, part: str, wanted: Wanted) -> Table | None:
        """Reads the labels of a part that keeps them in a file of their own; None where it doesn't."""
        return None


def is_generated(dataset: Dataset) -> bool:
    """Returns whether the rows come from the built-in generator."""
    return dataset.name == "demo" and dataset.path is None


def origin_of(dataset: Dataset) -> Origin:
    """Returns the dataset's origin, `dataset.path` before the Hub; EdgewiseError for a folder that can't be used."""
    if dataset.task == PLAIN_TEXT:
        return PlainText(dataset)
    if is_generated(dataset):
        return Generator(dataset)
    return HubRepository(dataset) if dataset.path is None else Folder(dataset)


class Generator(Origin):
    """Generates the demo's rows."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def parts(self) -> list[str]:
        """Names all three splits."""
        return list(SPLITS)

    def table(self, part: str, wanted: Wanted) -> Table:
        """Generates the rows of one split."""
        rows = demo.rows(part, self._dataset)
        names = list(rows[0]) if rows else []
        columns: Columns = {name: [row[name] for row in rows] for name in names if wanted(name)}
        return Table(f"the {self._dataset.name} generator's {part} split", names, columns)

    def digest_parts(self) -> dict[str, Any]:
        """Returns the generator's version and settings."""
        return {"generator": demo.VERSION, "parameters": demo.parameters(self._dataset)}

    def record(self) -> dict[str, Any]:
        """Returns the generator's version and settings."""
        return self.digest_parts()


class HubRepository(Origin):
    """Reads a dataset on the Hub, at one commit."""

    lenient = True

    def __init__(self, dataset: Dataset) -> None:
        if isinstance(dataset.columns, list) and dataset.hub_files is None:
            raise EdgewiseError(
                f"dataset.columns={dataset.columns}: a list of columns is for files without a header row, and "
                f"{dataset.hub_id} names its own; give a mapping of its names to yours"
            )
        self._dataset = dataset

    def parts(self) -> list[str]:
        """Names the dataset's splits that the repository has, or `all` where it is not split."""
        there = hub.split_names(self._dataset)
        return [ALL] if ALL in there else [name for name in SPLITS if self._name_there(name) in there]

    def table(self, part: str, wanted: Wanted) -> Table:
        """Reads one part, which is downloaded where the cache does not have it."""
        there = hub.split_names(self._dataset)
        name = self._name_there(part)
        if name not in there:
            raise EdgewiseError(f"{self._dataset.hub_id} has no {name or part} split; found {listed(there)}")
        return Table(f"{self._dataset.hub_id}, {name}", *hub.read_split(self._dataset, name, wanted))

    def _name_there(self, part: str) -> str | None:
        """Returns the repository's name for a split; None where the dataset doesn't use one."""
        return part if self._dataset.splits is None or part not in SPLITS else self._dataset.splits.get(part)

    def labels(self, part: str, wanted: Wanted) -> Table | None:
        """Reads the labels that `hub_files` names beside the part's rows."""
        name = f"{part}_labels"
        return self.table(name, wanted) if name in (self._dataset.hub_files or {}) else None

    def digest_parts(self) -> dict[str, Any]:
        """Returns the id, the commit, and which of its files are read."""
        dataset = self._dataset
        return {
            "hub": dataset.hub_id,
            "config": dataset.hub_config,
            "revision": hub.revision(dataset),
            "files": dataset.hub_files,
        } | ({"splits": dataset.splits} if dataset.splits else {})

    def record(self) -> dict[str, Any]:
        """Returns the id, the commit, and which of its files are read."""
        return {key: value for key, value in self.digest_parts().items() if value is not None}


class PlainText(Origin):
    """Finds the files of documents to pre-train on; `train.data.text_files` reads them, a part at a time."""

    def __init__(self, dataset: Dataset) -> None:
        """Looks for the files; EdgewiseError where there are none."""
        self._dataset = dataset
        self.files = text_files(dataset, {split: SPLITS[split] for split in ("train", "validation")})

    def parts(self) -> list[str]:
        """Names train and validation: where that has no files, documents of train are held out."""
        return ["train", "validation"]

    def table(self, part: str, wanted: Wanted) -> Table:
        """Raises EdgewiseError: plain text has no rows with targets to learn or to score."""
        self._dataset.check_labelled()
        raise AssertionError("plain text has the task `text`")

    def digest_parts(self) -> dict[str, Any]:
        """Returns the sha256 of each part's files, and how documents are held out where there is no validation file."""
        parts: dict[str, Any] = {part: [_digest(file) for file in files] for part, files in self.files.items()}
        return parts | self._held_out()

    def record(self) -> dict[str, Any]:
        """Returns the names and sha256 of each part's files, and how documents are held out."""
        return {
            part: [{"file": file.name, "sha256": _digest(file)} for file in files] for part, files in self.files.items()
        } | self._held_out()

    def _held_out(self) -> dict[str, Any]:
        if "validation" in self.files:
            return {}
        return {"validation_share": self._dataset.validation_share, "split_seed": self._dataset.split_seed}


class Folder(Origin):
    """Reads a folder with a file for each split or, where the dataset says how to split them, one file of all rows."""

    def __init__(self, dataset: Dataset) -> None:
        assert dataset.path is not None
        self._dataset = dataset
        self._folder = Path(dataset.path).expanduser()
        self._files, self._label_files = self._find_files()

    def parts(self) -> list[str]:
        """Names the splits that have a file."""
        return list(self._files)

    def files(self) -> dict[str, Path]:
        """Returns the file of each part, without those of labels alone."""
        return dict(self._files)

    def table(self, part: str, wanted: Wanted) -> Table:
        """Reads the part's file."""
        file = self._file(part)
        return Table(str(file), *read_file(file, self._dataset, wanted))

    def labels(self, part: str, wanted: Wanted) -> Table | None:
        """Reads the part's file of labels."""
        file = self._label_files.get(part)
        return None if file is None else Table(str(file), *read_file(file, self._dataset, wanted))

    def digest_parts(self) -> dict[str, Any]:
        """Returns the sha256 of each part's file."""
        return {part: _digest(file) for part, file in self._all_files().items()}

    def record(self) -> dict[str, Any]:
        """Returns the name and sha256 of each part's file."""
        return {part: {"file": file.name, "sha256": _digest(file)} for part, file in self._all_files().items()}

    def _all_files(self) -> dict[str, Path]:
        return self._files | {f"{part}_labels": file for part, file in self._label_files.items()}

    def _find_files(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Finds the file of each split, in the order train, validation, test, and the file of its labels."""
        dataset, folder = self._dataset, self._folder
        splits_itself = dataset.test_share is not None
        endings = ", ".join(f".{ending}" for ending in ENDINGS)
        if folder.is_file() and folder.suffix[1:] in ENDINGS:
            if splits_itself:
                return {ALL: folder}, {}
            raise EdgewiseError(
                f"dataset.path={dataset.path} is a file; expected a folder with train and test files. To hold out a "
                "fifth of this one file's rows for test, add dataset.test_share=0.2"
            )
        if not folder.is_dir():
            what = f"is a file, but not one of {endings}" if folder.exists() else "does not exist"
            raise EdgewiseError(
                f"dataset.path={dataset.path} {what}; expected a folder with train and test files ({endings}), or one "
                "such file with dataset.test_share=0.2"
            )
        files: dict[str, Path] = {}
        label_files: dict[str, Path] = {}
        for split, stems in SPLITS.items():
            if dataset.file_prefix:
                stems += tuple(dataset.file_prefix + stem for stem in stems)
            if file := self._file_named(split, stems):
                files[split] = file
                if dataset.join_column and (file := self._file_named(split, tuple(f"{stem}_labels" for stem in stems))):
                    label_files[split] = file
        for split, there in (dataset.splits or {}).items():
            if split not in files and there in files:
                files[split] = files.pop(there)
        if splits_itself and "test" not in files:
            data = [files["train"]] if "train" in files else self._data_files()
            if len(data) == 1:
                files = {ALL: data[0]} | {split: file for split, file in files.items() if split != "train"}
                label_files = {ALL if split == "train" else split: file for split, file in label_files.items()}
        return files, label_files

    def _data_files(self) -> list[Path]:
        """Lists the files of the folder that have an ending of data, but those of a split that isn't train or test."""
        stems = {stem for split in SPLITS.values() for stem in split}
        return sorted(
            file
            for file in self._folder.iterdir()
            if file.suffix[1:] in ENDINGS and file.is_file() and file.stem not in stems
        )

    def _file_named(self, split: str, stems: tuple[str, ...]) -> Path | None:
        """Returns the file with one of the names `stems`, None where there is none; EdgewiseError for several."""
        possible = [self._folder / f"{stem}.{ending}" for stem in stems for ending in ENDINGS]
        for file in possible:
            check_link(file)
        found = [file for file in possible if file.is_file()]
        if len(found) > 1:
            raise EdgewiseError(
                f"{self._folder}: {' and '.join(file.name for file in found)} could each be the {split} split; keep one"
            )
        return found[0] if found else None

    def _file(self, part: str) -> Path:
        if part not in self._files:
            expected = " or ".join(f"{stem}.{{{','.join(ENDINGS)}}}" for stem in SPLITS[part])
            entries = self._folder.iterdir() if self._folder.is_dir() else [self._folder]
            there = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
            raise EdgewiseError(
                f"{self._folder}: no file for the {part} split; expected {expected}, "
                f"found {listed(there) or 'an empty folder'}{what_to_rename(there, ENDINGS) or self._instead(part)}"
            )
        return self._files[part]

    def _instead(self, part: str) -> str:
        """Returns what else to do about a missing file: to hold out rows of the one that is there."""
        if part == "validation" or self._dataset.test_share is not None:
            return ""
        whole = [self._files["train"]] if "train" in self._files else self._data_files()
        if len(whole) != 1:
            return ""
        if part == "train" and "test" in self._files:
            return ""
        return f". Or hold out a share of {whole[0].name}'s rows for test: dataset.test_share=0.2"


def _digest(file: Path) -> str:
    stat = file.stat()
    return _file_digest(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _file_digest(file: Path, size: int, modified_ns: int) -> str:
    # Size and time are part of the cache's key alone: a multirun asks for the same files once a cell.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
