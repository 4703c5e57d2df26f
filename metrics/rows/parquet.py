"""Reads columns of Parquet files, and the values of Arrow's columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from conf.errors import EdgewiseError, first_line
from metrics.parquet_file import opened_parquet
from metrics.rows.start import check_is_parquet
from metrics.rows.text import first_duplicate


def read_parquet(file: Path, wanted: Callable[[str], bool]) -> tuple[pa.Schema, pa.Table]:
    """Returns a file's schema, and the table of its wanted columns.

    Raises EdgewiseError for what isn't Parquet or can't be read, for two columns of one name, and as `opened_parquet`
    does.
    """
    check_is_parquet(file)
    try:
        with opened_parquet(file) as parquet:
            schema = parquet.schema_arrow
            if duplicated := first_duplicate(schema.names):
                raise EdgewiseError(f"{file}: two columns are named {duplicated!r}; rename or drop one")
            return schema, parquet.read(columns=[name for name in schema.names if wanted(name)])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise EdgewiseError(f"{file}: can't be read as Parquet: {first_line(error)}") from None


def arrow_values(where: Path | str, name: str, column: pa.ChunkedArray) -> list[Any]:
    """Returns a column's values [n] as Python's; None is a missing one.

    Raises EdgewiseError, with the row from 1, for text that isn't UTF-8, which Parquet doesn't check.
    """
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        for row in range(len(column)):
            try:
                column[row].as_py()
            except UnicodeDecodeError as error:
                raise EdgewiseError(
                    f"{where}: row {row + 1}: {name} is not UTF-8 ({error.reason} at byte {error.start} of the "
                    "value); write the file again with UTF-8 text"
                ) from None
        raise
