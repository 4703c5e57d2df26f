"""Looks at the columns of a file: their names, and what their values are like."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metrics.rows import Layout, read_records, separator_of

MOST_CLASSES = 500
PAIRS = "translation"  # the column whose objects have a text by language, in the datasets of the Hugging Face Hub
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
_LOOKED_AT = 1000  # distinct values of a column that are kept, and rows that a header is compared with


@dataclass
class Column:
    """Counts the values of a column: those that are there, their characters, and each of the first distinct ones."""

    name: str
    rows: int = 0
    missing: int = 0
    characters: int = 0
    values: Counter[str] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)  # of a value -> rows
    is_nested: bool = False

    def add(self, value: Any) -> None:
        """Counts one value, None or empty text for a missing one."""
        self.rows += 1
        self.is_nested |= isinstance(value, (dict, list))
        if value is None or value == "":
            self.missing += 1
            return
        text = str(value)
        self.characters += len(text)
        self.words[len(text.split())] += 1
        if text in self.values or len(self.values) < _LOOKED_AT:
            self.values[text] += 1

    @property
    def distinct(self) -> int:
        """Counts the distinct values, at most as many as are kept."""
        return len(self.values)

    @property
    def mean_characters(self) -> float:
        """Returns the mean length of the values that are there."""
        return self.characters / max(self.rows - self.missing, 1)

    @property
    def mean_words(self) -> float:
        """Returns how many words a value has on average, of those that are there."""
        return sum(words * values for words, values in self.words.items()) / max(self.words.total(), 1)


def columns_of(file: Path) -> tuple[Layout, list[Column]]:
    """Returns how a file is laid out, where that is not the usual, and its columns with their values counted."""
    kind = file.suffix[1:]
    separator = separator_of(file, kind, Layout()) if kind == "csv" else ","
    layout = Layout(None if separator == "," else separator)
    columns = _counted(file, kind, layout)
    if kind in ("csv", "tsv") and _is_data(columns):
        names = tuple(f"column_{i}" for i in range(1, len(columns) + 1))
        layout = Layout(layout.separator, names)
        columns = _counted(file, kind, layout)
    return layout, columns


def _counted(file: Path, kind: str, layout: Layout) -> list[Column]:
    columns: dict[str, Column] = {}
    rows = 0
    for rows, (_, row) in enumerate(read_records(file, kind, layout=layout), 1):
        for name, value in _values(row):
            columns.setdefault(name, Column(name, rows - 1, rows - 1)).add(value)
    for column in columns.values():  # rows of JSON may lack some
        column.missing += rows - column.rows
        column.rows = rows
    return list(columns.values())


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields a row's values by their columns' names; each language of PAIRS is a column too."""
    for name, value in row.items():
        yield name, value
        if name == PAIRS and isinstance(value, dict):
            yield from ((f"{PAIRS}.{language}", text) for language, text in value.items())


def _is_data(columns: Sequence[Column]) -> bool:
    """Tells whether the names of columns look like a row of data: a number, a long text, or a value of the column."""
    if [column.name for column in columns] == [str(i) for i in range(len(columns))]:
        return False  # pandas' names of columns without names
    return any(
        _NUMBER.fullmatch(column.name)
        or len(column.name) > 60
        or (column.name in column.values and column.distinct < min(MOST_CLASSES, max(column.rows, 4) / 2))
        for column in columns
    )
