"""Defines tables as values: a table of rows with typed columns, and a sheet, which is a table laid out to be read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from metrics.tables.cells import Cell, number_cell

Row = dict[str, Any]  # by CSV column
MOST_SHOWN = 200  # rows of a sheet; the CSV has all


@dataclass(frozen=True)
class Head:
    """Holds what stands above a column. Numbers stand right, text stands left."""

    title: str
    unit: str = ""
    text: bool = False

    @property
    def heading(self) -> str:
        """Returns the title and the unit on one line, as files show them."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True)
class Sheet:
    """Holds a table laid out to be read: heads, cells, and the words around them."""

    name: str  # of its files, and to link to
    title: str
    heads: Sequence[Head]
    lines: Sequence[Sequence[Cell]]
    foot: str  # how to read it
    caption: str = ""  # what follows the title, where the title alone doesn't say what the table is
    signature: str = ""
    scores_signatures: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Column:
    """Defines one column. With `interval`, rows also hold KEY_ci_low and KEY_ci_high, shown in the same cell.

    An `optional` column is shown only where a row has a value in it.
    """

    key: str
    title: str
    unit: str = ""  # points | % | …; nothing for text and counts
    form: str = ""  # how a number is shown, in Python's format language; nothing for text
    interval: bool = False
    shown: bool = True  # False: in the CSV alone
    optional: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Returns the CSV columns that it stands for."""
        return (self.key, f"{self.key}_ci_low", f"{self.key}_ci_high") if self.interval else (self.key,)

    @property
    def head(self) -> Head:
        """Returns what stands above it in a sheet."""
        return Head(self.title, self.unit, text=not self.form)

    def cell(self, row: Row) -> Cell:
        """Returns the row's cell: a number with its interval, rounded for reading, or a text."""
        value = row[self.key]
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return number_cell(math.nan)
        if not self.form:
            return Cell(str(value))
        low, high = (row[key] for key in self.keys[1:]) if self.interval else (math.nan, math.nan)
        return number_cell(value, self.form, (low, high))


def _is_empty(value: Any, optional: bool) -> bool:
    """Tells whether a row has nothing in a column: no text, or in an optional column no number."""
    return value == "" or (optional and isinstance(value, float) and math.isnan(value))


@dataclass
class Table:
    """Holds a table: rows keyed by the columns' `keys`, numbers in the columns' units, NaN where there is none."""

    name: str  # of its files
    title: str
    reading: str  # how to read it
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what it lacks, and why
    signature: str = ""  # which choices its numbers rest on

    @property
    def keys(self) -> list[str]:
        """Returns the CSV's columns."""
        return [key for column in self.columns for key in column.keys]

    @property
    def shown(self) -> list[Column]:
        """Returns the columns to read: without those that are empty in every row, as the context of classes is."""
        empty = {
            column.key
            for column in self.columns
            if all(_is_empty(row[column.key], column.optional) for row in self.rows)
        }
        return [column for column in self.columns if column.shown and (column.key not in empty or not self.rows)]

    def sheet_for_files(self, confidence: float) -> Sheet:
        """Returns the table laid out for Markdown and LaTeX; `confidence` is that of its intervals, 0-1."""
        foot = f"How to read: {self.reading}{self._brackets(confidence)}"
        if len(self.rows) > MOST_SHOWN:
            foot += f" The first {MOST_SHOWN} of {len(self.rows):,} rows; {self.name}.csv has all."
        return self._sheet(foot)

    def sheet_for_page(self, confidence: float) -> Sheet:
        """Returns the table laid out for the report; `confidence` is that of its intervals, 0-1."""
        foot = f"{self.reading}{self._brackets(confidence)}"
        if len(self.rows) > MOST_SHOWN:
            foot += f" The first {MOST_SHOWN} of {len(self.rows):,} rows."
        return self._sheet(f"{foot} File: tables/{self.name}.csv.")

    def as_json(self) -> dict[str, Any]:
        """Returns the table for summary.json: title, reading, units, signature, notes and rows."""
        return {
            "title": self.title,
            "reading": self.reading,
            "units": {column.key: column.unit for column in self.columns if column.unit},
            "signature": self.signature,
            "notes": self.notes,
            "rows": [{key: row[key] for key in self.keys} for row in self.rows],
        }

    def _brackets(self, confidence: float) -> str:
        """Returns what the brackets are, if there are any."""
        return f" Brackets: {100 * confidence:g} % interval." if any(column.interval for column in self.shown) else ""

    def _sheet(self, foot: str) -> Sheet:
        shown = self.shown
        return Sheet(
            self.name,
            self.title,
            heads=[column.head for column in shown],
            lines=[[column.cell(row) for column in shown] for row in self.rows[:MOST_SHOWN]],
            foot=foot,
            signature=self.signature,
            notes=self.notes,
        )
