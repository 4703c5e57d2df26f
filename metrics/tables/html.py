"""Writes tables as HTML for the report: a caption, heads with units, cells, a line on how to read them.

A script of the report makes the columns sortable.
"""

import math
from collections.abc import Sequence
from html import escape

from metrics.tables.cells import MISSING, Cell
from metrics.tables.table import Head, Sheet

_MANY_ROWS = 24  # more than that scroll in a box of their own, below their heads
_LONG_NAME = 24  # characters; a longer one at the head of a row takes several lines
_LONG_TITLE = 24  # characters; a longer one gets a wider column, so that it takes few lines


def sheet_html(sheet: Sheet, folded: bool = False) -> str:
    """Returns a sheet as HTML, with its notes and its signature below it where it has them.

    One that is `folded` shows its title until it is opened, by a press or by a link to it.
    """
    html = table(sheet.name, sheet.title, sheet.foot, sheet.heads, sheet.lines)
    if sheet.notes:
        html += f'<ul class="soft">{"".join(f"<li>{escape(note)}</li>" for note in sheet.notes)}</ul>'
    if sheet.signature:
        html += "<details class=reading><summary>Signature</summary>"
        html += f"<code>{escape(sheet.signature)}</code></details>"
    if not folded:
        return html
    count = f"{len(sheet.lines):,} row{'' if len(sheet.lines) == 1 else 's'}"
    title = f'{escape(sheet.title)} <span class="soft">({count})</span>'
    return f'<details class="folded"><summary>{title}</summary>{html}</details>'


def table(
    name: str,
    caption: str,
    reading: str,
    heads: Sequence[Head],
    rows: Sequence[Sequence[Cell | str]],
    wrapped: bool = False,
) -> str:
    """Returns one table with the id `name` to link to; a text in place of a cell is both shown and sorted by.

    The first column heads its row; `wrapped` lets long texts take several lines. All but `Cell.drawing` is escaped.
    """
    head_line = "".join(_head(head) for head in heads)
    lines = "".join(f"<tr>{_line(heads, row)}</tr>" for row in rows)
    if not rows:
        lines = f'<tr><td colspan="{len(heads)}">Nothing to show: see the notes.</td></tr>'
    tall = " tall" if len(rows) > _MANY_ROWS else ""
    how_to_read = f'<p class="reading">{escape(reading)}</p>' if reading else ""
    return (
        f'<div class="table" id="{name}">'
        f'<div class="wide{tall}" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table data-sortable{' class=wrapped' if wrapped else ''}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head_line}</tr></thead><tbody>{lines}</tbody></table></div>{how_to_read}</div>"
    )


def _head(head: Head) -> str:
    kinds = ([] if head.text else ["n"]) + (["long"] if len(head.title) > _LONG_TITLE else [])
    css = f' class="{" ".join(kinds)}"' if kinds else ""
    unit = f" <small>{escape(head.unit)}</small>" if head.unit else ""
    return f'<th scope="col"{css}>{escape(head.title)}{unit}</th>'


def _line(heads: Sequence[Head], row: Sequence[Cell | str]) -> str:
    cells = []
    for k, (head, cell) in enumerate(zip(heads, row, strict=True)):
        cell = cell if isinstance(cell, Cell) else Cell(cell)
        tag, scope = ("th", ' scope="row"') if k == 0 else ("td", "")
        shown = cell.drawing or escape(_typeset(cell.text, cell))
        if k == 0 and len(cell.text) > _LONG_NAME:
            shown = f'<span class="row-name">{shown}</span>'
        if cell.beside:
            shown += f' <span class="beside">{escape(cell.beside)}</span>'
        if cell.below:
            shown += f"<small>{escape(_typeset(cell.below, cell))}</small>"
        if cell.reference:
            shown += f"<small>{escape(_typeset(cell.reference, cell))}</small>"
        order = "" if cell.order is None else f' data-order="{escape(_sort_key(cell.order))}"'
        cells.append(f"<{tag}{scope}{'' if head.text else ' class=n'}{order}>{shown}</{tag}>")
    return "".join(cells)


def _typeset(text: str, cell: Cell) -> str:
    """Returns a cell's text with a minus as wide as a plus, and a dash for a missing number."""
    if not isinstance(cell.order, float):
        return text
    return "–" if text == MISSING else text.replace("-", "\N{MINUS SIGN}")


def _sort_key(order: float | str) -> str:
    return order if isinstance(order, str) else "" if math.isnan(order) else f"{order:.17g}"
