"""Reads labels, predictions and the classes' values out of rows."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.convert.cells import cell_of, optional_text, text_of
from metrics.convert.examples import ConvertError, Example, Report
from metrics.rows import Record, short

SCALES = ("auto", "probability", "log_probability")
_MANY = {"probability": "probabilities", "log_probability": "log-probabilities"}
_NOISE = 1e-4  # by which rounding may pass 0 or 1, as in the scores schema


@dataclass
class ClassColumns:
    """Names the columns that hold labels, predictions and the classes' values."""

    target: str
    classes: dict[str, str] = field(default_factory=dict)  # class -> column of its value, or
    values: str | None = None  # one column with a list, or an object class -> value, of
    names: list[str] | None = None  # these classes; None: the object's keys
    prediction: str | None = None
    example_id: str | None = None
    slices: list[str] = field(default_factory=list)
    text: str | None = None
    cluster: str | None = None
    scale: str = "auto"
    labels: str = "name"  # name | index: labels and predictions name classes, or count them from 0

    @property
    def read(self) -> list[str]:
        """Returns the names of all columns to read."""
        names = [self.target, self.prediction, self.example_id, self.values, self.text, self.cluster]
        return list(dict.fromkeys(name for name in [*names, *self.classes.values(), *self.slices] if name is not None))


def examples_of(rows: Iterator[Record], columns: ClassColumns, report: Report) -> tuple[list[Example], list[str]]:
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
                slices={name: optional_text(where, row, name) for name in columns.slices},
                text=None if columns.text is None else optional_text(where, row, columns.text),
                cluster=None if columns.cluster is None else optional_text(where, row, columns.cluster),
            )
        )
    if columns.example_id is None:
        report(
            "no id column: rows are numbered, so the files of a dataset must hold the same examples in the same order"
        )
    _to_logs(examples, columns.scale, report)
    return examples, names or []


def _check_columns(where: str, row: Mapping[str, Any], columns: ClassColumns) -> None:
    missing = [name for name in columns.read if name not in row]
    if missing:
        raise ConvertError(f"{where}: lacks the column {', '.join(missing)}; it has {', '.join(row) or 'none'}")


def _parsed(where: str, cell: Any, column: str) -> Any:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
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
    except (TypeError, ValueError, OverflowError):
        raise ConvertError(f"{where}: {column} holds {short(repr(cell))}, expected a number") from None
    if math.isnan(number):
        raise ConvertError(f"{where}: {column} is NaN")
    return number


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
