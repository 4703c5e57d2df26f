"""Reads rows of CSV, TSV, JSONL and Parquet files, and the examples in them."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metrics.convert.examples import ConvertError, Example, Report

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
SCALES = ("auto", "probability", "log_probability")
_MANY = {"probability": "probabilities", "log_probability": "log-probabilities"}
_NOISE = 1e-4  # by which rounding may pass 0 or 1, as in the scores schema

Row = tuple[str, Mapping[str, Any]]  # where, and the row


@dataclass
class Columns:
    """Names the columns that hold labels, predictions and the classes' values."""

    target: str
    classes: dict[str, str] = field(default_factory=dict)  # class -> column of its value, or
    values: str | None = None  # one column with a list, or an object class -> value, of
    names: list[str] | None = None  # these classes; None: the object's keys
    prediction: str | None = None
    example_id: str | None = None
    slices: list[str] = field(default_factory=list)
    scale: str = "auto"
    labels: str = "name"  # name | index: labels and predictions name classes, or count them from 0


def read_rows(path: Path, kind: str) -> Iterator[Row]:
    """Yields rows with where they are. Raises ConvertError, with the line, for what isn't of that kind."""
    try:
        if kind in ("csv", "tsv"):
            yield from _csv_rows(path, "\t" if kind == "tsv" else ",")
        elif kind == "jsonl":
            yield from json_lines(path)
        else:
            yield from ((f"{path} row {k}", row) for k, row in enumerate(pq.read_table(path).to_pylist(), start=1))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ConvertError(f"{path}: can't be read as {kind}: {error}") from error


def json_lines(path: Path) -> Iterator[Row]:
    """Yields the objects of a JSON Lines file; blank lines are left out."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConvertError(f"{path} line {number}: isn't JSON: {error}") from error
            if not isinstance(row, dict):
                raise ConvertError(f"{path} line {number}: expected an object, one a line")
            yield f"{path} line {number}", row


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if None in row or None in row.values():
                raise ConvertError(
                    f"{where}: has more or fewer fields than the header's {len(reader.fieldnames or ())}"
                )
            yield where, row


def examples_of(rows: Iterator[Row], columns: Columns, report: Report) -> tuple[list[Example], list[str]]:
    """Returns the examples, and the classes in the order of their values.

    Raises ConvertError, naming file and line, for a missing column, a value that is no number, NaN, a row with other
    classes than the first, and values that are neither probabilities nor log-probabilities.
    """
    names = list(columns.classes) or columns.names
    examples: list[Example] = []
    for where, row in rows:
        if not examples:
            _check_columns(where, row, columns)
            names = names or _keys(where, cell_of(where, row, columns.values or ""), columns.values or "")
        assert names is not None
        if columns.values is None:
            cells = {name: cell_of(where, row, column) for name, column in columns.classes.items()}
        else:
            cells = _by_class(where, cell_of(where, row, columns.values), columns.values, names)
        numbers = [
            _number(where, columns.classes.get(name, f"{columns.values} of {name!r}"), cells[name]) for name in names
        ]
        prediction = None
        if columns.prediction is not None:
            prediction = _label(where, row, columns.prediction, names, columns.labels)
        examples.append(
            Example(
                where=where,
                example_id=str(len(examples))
                if columns.example_id is None
                else text_of(where, row, columns.example_id),
                target=_label(where, row, columns.target, names, columns.labels),
                values=numbers,
                prediction=prediction,
                slices={name: optional_text(cell_of(where, row, name)) for name in columns.slices},
            )
        )
    if columns.example_id is None:
        report(
            "no id column: rows are numbered, so the files of a dataset must hold the same examples in the same order"
        )
    _to_logs(examples, columns.scale, report)
    return examples, names or []


def _check_columns(where: str, row: Mapping[str, Any], columns: Columns) -> None:
    wanted = [columns.target, columns.prediction, columns.example_id, columns.values, *columns.classes.values()]
    missing = [name for name in (*wanted, *columns.slices) if name is not None and name not in row]
    if missing:
        raise ConvertError(f"{where}: lacks the column {', '.join(missing)}; it has {', '.join(row) or 'none'}")


def cell_of(where: str, row: Mapping[str, Any], column: str) -> Any:
    """Returns what the row holds in a column; ConvertError if it has no such column."""
    if column not in row:
        raise ConvertError(f"{where}: lacks {column}; it has {', '.join(row) or 'nothing'}")
    return row[column]


def _parsed(where: str, cell: Any, column: str) -> Any:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError as error:
            raise ConvertError(f"{where}: {column} holds {cell[:60]!r}, expected a JSON list or object") from error
    if not isinstance(cell, (list, dict)):
        raise ConvertError(f"{where}: {column} holds {cell!r}, expected a list or an object class -> value")
    return cell


def _keys(where: str, cell: Any, column: str) -> list[str]:
    cell = _parsed(where, cell, column)
    if isinstance(cell, list):
        raise ConvertError(f"{where}: {column} holds a list; name its classes in order: --classes A,B,…")
    return list(cell)


def _by_class(where: str, cell: Any, column: str, names: Sequence[str]) -> dict[str, Any]:
    cell = _parsed(where, cell, column)
    if isinstance(cell, list):
        if len(cell) != len(names):
            raise ConvertError(f"{where}: {column} holds {len(cell)} values, expected one for each of {list(names)}")
        return dict(zip(names, cell, strict=True))
    if set(cell) != set(names):
        raise ConvertError(f"{where}: {column} has the classes {sorted(cell)}, expected {sorted(names)} as before")
    return dict(cell)


def _number(where: str, column: str, cell: Any) -> float:
    try:
        if isinstance(cell, bool) or cell is None:
            raise ValueError
        number = float(cell)
    except (TypeError, ValueError):
        raise ConvertError(f"{where}: {column} holds {cell!r}, expected a number") from None
    if math.isnan(number):
        raise ConvertError(f"{where}: {column} is NaN")
    return number


def text_of(where: str, row: Mapping[str, Any], column: str) -> str:
    """Returns the text in a column; ConvertError if it is empty."""
    cell = optional_text(cell_of(where, row, column))
    if cell is None:
        raise ConvertError(f"{where}: {column} is empty")
    return cell


def optional_text(cell: Any) -> str | None:
    """Returns a value as JSON would print it, but 1.0 as `1`; None for empty text."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell if isinstance(cell, str) else json.dumps(cell) if isinstance(cell, (bool, list, dict)) else str(cell)


def _label(where: str, row: Mapping[str, Any], column: str, names: Sequence[str], labels: str) -> str:
    text = text_of(where, row, column)
    if labels == "name":
        return text
    if not text.isdecimal() or int(text) >= len(names):
        raise ConvertError(f"{where}: {column} holds {text!r}, expected the index of a class, 0 to {len(names) - 1}")
    return names[int(text)]


def _to_logs(examples: list[Example], scale: str, report: Report) -> None:
    """Turns the examples' values into natural logarithms, in place."""
    if not examples:
        return
    values = np.array([one.values for one in examples], dtype=np.float64)
    if scale == "auto":
        scale = "log_probability" if (values < -_NOISE).any() else "probability"
        report(f"values are taken as {_MANY[scale]}")
    most = 1.0 if scale == "probability" else 0.0
    wrong = (values > most + _NOISE) | ((values < -_NOISE) & (scale == "probability"))
    rows = np.flatnonzero(wrong.any(axis=1))
    if len(rows):
        row = int(rows[0])
        raise ConvertError(
            f"{examples[row].where}: {float(values[row][wrong[row]][0]):g} is no {scale.replace('_', '-')} "
            f"({len(rows):,} such rows); give probabilities or natural log-probabilities (of logits: the log-softmax)"
        )
    if scale == "probability":
        values = np.maximum(values, 0.0)
    nothing = np.flatnonzero((values == (0.0 if scale == "probability" else -np.inf)).all(axis=1))
    if len(nothing):
        raise ConvertError(f"{examples[int(nothing[0])].where}: gives every class probability 0")
    if scale == "probability":
        with np.errstate(divide="ignore"):
            values = np.log(values)
    for one, row_values in zip(examples, values, strict=True):
        one.values = row_values
