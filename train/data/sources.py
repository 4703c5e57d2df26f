"""Splits of a dataset of texts and targets, from a folder of files, from the Hub or from the built-in generator.

What is wrong with the rows is said with the file's name and the data row (1-based, the header not counted). A row that
is left out is counted, and said on stderr and in the data artifact.
"""

import hashlib
import json
import re
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from conf.errors import EdgewiseError
from conf.schema import Dataset
from train.data.answers import gold_answers
from train.data.files import ENDINGS, listed, short
from train.data.origins import ALL, SPLITS, is_generated, origin_of
from train.data.selection import counts, select, selection_settings, surrogate

_FINGERPRINT_CHUNK = 1 << 16  # values made into JSON at a time


@dataclass
class Split:
    """The n rows of one split, in file order, or in the order of their hashes where one file has been split."""

    dataset: str
    name: str
    example_id: list[str]  # [n], unique
    inputs: list[str]  # [n], the template filled in
    targets: list[str]  # [n], values of dataset.classes; in the other tasks any text
    slices: dict[str, list[str]]  # slice_* -> [n]; a missing value is ""
    fingerprint: str  # sha256 over ids, inputs, targets (all golds) and slices; the same from whatever file format
    skipped: dict[str, int] = field(default_factory=dict)  # why rows were left out -> how many
    golds: list[list[str]] | None = None  # [n], of span QA: every gold answer, the target first

    def __len__(self) -> int:
        return len(self.example_id)


def load_split(dataset: Dataset, split: str) -> Split:
    """Reads one split: `train`, `validation` or `test`.

    Raises EdgewiseError for a dataset config that can't be used, and for files with rows that can't be.
    """
    targets_of = _check(dataset)
    _check_split_name(split)
    fields = template_fields(dataset.template)
    taken = select(dataset, origin_of(dataset), split, fields)
    where, n = taken.where, len(taken.rows)
    for name, values in taken.columns.items():
        _check_text(where, name, values, taken.rows, nullable=name.startswith("slice_"))

    texts: dict[str, Sequence[str]] = {name: [value or "" for value in vals] for name, vals in taken.columns.items()}
    inputs = _fill(dataset.template, texts, n)
    labels, golds = texts[dataset.label_column], None
    if dataset.task == "classification":
        targets = _targets(where, dataset.label_column, labels, targets_of, taken.rows)
    elif dataset.task == "span_qa":
        golds = _golds(where, dataset.label_column, labels, taken.rows)
        targets = [answers[0] for answers in golds]
    else:
        targets = list(labels)
    # The row's number in the source, not among the kept ones: leaving out one more renames none of the others.
    example_id = list(texts["example_id"]) if "example_id" in texts else [f"{split}-{i}" for i in taken.numbers]
    _check_unique(where, example_id, taken.rows)
    slices = {name: list(texts[name]) for name in texts if name.startswith("slice_")}
    further = {"golds": [json.dumps(answers) for answers in golds]} if golds else {}
    fingerprint = _fingerprint(example_id, inputs, targets, slices | further)
    loaded = Split(dataset.name, split, example_id, inputs, targets, slices, fingerprint, taken.skipped, golds)
    _report(dataset, loaded)
    return loaded


def split_names(dataset: Dataset) -> list[str]:
    """Which of train, validation and test there are. Raises EdgewiseError as `load_split` does for the config."""
    _check(dataset)
    parts = origin_of(dataset).parts()
    return ["train", "test"] if parts == [ALL] else parts


def source_digest(dataset: Dataset) -> str:
    """sha256 over the bytes of the split files, the Hub's commit, or the generator's version; parses nothing.

    Neither the folder nor the file endings count, the splits' names do, and so does every setting that chooses or
    renames rows. Raises EdgewiseError where there is nothing to read from.
    """
    _check(dataset)
    parts = origin_of(dataset).digest_parts()
    if selection := selection_settings(dataset):
        parts = {"source": parts, "selection": selection}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_record(dataset: Dataset) -> dict[str, Any]:
    """Where the rows are from and which are taken, for people to read; JSON values without local paths."""
    return {**origin_of(dataset).record(), **selection_settings(dataset)}


def expected_rows(dataset: Dataset, split: str) -> int | None:
    """How many rows the paper counts in the split, where the config says so."""
    return None if not dataset.expected_rows else dataset.expected_rows.get(split)


def template_fields(template: str) -> list[str]:
    """The column names in a template, each once, in order. Raises EdgewiseError unless each is a plain name."""
    fields = list(dict.fromkeys(field for _, field in _template_parts(template) if field is not None))
    if not fields:
        raise EdgewiseError(f"dataset.template={template!r}: expected at least one column in braces, such as {{text}}")
    return fields


# --- the config -------------------------------------------------------------------------------------------------------


def _check(dataset: Dataset) -> dict[str, str]:
    """Returns label (as a string) -> target string, of classes. EdgewiseError for a config that can't be used."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", dataset.name):
        raise EdgewiseError(
            f"dataset.name={dataset.name}: expected letters, digits, '_', '.' and '-' alone, "
            "because the name becomes part of artifact names"
        )
    if dataset.path is None and dataset.hub_id is None and not is_generated(dataset):
        columns = listed([*template_fields(dataset.template), dataset.label_column])
        raise EdgewiseError(
            f"dataset={dataset.name}: nothing to read from. Give dataset.path=DIR, a folder with train and test files "
            f"({', '.join('.' + ending for ending in ENDINGS)}) that have the columns {columns}"
        )
    if dataset.task != "classification":
        return {}
    if len(dataset.classes) < 2:
        raise EdgewiseError(
            f"dataset.classes={dict(dataset.classes)}: expected two classes or more, each as label: target string"
        )
    targets: dict[str, str] = {}
    owner: dict[str, Any] = {}
    for label, target in dataset.classes.items():
        words = " ".join(str(target).split())  # as the tokenizer sees it
        if not words:
            raise EdgewiseError(f"dataset.classes: label {label!r} has an empty target string; give it a word to say")
        if words in owner:
            raise EdgewiseError(
                f"dataset.classes: labels {owner[words]!r} and {label!r} have the same target string {words!r}; "
                "give each class its own"
            )
        if str(label) in targets:
            raise EdgewiseError(f"dataset.classes: label {str(label)!r} is there twice; labels are compared as text")
        owner[words] = label
        targets[str(label)] = str(target)
    return targets


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    """The template as (literal, column after it or None)."""
    given = f"dataset.template={template!r}"
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise EdgewiseError(f"{given}: {error}; expected text with column names in braces, such as {{text}}") from None
    parts: list[tuple[str, str | None]] = []
    for literal, column, spec, conversion in parsed:
        if column is not None and (column == "" or column.isdigit()):
            raise EdgewiseError(f"{given}: {{{column}}} has no column name; write it as {{text}}")
        if spec or conversion:
            raise EdgewiseError(f"{given}: expected a plain column name in the braces of {{{column}}}, no format")
        parts.append((literal, column))
    return parts


def _fill(template: str, columns: Mapping[str, Sequence[str]], n: int) -> list[str]:
    pieces: list[Sequence[str]] = []
    for literal, column in _template_parts(template):
        if literal:
            pieces.append([literal] * n)
        if column is not None:
            pieces.append(columns[column])
    return list(map("".join, zip(*pieces, strict=True)))


def _check_split_name(split: str) -> None:
    if split not in SPLITS:
        raise EdgewiseError(f"split {split!r}: expected one of {', '.join(SPLITS)}")


# --- the rows ---------------------------------------------------------------------------------------------------------


def _report(dataset: Dataset, split: Split) -> None:
    """Says on stderr which rows were left out, and by how much the split differs from the paper's."""
    if split.skipped:
        say(
            f"{dataset.name} {split.name}: {sum(split.skipped.values()):,} rows left out ({counts(split.skipped)}), "
            f"{len(split):,} kept"
        )
    expected = expected_rows(dataset, split.name)
    if expected is not None and expected != len(split):
        difference = len(split) - expected
        found = f"{dataset.name} {split.name}: {len(split):,} rows, {abs(difference):,} "
        found += f"{'more' if difference > 0 else 'fewer'} than the paper's {expected:,}"
        if dataset.path is not None:
            say(f"note: {found} (from dataset.path)")
        else:
            say(f"warning: {found}: {dataset.hub_id} is not the data that the paper used, row by row")


@lru_cache(maxsize=256)
def say(line: str) -> None:
    """Says something about the data on stderr, once a process."""
    # Once a process: a split is read for its rows and again for the record of all splits.
    print(line, file=sys.stderr)


def _check_text(where: str, name: str, values: list[str | None], rows: Sequence[int], nullable: bool) -> None:
    if not nullable and None in values:
        row = rows[values.index(None)] + 1
        raise EdgewiseError(f"{where}: row {row} has no {name}; give it one or drop the row")
    for i, value in enumerate(values):
        if value is not None and not value.isascii() and (reason := surrogate(value)) is not None:
            raise EdgewiseError(f"{where}: row {rows[i] + 1}: {name} is not valid Unicode text ({reason})")


def _targets(
    where: str, column: str, labels: Sequence[str], targets_of: dict[str, str], rows: Sequence[int]
) -> list[str]:
    """The target strings; `rows` are the labels' places in the source, from 0."""
    # 5.0 is the label 5: stars in the Hub's JSON, and what pandas makes of whole numbers beside missing ones.
    known = {f"{label}.0": target for label, target in targets_of.items() if re.fullmatch(r"-?\d+", label)} | targets_of
    unknown = set(labels) - set(known)
    if unknown:
        i = next(i for i, label in enumerate(labels) if label in unknown)
        raise EdgewiseError(
            f"{where}: row {rows[i] + 1}: {column} is {short(repr(labels[i]))}, expected one of "
            f"{', '.join(map(repr, targets_of))}, the keys of dataset.classes"
        )
    return [known[label] for label in labels]


def _golds(where: str, column: str, labels: Sequence[str], rows: Sequence[int]) -> list[list[str]]:
    """Each row's gold answers, at least one; `rows` are the labels' places in the source, from 0."""
    golds = []
    for row, label in zip(rows, labels, strict=True):
        try:
            golds.append(gold_answers(label))
        except ValueError as error:
            raise EdgewiseError(f"{where}: row {row + 1}: {column} is {error}") from None
    return golds


def _check_unique(where: str, example_id: list[str], rows: Sequence[int]) -> None:
    if len(set(example_id)) == len(example_id):
        return
    first: dict[str, int] = {}
    for i, name in zip(rows, example_id, strict=True):
        if name in first:
            raise EdgewiseError(f"{where}: rows {first[name]} and {i + 1} have the same example_id {short(repr(name))}")
        first[name] = i + 1


def _fingerprint(example_id: list[str], inputs: list[str], targets: list[str], slices: dict[str, list[str]]) -> str:
    digest = hashlib.sha256()
    for name, values in [
        ("example_id", example_id),
        ("inputs", inputs),
        ("targets", targets),
        *sorted(slices.items()),
    ]:
        # The bytes of json.dumps([name, values]), a part at a time: whole, they take several times the rows' memory.
        digest.update(f"[{json.dumps(name)}, [".encode())
        for start in range(0, len(values), _FINGERPRINT_CHUNK):
            part = json.dumps(values[start : start + _FINGERPRINT_CHUNK])[1:-1]
            digest.update(f"{', ' if start else ''}{part}".encode())
        digest.update(b"]]")
    return digest.hexdigest()
