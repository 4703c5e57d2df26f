"""Reads a file row by row, with values as the file's format types them, as `metrics.convert` takes them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from metrics.rows.delimited import read_delimited
from metrics.rows.layout import USUAL, Layout
from metrics.rows.objects import json_lines, json_objects
from metrics.rows.parquet import arrow_values, read_parquet
from metrics.rows.text import listed

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")

Record = tuple[str, Mapping[str, Any]]  # the file and the line or row, for messages; column -> value


def read_records(
    file: Path, kind: str, columns: Collection[str] | None = None, layout: Layout = USUAL
) -> Iterator[Record]:
    """Yields the rows of a file of one of FORMATS, each with its place.

    Values of CSV and TSV are text. Of CSV, TSV and Parquet only `columns` are read, all if None; rows of JSON come as
    they are, and may lack some. `layout` is of CSV and TSV. Raises EdgewiseError, with the line or the row, for what
    the format doesn't allow (see the package's description), and for a file that lacks one of `columns`.
    """
    try:
        if kind in ("csv", "tsv"):
            yield from _delimited_records(file, kind, columns, layout)
        elif kind == "json":
            yield from ((f"{file} row {number}", row) for number, row in enumerate(json_objects(file), 1))
        elif kind == "jsonl":
            yield from ((f"{file} line {line}", row) for line, row in json_lines(file))
        elif kind == "parquet":
            yield from _parquet_records(file, columns)
        else:
            raise EdgewiseError(f"{file}: format {kind!r}, expected one of {', '.join(FORMATS)}")
    except OSError as error:
        raise EdgewiseError(f"{file}: can't be read: {error.strerror}") from error


def _delimited_records(file: Path, kind: str, columns: Collection[str] | None, layout: Layout) -> Iterator[Record]:
    table = read_delimited(file, kind, layout, _wanted(columns))
    _check_present(file, table.names, columns)
    for line, values in table.rows:
        yield f"{file} line {line}", dict(zip(table.kept, values, strict=True))


def _parquet_records(file: Path, columns: Collection[str] | None) -> Iterator[Record]:
    schema, table = read_parquet(file, _wanted(columns))
    _check_present(file, schema.names, columns)
    names = table.column_names
    values = [arrow_values(file, name, table.column(name)) for name in names]
    for number in range(table.num_rows):
        yield f"{file} row {number + 1}", {name: column[number] for name, column in zip(names, values, strict=True)}


def _wanted(columns: Collection[str] | None) -> Callable[[str], bool]:
    return lambda name: columns is None or name in columns


def _check_present(file: Path, names: Sequence[str], columns: Collection[str] | None) -> None:
    missing = [name for name in columns or () if name not in names]
    if missing:
        raise EdgewiseError(f"{file}: lacks the column {', '.join(missing)}; it has {listed(names) or 'none'}")
