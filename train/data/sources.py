"""Splits of a labelled text dataset, from a folder of files or from the built-in generator.

What is wrong with the rows is said with the file's name and the data row (1-based, the header not counted).
"""

import hashlib
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from conf.errors import SwitchyardError
from conf.schema import Dataset
from train.data import demo
from train.data.files import ENDINGS, Columns, first_duplicate, listed, read_columns, short

SPLITS = {"train": ("train",), "validation": ("validation", "dev"), "test": ("test",)}  # split -> its file names


@dataclass
class Split:
    """The n rows of one split, in file order."""

    dataset: str
    name: str
    example_id: list[str]  # [n], unique
    inputs: list[str]  # [n], the template filled in
    targets: list[str]  # [n], values of dataset.classes
    slices: dict[str, list[str]]  # slice_* -> [n]; a missing value is ""
    fingerprint: str  # sha256 over ids, inputs, targets and slices; the same from whatever file format

    def __len__(self) -> int:
        return len(self.example_id)


def load_split(dataset: Dataset, split: str) -> Split:
    """Reads one split: `train`, `validation` or `test`.

    Raises SwitchyardError for a dataset config that can't be used, and for files with rows that can't be.
    """
    targets_of = _check(dataset)
    fields = template_fields(dataset.template)
    required = list(dict.fromkeys([*fields, dataset.label_column]))

    def wanted(name: str) -> bool:
        return name in required or name == "example_id" or name.startswith("slice_")

    if _is_generated(dataset):
        _check_split_name(split, list(SPLITS))
        rows = demo.rows(split, dataset)
        where = f"the {dataset.name} generator's {split} split"
        names = list(rows[0]) if rows else []
        columns: Columns = {name: [row[name] for row in rows] for name in names if wanted(name)}
    else:
        file = _file_of(dataset, split)
        where = str(file)
        names, columns = read_columns(file, wanted)

    _check_names(where, names, required)
    n = len(columns[required[0]])
    if n == 0:
        raise SwitchyardError(f"{where}: no rows; expected at least one example under the columns {listed(names)}")
    for name, values in columns.items():
        _check_text(where, name, values, nullable=name.startswith("slice_"))

    texts: dict[str, Sequence[str]] = {name: [value or "" for value in values] for name, values in columns.items()}
    inputs = _fill(dataset.template, texts, n)
    targets = _targets(where, dataset.label_column, texts[dataset.label_column], targets_of)
    example_id = list(texts["example_id"]) if "example_id" in texts else [f"{split}-{i}" for i in range(n)]
    _check_unique(where, example_id)
    slices = {name: list(texts[name]) for name in texts if name.startswith("slice_")}
    return Split(
        dataset.name, split, example_id, inputs, targets, slices, _fingerprint(example_id, inputs, targets, slices)
    )


def split_names(dataset: Dataset) -> list[str]:
    """Which of train, validation and test there are. Raises SwitchyardError as `load_split` does for the config."""
    _check(dataset)
    return list(SPLITS) if _is_generated(dataset) else list(_files(dataset))


def source_digest(dataset: Dataset) -> str:
    """sha256 over the bytes of the split files, or over the generator's version and parameters; parses nothing.

    Neither the folder nor the file endings count, the splits' names do. Raises SwitchyardError where there is
    nothing to read from.
    """
    _check(dataset)
    parts: dict[str, Any]
    if _is_generated(dataset):
        parts = {"generator": demo.VERSION, "parameters": demo.parameters(dataset)}
    else:
        parts = {}
        for split, file in _files(dataset).items():
            stat = file.stat()
            parts[split] = _file_digest(file, stat.st_size, stat.st_mtime_ns)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def template_fields(template: str) -> list[str]:
    """The column names in a template, each once, in order. Raises SwitchyardError unless each is a plain name."""
    fields = list(dict.fromkeys(field for _, field in _template_parts(template) if field is not None))
    if not fields:
        raise SwitchyardError(
            f"dataset.template={template!r}: expected at least one column in braces, such as {{text}}"
        )
    return fields


# --- the config -------------------------------------------------------------------------------------------------------


def _is_generated(dataset: Dataset) -> bool:
    return dataset.name == "demo" and dataset.path is None


def _check(dataset: Dataset) -> dict[str, str]:
    """Returns label (as a string) -> target string. Raises SwitchyardError for a config that can't be used."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", dataset.name):
        raise SwitchyardError(
            f"dataset.name={dataset.name}: expected letters, digits, '_', '.' and '-' alone, "
            "because the name becomes part of artifact names"
        )
    if dataset.task != "classification":
        raise SwitchyardError(f"dataset.task={dataset.task}: this version trains and scores classification only")
    if dataset.path is None and not _is_generated(dataset):
        columns = listed([*template_fields(dataset.template), dataset.label_column])
        raise SwitchyardError(
            f"dataset={dataset.name}: nothing to read from. Give dataset.path=DIR, a folder with train and test files "
            f"({', '.join('.' + ending for ending in ENDINGS)}) that have the columns {columns}"
        )
    if len(dataset.classes) < 2:
        raise SwitchyardError(
            f"dataset.classes={dict(dataset.classes)}: expected two classes or more, each as label: target string"
        )
    targets: dict[str, str] = {}
    owner: dict[str, Any] = {}
    for label, target in dataset.classes.items():
        words = " ".join(str(target).split())  # as the tokenizer sees it
        if not words:
            raise SwitchyardError(f"dataset.classes: label {label!r} has an empty target string; give it a word to say")
        if words in owner:
            raise SwitchyardError(
                f"dataset.classes: labels {owner[words]!r} and {label!r} have the same target string {words!r}; "
                "give each class its own"
            )
        if str(label) in targets:
            raise SwitchyardError(f"dataset.classes: label {str(label)!r} is there twice; labels are compared as text")
        owner[words] = label
        targets[str(label)] = str(target)
    return targets


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    """The template as (literal, column after it or None)."""
    given = f"dataset.template={template!r}"
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SwitchyardError(
            f"{given}: {error}; expected text with column names in braces, such as {{text}}"
        ) from None
    parts: list[tuple[str, str | None]] = []
    for literal, field, spec, conversion in parsed:
        if field is not None and (field == "" or field.isdigit()):
            raise SwitchyardError(f"{given}: {{{field}}} has no column name; write it as {{text}}")
        if spec or conversion:
            raise SwitchyardError(f"{given}: expected a plain column name in the braces of {{{field}}}, no format")
        parts.append((literal, field))
    return parts


def _fill(template: str, columns: Mapping[str, Sequence[str]], n: int) -> list[str]:
    pieces: list[Sequence[str]] = []
    for literal, field in _template_parts(template):
        if literal:
            pieces.append([literal] * n)
        if field is not None:
            pieces.append(columns[field])
    return list(map("".join, zip(*pieces, strict=True)))


# --- the files --------------------------------------------------------------------------------------------------------


def _check_split_name(split: str, there: list[str]) -> None:
    if split not in there:
        raise SwitchyardError(f"split {split!r}: expected one of {', '.join(there)}")


def _files(dataset: Dataset) -> dict[str, Path]:
    """Split -> its file, in the order train, validation, test."""
    assert dataset.path is not None
    folder = Path(dataset.path).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise SwitchyardError(
            f"dataset.path={dataset.path} {what}; expected a folder with train and test files "
            f"({', '.join('.' + ending for ending in ENDINGS)})"
        )
    files: dict[str, Path] = {}
    for split, stems in SPLITS.items():
        found = [file for stem in stems for ending in ENDINGS if (file := folder / f"{stem}.{ending}").is_file()]
        if len(found) > 1:
            raise SwitchyardError(
                f"{folder}: {' and '.join(file.name for file in found)} could each be the {split} split; keep one"
            )
        if found:
            files[split] = found[0]
    return files


def _file_of(dataset: Dataset, split: str) -> Path:
    _check_split_name(split, list(SPLITS))
    files = _files(dataset)
    if split not in files:
        folder = Path(dataset.path or "").expanduser()
        expected = " or ".join(f"{stem}.{{{','.join(ENDINGS)}}}" for stem in SPLITS[split])
        there = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
        raise SwitchyardError(
            f"{folder}: no file for the {split} split; expected {expected}, found {listed(there) or 'an empty folder'}"
        )
    return files[split]


@lru_cache(maxsize=64)
def _file_digest(file: Path, size: int, modified_ns: int) -> str:
    # Size and time are part of the cache's key alone: a multirun asks for the same files once a cell.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- the rows ---------------------------------------------------------------------------------------------------------


def _check_names(where: str, names: list[str], required: list[str]) -> None:
    # pandas writes its index as a first column without a name: nobody can ask for it, so it does no harm.
    if "" in names[1:]:
        raise SwitchyardError(f"{where}: column {names.index('', 1) + 1} has no name; found {listed(names)}")
    if duplicated := first_duplicate(names):
        raise SwitchyardError(f"{where}: two columns are named {duplicated!r}; rename or drop one")
    missing = [name for name in required if name not in names]
    if missing:
        raise SwitchyardError(
            f"{where}: no column {listed(missing)}; found {listed(names) or 'none'}. "
            "Name the columns in dataset.template and dataset.label_column (is there a header row?)"
        )


def _check_text(where: str, name: str, values: list[str | None], nullable: bool) -> None:
    if not nullable and None in values:
        raise SwitchyardError(f"{where}: row {values.index(None) + 1} has no {name}; give it one or drop the row")
    for row, value in enumerate(values, 1):
        if value is not None and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:  # a lone surrogate, from a JSON escape
                raise SwitchyardError(
                    f"{where}: row {row}: {name} is not valid Unicode text ({error.reason})"
                ) from None


def _targets(where: str, column: str, labels: Sequence[str], targets_of: dict[str, str]) -> list[str]:
    unknown = set(labels) - set(targets_of)
    if unknown:
        row = next(i for i, label in enumerate(labels, 1) if label in unknown)
        raise SwitchyardError(
            f"{where}: row {row}: {column} is {short(repr(labels[row - 1]))}, expected one of "
            f"{', '.join(map(repr, targets_of))}, the keys of dataset.classes"
        )
    return [targets_of[label] for label in labels]


def _check_unique(where: str, example_id: list[str]) -> None:
    if len(set(example_id)) == len(example_id):
        return
    first: dict[str, int] = {}
    for row, name in enumerate(example_id, 1):
        if name in first:
            raise SwitchyardError(f"{where}: rows {first[name]} and {row} have the same example_id {short(repr(name))}")
        first[name] = row


def _fingerprint(example_id: list[str], inputs: list[str], targets: list[str], slices: dict[str, list[str]]) -> str:
    digest = hashlib.sha256()
    for name, values in [
        ("example_id", example_id),
        ("inputs", inputs),
        ("targets", targets),
        *sorted(slices.items()),
    ]:
        digest.update(json.dumps([name, values]).encode())
    return digest.hexdigest()
