"""Reads one split of a dataset as texts and targets, and checks every row.

An error names the file and the data row (1-based, the header not counted). A row that is left out is counted; the count
is printed on stderr and kept in the data artifact.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Dataset
from metrics.rows import invalid_unicode, short
from train.data.answers import gold_answers, references
from train.data.check import check_dataset, target_strings
from train.data.notices import print_once
from train.data.origins import SPLITS, origin_of
from train.data.selection import counts, select
from train.data.template import field_lengths, fill_template, given_texts, template_fields

_FINGERPRINT_CHUNK = 1 << 16  # values made into JSON at a time


@dataclass
class Split:
    """Holds the n rows of one split, in file order, or in the order of their hashes where one file has been split."""

    dataset: str
    name: str
    example_id: list[str]  # [n], unique
    inputs: list[str]  # [n], the template filled in
    targets: list[str]  # [n], values of dataset.classes; in the other tasks any text
    slices: dict[str, list[str]]  # slice_* -> [n]; a missing value is ""
    fingerprint: str  # sha256 over ids, inputs, targets (all golds) and slices; the same from whatever file format
    skipped: dict[str, int] = field(default_factory=dict)  # why rows were left out -> how many
    golds: list[list[str]] | None = None  # [n], every gold answer or reference, the target first; None: one each
    template: str = "{text}"
    field_lengths: dict[str, np.ndarray] = field(
        default_factory=dict, compare=False
    )  # template's field -> [n] characters
    cluster: list[str | None] | None = None  # [n], what rows share that are not independent; None: no such column

    def __len__(self) -> int:
        return len(self.example_id)

    def texts(self) -> list[str]:
        """Returns the inputs as they were given, before the template: [n]."""
        return given_texts(self.template, self.inputs, self.field_lengths) if self.field_lengths else self.inputs


def load_split(dataset: Dataset, split: str) -> Split:
    """Reads one split, `train`, `validation` or `test`, from its files; `Source.split` keeps what this returns.

    Raises EdgewiseError for a dataset config that can't be used, and for files with rows that can't be.
    """
    check_dataset(dataset)
    if split not in SPLITS:
        raise EdgewiseError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    taken = select(dataset, origin_of(dataset), split, template_fields(dataset.template))
    where, n = taken.where, len(taken.rows)
    for name, values in taken.columns.items():
        _check_text(where, name, values, taken.rows, nullable=name.startswith("slice_"))
    if taken.cluster is not None:
        _check_text(where, "dataset.cluster", taken.cluster, taken.rows, nullable=True)

    texts: dict[str, Sequence[str]] = {name: [value or "" for value in vals] for name, vals in taken.columns.items()}
    inputs = fill_template(dataset.template, texts, n)
    labels, golds = texts[dataset.label_column], None
    if dataset.task == "classification":
        targets = _targets(where, dataset.label_column, labels, target_strings(dataset), taken.rows)
    elif dataset.task == "span_qa":
        golds = _golds(where, dataset.label_column, labels, taken.rows)
        targets = [answers[0] for answers in golds]
    else:
        golds = [references(label) for label in labels]
        targets = [texts[0] for texts in golds]
        if all(len(texts) == 1 for texts in golds):
            golds = None
    # The row's number in the source, not among the kept ones: leaving out one more renames none of the others.
    example_id = list(texts["example_id"]) if "example_id" in texts else [f"{split}-{i}" for i in taken.numbers]
    _check_unique(where, example_id, taken.rows)
    slices = {name: list(texts[name]) for name in texts if name.startswith("slice_")}
    further = {"golds": [json.dumps(answers) for answers in golds]} if golds else {}
    fingerprint = _fingerprint(example_id, inputs, targets, slices | further)
    loaded = Split(
        dataset=dataset.name,
        name=split,
        example_id=example_id,
        inputs=inputs,
        targets=targets,
        slices=slices,
        fingerprint=fingerprint,
        skipped=taken.skipped,
        golds=golds,
        template=dataset.template,
        field_lengths=field_lengths(dataset.template, texts),
        cluster=None if taken.cluster is None else [value or None for value in taken.cluster],
    )
    _print_counts(dataset, loaded)
    return loaded


def expected_rows(dataset: Dataset, split: str) -> int | None:
    """Returns how many rows the paper counts in the split, where the config says so."""
    return None if not dataset.expected_rows else dataset.expected_rows.get(split)


def _print_counts(dataset: Dataset, split: Split) -> None:
    """Prints on stderr which rows were left out, and by how much the split differs from the paper's."""
    if split.skipped:
        print_once(
            f"{dataset.name} {split.name}: {sum(split.skipped.values()):,} rows left out ({counts(split.skipped)}), "
            f"{len(split):,} kept"
        )
    expected = expected_rows(dataset, split.name)
    if expected is not None and expected != len(split):
        difference = len(split) - expected
        found = f"{dataset.name} {split.name}: {len(split):,} rows, {abs(difference):,} "
        found += f"{'more' if difference > 0 else 'fewer'} than the paper's {expected:,}"
        if dataset.path is not None:
            print_once(f"note: {found} (from dataset.path)")
        else:
            print_once(f"warning: {found}: {dataset.hub_id} is not the data that the paper used, row by row")


def _check_text(where: str, name: str, values: list[str | None], rows: Sequence[int], nullable: bool) -> None:
    """Raises EdgewiseError for a missing value, unless the column is `nullable`, and for text that UTF-8 can't hold."""
    if not nullable and None in values:
        row = rows[values.index(None)] + 1
        raise EdgewiseError(f"{where}: row {row} has no {name}; give it one or drop the row")
    for i, value in enumerate(values):
        if value is not None and not value.isascii() and (reason := invalid_unicode(value)) is not None:
            raise EdgewiseError(f"{where}: row {rows[i] + 1}: {name} is not valid Unicode text ({reason})")


def _targets(
    where: str, column: str, labels: Sequence[str], target_of: dict[str, str], rows: Sequence[int]
) -> list[str]:
    """Returns the rows' target strings; `rows` are the labels' places in the source, from 0."""
    # 5.0 is the label 5: stars in the Hub's JSON, and what pandas makes of whole numbers beside missing ones.
    decimals = {f"{label}.0": target for label, target in target_of.items() if re.fullmatch(r"-?\d+", label)}
    accepted = decimals | target_of
    unknown = set(labels) - set(accepted)
    if unknown:
        i = next(i for i, label in enumerate(labels) if label in unknown)
        raise EdgewiseError(
            f"{where}: row {rows[i] + 1}: {column} is {short(repr(labels[i]))}, expected one of "
            f"{', '.join(map(repr, target_of))}, the keys of dataset.classes"
        )
    return [accepted[label] for label in labels]


def _golds(where: str, column: str, labels: Sequence[str], rows: Sequence[int]) -> list[list[str]]:
    """Returns each row's gold answers, at least one; `rows` are the labels' places in the source, from 0."""
    golds = []
    for row, label in zip(rows, labels, strict=True):
        try:
            golds.append(gold_answers(label))
        except ValueError as error:
            raise EdgewiseError(f"{where}: row {row + 1}: {column} is {error}") from None
    return golds


def _check_unique(where: str, example_id: list[str], rows: Sequence[int]) -> None:
    """Raises EdgewiseError where two rows have one example_id."""
    if len(set(example_id)) == len(example_id):
        return
    first: dict[str, int] = {}
    for i, name in zip(rows, example_id, strict=True):
        if name in first:
            raise EdgewiseError(f"{where}: rows {first[name]} and {i + 1} have the same example_id {short(repr(name))}")
        first[name] = i + 1


def _fingerprint(example_id: list[str], inputs: list[str], targets: list[str], slices: dict[str, list[str]]) -> str:
    """Returns the sha256, in hex, of a split's rows."""
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
