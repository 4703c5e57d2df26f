"""Finds out what separates the values of a CSV or TSV file; says whether a header row names its columns."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}  # those that a header row is tried with
_START = 1 << 16  # characters that are looked at
_ROWS = 20


@dataclass(frozen=True)
class Layout:
    """Says of a file of values what its header row does not.

    `separator` is one character; None stands for a tab in TSV and, in CSV, for what `separator_of` sees. `names` are
    those of the columns, in the file's order, where there is no header row.
    """

    separator: str | None = None
    names: tuple[str, ...] | None = None


USUAL = Layout()  # a header row, and the separator that the header shows


def separator_of(file: Path, kind: str, layout: Layout) -> str:
    """Returns the character that separates the values of a file of this kind, `csv` or `tsv`.

    Where the layout doesn't say it, it is a tab in TSV. In CSV it is the one of SEPARATORS that cuts the header row
    into two values or more; where there are several, or no header row, the one that cuts each of the first rows into as
    many values as there are columns; a comma where none does or several do.
    """
    if layout.separator is not None:
        return layout.separator
    if kind == "tsv":
        return "\t"
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        start = stream.read(_START)
    lines = list(io.StringIO(start, newline=""))  # at the line ends that csv knows: others are part of a text
    if len(start) == _START and len(lines) > 1:
        del lines[-1]  # which may be cut
    rows = {separator: _first_rows(lines, separator) for separator in SEPARATORS}
    columns = 0 if layout.names is None else len(layout.names)
    fitting = [separator for separator, found in rows.items() if found and (columns or len(found[0]) >= 2)]
    if columns or len(fitting) > 1:
        fitting = [
            separator
            for separator in fitting
            if all(len(row) == (columns or len(rows[separator][0])) for row in rows[separator])
        ]
    return fitting[0] if len(fitting) == 1 else ","


def separator_name(separator: str) -> str:
    """Returns what to call a separator in a message."""
    return SEPARATORS.get(separator, repr(separator))


def _first_rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Returns the first rows that aren't empty, at most _ROWS and those before quotes are in disorder."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=separator, strict=True):
            if row:
                rows.append(row)
            if len(rows) == _ROWS:
                break
    except csv.Error:
        pass
    return rows
