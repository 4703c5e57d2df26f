"""Writes tables to files: rows as CSV at full precision, sheets as Markdown and LaTeX."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metrics.tables.escape import markdown_code, markdown_text, spreadsheet_text
from metrics.tables.table import Row, Sheet, Table


def write_tables(tables: Iterable[Table], confidence: float, directory: Path) -> None:
    """Writes each table as .csv, .md and .tex into `directory`, which exists."""
    for table in tables:
        write_csv(directory / f"{table.name}.csv", table.keys, table.rows)
        write_sheet(table.sheet_for_files(confidence), directory)


def write_sheet(sheet: Sheet, directory: Path) -> None:
    """Writes a sheet as .md and .tex into `directory`, which exists."""
    (directory / f"{sheet.name}.md").write_text(markdown(sheet), encoding="utf-8")
    (directory / f"{sheet.name}.tex").write_text(latex(sheet), encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes rows as CSV: floats in the shortest form that reads back the same, NaN as an empty field.

    Texts that a spreadsheet would take for formulas get an apostrophe, see `spreadsheet_text`.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_csv_field(row[column]) for column in columns])


def _csv_field(value: Any) -> Any:
    if isinstance(value, str):
        return spreadsheet_text(value)
    return "" if isinstance(value, float) and math.isnan(value) else value


def markdown(sheet: Sheet) -> str:
    """Returns a sheet as Markdown, with its signature and notes below it."""

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(markdown_text(text) for text in texts) + " |"

    lines = [f"**{sheet.title}.** {sheet.caption}".rstrip(), ""]
    if sheet.lines:
        lines += [line(head.heading for head in sheet.heads), "|" + " --- |" * len(sheet.heads)]
        lines += [line(cell.line for cell in cells) for cells in sheet.lines]
    else:
        lines.append("Nothing to show: see the notes.")
    lines += ["", sheet.foot, "", f"Signature: {markdown_code(sheet.signature)}"]
    lines += [f"Scores: {markdown_code(text)}" for text in sheet.scores_signatures]
    if sheet.notes:
        lines += ["", "Notes:", "", *(f"- {markdown_text(note)}" for note in sheet.notes)]
    return "\n".join(lines) + "\n"


def latex(sheet: Sheet) -> str:
    """Returns a sheet as a LaTeX table with its caption and signature; LaTeX itself numbers it."""

    def line(texts: Iterable[str]) -> str:
        return " & ".join(escape_latex(text) for text in texts) + r" \\"

    caption = escape_latex(f"{sheet.caption or f'{sheet.title}.'} {sheet.foot}")
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table*}",
        "\\centering\\small",
        f"\\begin{{tabular}}{{{''.join('l' if head.text else 'r' for head in sheet.heads)}}}",
        "\\toprule",
        line(head.heading for head in sheet.heads),
        "\\midrule",
        *(line(cell.line for cell in cells) for cells in sheet.lines),
        "\\bottomrule",
        "\\end{tabular}",
        f"\\caption{{{caption} \\texttt{{{escape_latex(sheet.signature)}}}}}",
        f"\\label{{tab:edgewise-{sheet.name}}}",
        "\\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Returns text as LaTeX source that prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
