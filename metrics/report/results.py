"""Writes the tables of the page: Tables 1-3 as the paper lays them out, those past the paper's, and slices."""

import math
from collections.abc import Sequence
from html import escape

from metrics.analysis.dataset import Analysis
from metrics.analysis.subgroups import FEWEST, SubgroupGain
from metrics.bootstrap.resampling import Estimate
from metrics.report.measure import quality_of
from metrics.report.words import context_note, slice_name
from metrics.tables.cells import Cell, count_cell, estimate_cell
from metrics.tables.html import sheet_html, table
from metrics.tables.paper import CONTEXTS, PAPER_TABLES, Rows
from metrics.tables.table import Head, Table

_OPEN = 3  # tables of the paper that the page shows unfolded
_VERDICT_READING = (
    "The verdict is by an interval that holds for all subgroups together, as in the subgroups table, and there is none "
    f"of fewer than {FEWEST} examples."
)


def result_tables(analyses: Sequence[Analysis], rows: Rows, further: Sequence[Table], confidence: float) -> str:
    """Returns the paper's tables that `rows` holds, then the further ones, with a list of them all before.

    Tables 1-3 are open, all others folded; a link to one opens it. Those without a row are named in a sentence.
    """
    whose = context_note(analyses)
    papers = [one for one in PAPER_TABLES if one.name in rows]
    sheets = [
        one.sheet_for_page(rows[one.name], analyses, confidence, "" if one is CONTEXTS else whose) for one in papers
    ]
    paper_html = "".join(sheet_html(sheet, folded=place >= _OPEN) for place, sheet in enumerate(sheets))
    if not further:
        return paper_html
    shown, empty = [one for one in further if one.rows], [one for one in further if not one.rows]
    titles = {one.name: one.title for one in papers} | {one.name: one.title for one in shown}
    links = "".join(f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in titles.items())
    further_html = "".join(sheet_html(one.sheet_for_page(confidence), folded=True) for one in shown)
    contents = f'<ul class="contents">{links}</ul>{paper_html}<h3>Past the paper</h3>'
    return f"{contents}{further_html}{_without_rows(empty)}"


def _without_rows(tables: Sequence[Table]) -> str:
    """Returns a paragraph on the tables that have no row, and why; "" where each has one."""
    if not tables:
        return ""
    named = "; ".join(f"{one.title} ({' '.join(one.notes).rstrip('.') or 'nothing to show'})" for one in tables)
    return f'<p class="soft" id="empty-tables">Left out, as there is nothing in them here: {escape(named)}.</p>'


def slice_tables(analyses: Sequence[Analysis], confidence: float) -> str:
    """Returns a table for each dataset and slice column; "" where there are no slices."""
    return "".join(
        _slice_table(analysis, column, f"slices-{k}-{c}", confidence)
        for k, analysis in enumerate(analyses)
        for c, column in enumerate(sorted({row.column for row in analysis.slices}))
    )


def _slice_table(analysis: Analysis, column: str, name: str, confidence: float) -> str:
    quality = quality_of(analysis.grid)
    sizes = [size.name for size in analysis.grid.sizes]
    ends = (sizes[0], sizes[-1]) if len(sizes) > 1 else None
    rows = [row for row in analysis.slices if row.column == column]
    heads = [Head(slice_name(column), text=True), Head("n")]
    heads += [Head(size, quality.unit.strip()) for size in sizes]
    if ends:
        heads += [
            Head(f"{ends[1]} − {ends[0]}", quality.points),
            Head("", text=True),
            Head("Verdict", text=True),
        ]
    gains = [row.gains[ends] for row in rows] if ends else []
    large_enough = analysis.subgroups.of_slices(column, *ends) if ends else {}
    reach = max((abs(v) for g in gains for v in (g.value, g.low, g.high) if not math.isnan(v)), default=1.0) or 1.0
    lines: list[list[Cell | str]] = []
    for k, row in enumerate(rows):
        line: list[Cell | str] = [row.value, count_cell(row.examples)]
        line += [estimate_cell(row.quality[size]) for size in sizes]
        if ends:
            line += [
                estimate_cell(gains[k], sign=True),
                Cell("", order=gains[k].value, drawing=_whisker(gains[k], reach)),
                _verdict(large_enough.get(row.value), ends[1]),
            ]
        lines.append(line)
    caption = f"{analysis.grid.dataset} by {slice_name(column)}: {quality.name} of each size"
    reading = (
        f"Means over seeds, with {100 * confidence:g} % intervals over seeds and examples, each by itself: of twenty "
        f"slices, about one interval misses by chance. {_VERDICT_READING if ends else ''}".rstrip()
    )
    return table(name, caption, reading, heads, lines)


def _verdict(found: SubgroupGain | None, large: str) -> str:
    """Returns what the larger model does in a subgroup, None being one of too few examples, with the correction."""
    if found is None:
        return f"fewer than {FEWEST} examples"
    whose = "" if found.of_other_runs else ", of these runs"
    if found.simultaneous.above_zero:
        return f"{large} gains{whose}"
    if found.simultaneous.below_zero:
        return f"{large} loses{whose}"
    return "no interval" if math.isnan(found.simultaneous.low) else "can't be told apart"


def _whisker(gain: Estimate, reach: float) -> str:
    """Draws a gain and its interval around 0, on one scale for the whole table; the cell before it has the numbers."""

    def x(value: float) -> float:
        return round(80 + 74 * value / reach, 1)

    line = ""
    if not math.isnan(gain.low):
        line = f'<line x1="{x(gain.low)}" x2="{x(gain.high)}" y1="8" y2="8" stroke="currentColor" stroke-width="1.5"/>'
    return (
        '<svg class="whisker" width="160" height="16" aria-hidden="true">'
        '<line x1="80" x2="80" y1="0" y2="16" stroke="currentColor" stroke-opacity=".35"/>'
        f'{line}<circle cx="{x(gain.value)}" cy="8" r="4"/></svg>'
    )
