"""Tables as HTML: a caption, a line on how to read it, heads with units; a script makes the columns sortable."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from metrics.bootstrap.resampling import Estimate

_MANY_ROWS = 24  # more than that scroll in a box of their own, below their heads
_LONG_TITLE = 24  # characters; a longer one gets a wider column, so that it takes few lines


@dataclass(frozen=True)
class Column:
    """A column's head. Numbers stand right, text stands left."""

    title: str
    unit: str = ""
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell's text, what stands beside and below it, what a sort goes by; `drawing` is our own markup for the text."""

    text: str
    below: str = ""
    order: float | str | None = None
    drawing: str = ""
    beside: str = ""


def table(
    name: str,
    caption: str,
    reading: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell | str]],
    wrapped: bool = False,
) -> str:
    """One table with an id to link to; a text that is given in place of a cell is both shown and sorted by.

    The first column heads its row; `wrapped` lets long texts take several lines. All but `Cell.drawing` is escaped.
    """
    heads = "".join(_head(column) for column in columns)
    lines = "".join(f"<tr>{_line(columns, row)}</tr>" for row in rows)
    if not rows:
        lines = f'<tr><td colspan="{len(columns)}">Nothing to show: see the notes.</td></tr>'
    tall = " tall" if len(rows) > _MANY_ROWS else ""
    how = f'<p class="reading">{escape(reading)}</p>' if reading else ""
    return (
        f'<div class="table" id="{name}">'
        f'<div class="wide{tall}" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table data-sortable{' class=wrapped' if wrapped else ''}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>{how}</div>"
    )


def _head(column: Column) -> str:
    kinds = ([] if column.text else ["n"]) + (["long"] if len(column.title) > _LONG_TITLE else [])
    of_kind = f' class="{" ".join(kinds)}"' if kinds else ""
    unit = f" <small>{escape(column.unit)}</small>" if column.unit else ""
    return f'<th scope="col"{of_kind}>{escape(column.title)}{unit}</th>'


def _line(columns: Sequence[Column], row: Sequence[Cell | str]) -> str:
    cells = []
    for k, (column, cell) in enumerate(zip(columns, row, strict=True)):
        cell = cell if isinstance(cell, Cell) else Cell(cell)
        tag, scope = ("th", ' scope="row"') if k == 0 else ("td", "")
        shown = cell.drawing or escape(cell.text)
        if cell.beside:
            shown += f' <span class="beside">{escape(cell.beside)}</span>'
        if cell.below:
            shown += f"<small>{escape(cell.below)}</small>"
        order = "" if cell.order is None else f' data-order="{escape(_order(cell.order))}"'
        cells.append(f"<{tag}{scope}{'' if column.text else ' class=n'}{order}>{shown}</{tag}>")
    return "".join(cells)


def _order(value: float | str) -> str:
    return value if isinstance(value, str) else "" if math.isnan(value) else f"{value:.17g}"


def estimate_cell(estimate: Estimate, digits: int = 2, sign: bool = False, scale: float = 100) -> Cell:
    """A number and, below it, its interval."""
    if math.isnan(estimate.value):
        return Cell("–", order=math.nan)
    low, high = (_number(scale * limit, digits) for limit in (estimate.low, estimate.high))
    below = "" if math.isnan(estimate.low) else f"[{low}, {high}]"
    return Cell(_number(scale * estimate.value, digits, sign), below, estimate.value)


def number_cell(value: float, digits: int = 2, sign: bool = False) -> Cell:
    """A number by itself; a dash where there is none."""
    return Cell("–", order=math.nan) if math.isnan(value) else Cell(_number(value, digits, sign), order=value)


def count_cell(value: int) -> Cell:
    """A whole number with commas."""
    return Cell(f"{value:,}", order=float(value))


def _number(value: float, digits: int, sign: bool = False) -> str:
    """Never '-0.00'; a minus as wide as a plus."""
    text = f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")
