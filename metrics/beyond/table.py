"""A table past the paper's: what it is, how to read it, its columns with their units, and its rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metrics.analysis.dataset import Analysis
from metrics.bootstrap.resampling import Estimate
from metrics.tables.paper import SCORE_TITLES, Row, escape_latex, write_csv

MOST_SHOWN = 200  # rows of a table for reading; its CSV has all


@dataclass(frozen=True)
class Column:
    """One column. With `interval`, rows also hold KEY_ci_low and KEY_ci_high, shown in the same cell."""

    key: str
    title: str
    unit: str = ""  # points | % | …; nothing for text and counts
    form: str = ""  # how a number is shown, in Python's format language; nothing for text
    interval: bool = False
    shown: bool = True  # False: in the CSV alone

    @property
    def keys(self) -> tuple[str, ...]:
        """The CSV columns it stands for."""
        return (self.key, f"{self.key}_ci_low", f"{self.key}_ci_high") if self.interval else (self.key,)

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def cell(self, row: Mapping[str, Any]) -> str:
        """`value [low, high]`, rounded for reading; `-` where there is none."""
        value = row[self.key]
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "-"
        if not self.form:
            return str(value)
        text = format(value, self.form)
        if self.interval:
            low, high = (row[key] for key in self.keys[1:])
            if not math.isnan(low):
                text += f" [{format(low, self.form)}, {format(high, self.form)}]"
        return text


@dataclass
class Table:
    """Rows are keyed by the columns' `keys`; numbers are in the columns' units, NaN where there is none."""

    name: str  # of its files
    title: str
    reading: str  # how to read it
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signature: str = ""

    @property
    def keys(self) -> list[str]:
        """The CSV's columns."""
        return [key for column in self.columns for key in column.keys]

    @property
    def shown(self) -> list[Column]:
        """Of the table for reading: without columns that hold nothing in any row, as the context of classes."""
        empty = {column.key for column in self.columns if all(row[column.key] == "" for row in self.rows)}
        return [column for column in self.columns if column.shown and (column.key not in empty or not self.rows)]

    @property
    def header(self) -> list[str]:
        """Of the table for reading."""
        return [column.heading for column in self.shown]

    def body(self, most: int | None = None) -> list[list[str]]:
        """Cells of the table for reading, the first `most` rows or all."""
        return [[column.cell(row) for column in self.shown] for row in self.rows[:most]]


QUALITY = "% or BLEU"  # the unit of accuracy, and of what stands for it in translation

PAIR = (Column("dataset", "Dataset"), Column("context", "Context"), Column("small", "Small"), Column("large", "Large"))
SCORE = (Column("score_title", "Score"), Column("score", "score", shown=False))


def of_pair(analysis: Analysis, small: str, large: str) -> Row:
    """The entries of a row for `PAIR`."""
    return {**of_dataset(analysis), "small": small, "large": large}


def of_dataset(analysis: Analysis) -> Row:
    """Dataset and, of sequences, the context that their uncertainty was scored in."""
    return {"dataset": analysis.grid.dataset, "context": analysis.context or ""}


def of_score(score: str) -> Row:
    """The entries of a row for `SCORE`."""
    return {"score_title": SCORE_TITLES.get(score, score), "score": score}


def interval_of(key: str, value: Estimate, scale: float = 1.0) -> Row:
    """The three entries of a row for a column with an interval."""
    return {
        key: scale * value.value,
        f"{key}_ci_low": scale * value.low,
        f"{key}_ci_high": scale * value.high,
    }


def write_beyond_tables(tables: Iterable[Table], confidence: float, directory: Path) -> None:
    """Writes each table as .csv, .md and .tex into `directory`, which exists."""
    for table in tables:
        write_csv(directory / f"{table.name}.csv", table.keys, table.rows)
        (directory / f"{table.name}.md").write_text(_markdown(table, confidence), encoding="utf-8")
        (directory / f"{table.name}.tex").write_text(_latex(table, confidence), encoding="utf-8")


def _foot(table: Table, confidence: float) -> str:
    foot = "How to read: " + table.reading
    if any(column.interval for column in table.shown):
        foot += f" Brackets: {100 * confidence:g} % interval."
    if len(table.rows) > MOST_SHOWN:
        foot += f" The first {MOST_SHOWN} of {len(table.rows):,} rows; {table.name}.csv has all."
    return foot


def _markdown(table: Table, confidence: float) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    lines = [f"**{table.title}.**", ""]
    if table.rows:
        lines += [line(table.header), "|" + " --- |" * len(table.header)]
        lines += [line(cells) for cells in table.body(MOST_SHOWN)]
    else:
        lines.append("Nothing to show: see the notes.")
    lines += ["", _foot(table, confidence), "", f"Signature: `{table.signature}`"]
    if table.notes:
        lines += ["", "Notes:", "", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _latex(table: Table, confidence: float) -> str:
    alignment = "".join("r" if column.form else "l" for column in table.shown)
    caption = escape_latex(f"{table.title}. {_foot(table, confidence)}")
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table*}",
        "\\centering\\small",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        " & ".join(escape_latex(text) for text in table.header) + r" \\",
        "\\midrule",
        *(" & ".join(escape_latex(text) for text in cells) + r" \\" for cells in table.body(MOST_SHOWN)),
        "\\bottomrule",
        "\\end{tabular}",
        f"\\caption{{{caption} \\texttt{{{escape_latex(table.signature)}}}}}",
        f"\\label{{tab:edgewise-{table.name}}}",
        "\\end{table*}",
    ]
    return "\n".join(lines) + "\n"
