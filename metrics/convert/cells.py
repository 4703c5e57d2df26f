"""Reads single cells of rows, and refuses what is no text where text is due."""

import json
from collections.abc import Mapping
from typing import Any

from metrics.convert.examples import ConvertError, checked_unicode
from metrics.rows import text_or_none


def cell_of(where: str, row: Mapping[str, Any], column: str) -> Any:
    """Returns what the row holds in a column; ConvertError if it has no such column."""
    if column not in row:
        raise ConvertError(f"{where}: lacks {column}; it has {', '.join(row) or 'nothing'}")
    return row[column]


def text_of(where: str, row: Mapping[str, Any], column: str) -> str:
    """Returns the text in a column; ConvertError if it is empty or missing, as NaN and null are."""
    text = optional_text(where, row, column)
    if text is None:
        raise ConvertError(f"{where}: {column} is empty")
    return text


def optional_text(where: str, row: Mapping[str, Any], column: str) -> str | None:
    """Returns the text in a column, None if it is empty or missing, as NaN and null are.

    Numbers and truth values become what JSON prints, but 1.0 is `1`: whole numbers beside gaps are stored as floats.
    Raises EdgewiseError for lists, objects, binary values, and text that isn't Unicode.
    """
    cell = cell_of(where, row, column)
    if isinstance(cell, bool):
        return json.dumps(cell)
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = text_or_none(where, column, cell)
    return checked_unicode(where, column, text) if text else None
