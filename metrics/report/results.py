"""The tables of the page: Tables 1-3 as the paper lays them out, slices, and whatever further tables there are."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

from conf.schema import SCORES
from metrics.analysis.dataset import Analysis
from metrics.bootstrap.resampling import Estimate
from metrics.report.measure import quality_of
from metrics.report.tables import Cell, Column, count_cell, estimate_cell, number_cell, table
from metrics.report.words import context_note, slice_name
from metrics.statistics.churn import BUCKETS
from metrics.tables.paper import CAPTIONS, SCORE_TITLES, TITLES, Rows

_READING = {
    "table1": "Above 0, interval included, and above the random floor: the mix beats both models.",
    "table2": "Churn in Q1 is disagreement where the model says it is sure: retraining alone changes these answers.",
    "table3": "Above 0, interval included: the score knows where the larger model helps.",
    "contexts": "Where two rows of a pair differ, the paper's kind of number promises more, or less, than can be had.",
}
_CELLS = "Cells: mean (standard error as published), [{confidence:g} % interval]."
_KEYS = {
    "table1": ("dataset", "small", "large"),
    "table2": ("dataset", "uncertainty_size", "size"),
    "table3": ("dataset", "small", "large"),
    "contexts": ("dataset", "small", "large", "table", "context", "deployable"),
}
_CONTEXTS = {"gold": "the gold answer", "self": "its own output"}


_MOST_ROWS = 200  # of a further table on the page; its CSV has all


class FurtherColumn(Protocol):
    """A column of a further table. With `interval`, rows also hold KEY_ci_low and KEY_ci_high."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def form(self) -> str:
        """How a number is shown, in Python's format language; nothing for text."""

    @property
    def interval(self) -> bool: ...


class FurtherTable(Protocol):
    """A table past the paper's, with a line on how to read it and notes on what it lacks."""

    @property
    def name(self) -> str:
        """Of its files."""

    @property
    def title(self) -> str: ...
    @property
    def reading(self) -> str: ...
    @property
    def shown(self) -> Sequence[FurtherColumn]:
        """The columns to read."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def signature(self) -> str: ...


def result_tables(analyses: Sequence[Analysis], rows: Rows, further: Sequence[FurtherTable], confidence: float) -> str:
    """Tables 1-3, then the further ones, with a list of them all before."""
    papers = "".join(_paper_table(name, analyses, rows[name], confidence) for name in rows)
    if not further:
        return papers
    titles = [(name, TITLES[name]) for name in rows] + [(one.name, one.title) for one in further]
    links = "".join(f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in titles)
    tables = "".join(further_table(one, confidence) for one in further)
    return f'<ul class="contents">{links}</ul>{papers}<h3>Past the paper</h3>{tables}'


def _paper_table(name: str, analyses: Sequence[Analysis], rows: Sequence[dict], confidence: float) -> str:
    keys = _KEYS[name]
    if name == "table2":
        value, by = "churn", "bucket"
        shown = [bucket for bucket, _, _ in BUCKETS]
        columns = [Column("Dataset", text=True), Column("Ranked by", text=True), Column("Churn of", text=True)]
        columns += [Column(bucket, f"{100 * low:g}–{100 * high:g} %") for bucket, low, high in BUCKETS]
    else:
        value, by = "mean", "score"
        shown = [score for score in SCORES if any(row["score"] == score for row in rows)]
        titles = ["Dataset", "Smaller", "Larger", "Table", "Uncertainty of", "Deployable"][: len(keys)]
        columns = [Column(title, text=True) for title in titles]
        columns += [Column(SCORE_TITLES[score].replace("Cmt.", "Committee")) for score in shown]
    lines: dict[tuple[str, ...], list[Cell | str]] = {}
    for row in rows:
        key = tuple(_CONTEXTS[row[column]] if column == "context" else str(row[column]) for column in keys)
        line = lines.setdefault(key, [*key, *[Cell("–", order=math.nan)] * len(shown)])
        line[len(keys) + shown.index(row[by])] = _mean_cell(row, value)
    if name == "contexts":  # the two of a pair one below the other
        places = {key[:4]: place for place, key in reversed(list(enumerate(lines)))}
        lines = {key: lines[key] for key in sorted(lines, key=lambda key: places[key[:4]])}
    if name == "table1":
        columns.append(Column("Random floor"))
        floors = [pair.bounds.random_hump.mean() for analysis in analyses for pair in analysis.pairs]
        for line, floor in zip(lines.values(), floors, strict=True):
            line.append(number_cell(100 * floor))
    title, _, rest = CAPTIONS[name].partition(". ")
    caption = f"{TITLES[name]}. {title.removesuffix('.')}"
    whose = context_note(analyses) if name != "contexts" else ""
    parts = [rest, _READING[name], whose, _CELLS.format(confidence=100 * confidence), f"File: tables/{name}.csv."]
    reading = " ".join(filter(None, parts))
    return table(name, caption, reading, columns, list(lines.values()))


def _mean_cell(row: Mapping[str, Any], column: str) -> Cell:
    cell = number_cell(row[column])
    low, high = (number_cell(row[limit]).text for limit in ("ci_low", "ci_high"))
    below = "" if math.isnan(row["ci_low"]) else f"[{low}, {high}]"
    return Cell(cell.text, below, cell.order, beside="" if math.isnan(row["se"]) else f"({row['se']:.3f})")


def further_table(one: FurtherTable, confidence: float) -> str:
    """Any table of rows with columns that say how they are to be shown."""
    reading = [one.reading]
    if any(column.interval for column in one.shown):
        reading.append(f"Brackets: {100 * confidence:g} % interval.")
    if len(one.rows) > _MOST_ROWS:
        reading.append(f"The first {_MOST_ROWS} of {len(one.rows):,} rows.")
    reading.append(f"File: tables/{one.name}.csv.")
    html = table(
        one.name,
        one.title,
        " ".join(reading),
        [Column(column.title, column.unit, text=not column.form) for column in one.shown],
        [[_further_cell(row, column) for column in one.shown] for row in one.rows[:_MOST_ROWS]],
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in one.notes)
    signature = f"<details class=reading><summary>Signature</summary><code>{escape(one.signature)}</code></details>"
    return html + (f'<ul class="soft">{notes}</ul>' if notes else "") + signature


def _further_cell(row: Mapping[str, Any], column: FurtherColumn) -> Cell:
    value = row[column.key]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("–", order=math.nan)
    if not column.form:
        return Cell(str(value))
    below = ""
    if column.interval and not math.isnan(row[f"{column.key}_ci_low"]):
        low, high = (_formatted(row[f"{column.key}_ci_{end}"], column.form) for end in ("low", "high"))
        below = f"[{low}, {high}]"
    return Cell(_formatted(value, column.form), below, float(value))


def _formatted(value: float, form: str) -> str:
    return format(value, form).replace("-", "\N{MINUS SIGN}")


def slice_tables(analyses: Sequence[Analysis], confidence: float) -> str:
    """A table a dataset and slice column; "" where there are no slices."""
    return "".join(
        _slice_table(analysis, column, f"slices-{k}-{c}", confidence)
        for k, analysis in enumerate(analyses)
        for c, column in enumerate(sorted({row.column for row in analysis.slices}))
    )


def _slice_table(analysis: Analysis, column: str, name: str, confidence: float) -> str:
    quality = quality_of(analysis.grid)
    names = [size.name for size in analysis.grid.sizes]
    ends = (names[0], names[-1]) if len(names) > 1 else None
    rows = [row for row in analysis.slices if row.column == column]
    columns = [Column(slice_name(column), text=True), Column("n")]
    columns += [Column(size, quality.unit.strip()) for size in names]
    if ends:
        columns += [
            Column(f"{ends[1]} − {ends[0]}", quality.points),
            Column("", text=True),
            Column("Verdict", text=True),
        ]
    gains = [row.gains[ends] for row in rows] if ends else []
    reach = max((abs(v) for g in gains for v in (g.value, g.low, g.high) if not math.isnan(v)), default=1.0) or 1.0
    body: list[list[Cell | str]] = []
    for k, row in enumerate(rows):
        line: list[Cell | str] = [row.value, count_cell(row.examples)]
        line += [estimate_cell(row.quality[size]) for size in names]
        if ends:
            line += [
                estimate_cell(gains[k], sign=True),
                Cell("", order=gains[k].value, drawing=_whisker(gains[k], reach)),
            ]
            line.append(_verdict(gains[k], ends[1]))
        body.append(line)
    caption = f"{analysis.grid.dataset} by {slice_name(column)}: {quality.name} of each size"
    reading = (
        f"Means over seeds, with {100 * confidence:g} % intervals over seeds and examples, each by itself: of twenty "
        "slices, about one interval misses by chance."
    )
    return table(name, caption, reading, columns, body)


def _verdict(gain: Estimate, large: str) -> str:
    if gain.above_zero:
        return f"{large} gains"
    if gain.below_zero:
        return f"{large} loses"
    return "no interval" if math.isnan(gain.low) else "can't be told apart"


def _whisker(gain: Estimate, reach: float) -> str:
    """A dot and its interval around 0, on one scale for the whole table; the numbers are in the cell before it."""

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
