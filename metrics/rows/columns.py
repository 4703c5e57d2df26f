"""Reads a file of rows as columns of text, as training takes them.

Every value is the string that the file holds: "01" stays "01", and nothing is guessed to be a number or a date. A
field of an object is a column of its own, `answers.text`; a list of texts, where one is wanted, is read as its JSON.
Messages name the file and the data row (from 1, the header not counted) or the line.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from conf.errors import EdgewiseError
from metrics.rows.delimited import read_delimited
from metrics.rows.layout import USUAL, Layout
from metrics.rows.objects import Row, json_lines, json_objects
from metrics.rows.parquet import arrow_values, read_parquet
from metrics.rows.text import listed, text_or_none

Columns = dict[str, list[str | None]]  # name -> [n]; None is a missing value


@dataclass(frozen=True)
class Wanted:
    """Says which columns to read: `names`, `example_id` and the `slice_*`; those in `lists` may hold lists of texts."""

    names: frozenset[str]
    lists: frozenset[str] = frozenset()

    def __call__(self, name: str) -> bool:
        """Tells whether a column is to be read."""
        return name in self.names or is_carried(name)

    def inside(self, name: str) -> bool:
        """Tells whether a field of the object `name` is to be read, as `answers.text` is a field of `answers`."""
        return any(other.startswith(f"{name}.") for other in self.names)


def is_carried(name: str) -> bool:
    """Tells whether a column comes along with any dataset: `example_id` and `slice_*`."""
    return name == "example_id" or name.startswith("slice_")


def read_columns(file: Path, wanted: Wanted, layout: Layout = USUAL) -> tuple[list[str], Columns]:
    """Returns the names of all columns and the values of the wanted ones, read as the file's ending says.

    `layout` is of CSV and TSV. Raises EdgewiseError for a file that can't be read so, as the readers of the formats do,
    and for a layout with names where the format has its own.
    """
    ending = file.suffix[1:]
    if ending in ("csv", "tsv"):
        return _from_delimited(file, ending, wanted, layout)
    if layout.names is not None:
        raise EdgewiseError(
            f"{file}: a list of columns ({listed(layout.names)}) is for CSV and TSV files without a header row, and "
            f".{ending} files have names of their own; give a mapping of those to yours"
        )
    if ending == "json":
        return _from_objects(file, json_objects(file), wanted)
    if ending == "jsonl":
        return _from_objects(file, (row for _, row in json_lines(file)), wanted)
    return from_arrow(file, *read_parquet(file, lambda name: wanted(name) or wanted.inside(name)), wanted)


def _from_delimited(file: Path, kind: str, wanted: Wanted, layout: Layout) -> tuple[list[str], Columns]:
    table = read_delimited(file, kind, layout, wanted)
    columns: Columns = {name: [] for name in table.kept}
    kept = list(columns.values())
    for _, values in table.rows:
        for column, value in zip(kept, values):
            column.append(value)
    return table.names, columns


def _from_objects(file: Path, rows: Iterable[Row], wanted: Wanted) -> tuple[list[str], Columns]:
    names: dict[str, None] = {}
    columns: Columns = {}
    count = 0
    for count, row in enumerate(rows, 1):
        flat = flat_row(row, wanted)
        names.update(dict.fromkeys(flat))
        for name, value in flat.items():
            if wanted(name):
                values = columns.setdefault(name, [])
                values.extend([None] * (count - 1 - len(values)))  # rows before it that lack the column
                values.append(text_or_none(f"{file}: row {count}", name, value, name in wanted.lists))
    for values in columns.values():
        values.extend([None] * (count - len(values)))
    return list(names), columns


def flat_row(row: Row, wanted: Wanted) -> Row:
    """Returns the row with the fields of wanted objects beside the rest, by their dotted names."""
    flat: Row = {}
    for name, value in row.items():
        if isinstance(value, dict) and wanted.inside(name):
            flat |= flat_row({f"{name}.{field}": inner for field, inner in value.items()}, wanted)
        else:
            flat[name] = value
    return flat


def from_arrow(where: Path | str, schema: pa.Schema, table: pa.Table, wanted: Wanted) -> tuple[list[str], Columns]:
    """Returns the names of all columns of `schema`, and the wanted ones' values, which `table` holds.

    Raises EdgewiseError, with `where` and the row, for a value that is no text.
    """
    names = [name for field in schema for name in _flat_names(field, wanted)]
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        columns |= _flat_columns(name, table.column(name), wanted)
    return names, {
        name: _texts(where, name, arrow_values(where, name, column), name in wanted.lists)
        for name, column in columns.items()
        if wanted(name)
    }


def _texts(where: Path | str, name: str, values: list[Any], lists: bool) -> list[str | None]:
    return [
        value if isinstance(value, str) else text_or_none(f"{where}: row {row}", name, value, lists)
        for row, value in enumerate(values, 1)
    ]


def _flat_names(field: pa.Field, wanted: Wanted) -> list[str]:
    if not (pa.types.is_struct(field.type) and wanted.inside(field.name)):
        return [field.name]
    return [
        name for inner in field.type for name in _flat_names(pa.field(f"{field.name}.{inner.name}", inner.type), wanted)
    ]


def _flat_columns(name: str, column: pa.ChunkedArray, wanted: Wanted) -> dict[str, pa.ChunkedArray]:
    if not (pa.types.is_struct(column.type) and wanted.inside(name)):
        return {name: column}
    flat: dict[str, pa.ChunkedArray] = {}
    for field, inner in zip(column.type, column.flatten(), strict=True):
        flat |= _flat_columns(f"{name}.{field.name}", inner, wanted)
    return flat
