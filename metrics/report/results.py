"""The tables of the page: Tables 1-3 as the paper lays them out, slices, and whatever further tables there are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from conf.schema import SCORES
from metrics.analysis import Analysis
from metrics.churn import BUCKETS
from metrics.intervals import Estimate
from metrics.report.quality import quality_of
from metrics.report.tables import Cell, Column, count_cell, estimate_cell, number_cell, table
from metrics.report.words import slice_name
from metrics.tables import CAPTIONS, SCORE_TITLES, Rows

_READING = {
    "table1": "Above 0, interval included, and above the random floor: the mix beats both models.",
    "table2": "Churn in Q1 is disagreement where the model says it is sure: retraining alone changes these answers.",
    "table3": "Above 0, interval included: the score knows where the larger model helps.",
}
_CELLS = "Cells: mean (standard error as published), [{confidence:g} % interval]."
_GAIN_KEYS, _CHURN_KEYS = ("dataset", "small", "large"), ("dataset", "uncertainty_size", "size")


class FurtherTable(Protocol):
    """A table past the paper's: what `metrics` hands over to be shown, each with a line on how to read it."""

    name: str
    title: str
    reading: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]


def result_tables(analyses: Sequence[Analysis], rows: Rows, further: Sequence[FurtherTable], confidence: float) -> str:
    """Tables 1-3, then the further ones."""
    parts = [_paper_table(name, analyses, rows[name], confidence) for name in CAPTIONS]
    return "".join(parts + [further_table(one) for one in further])


def _paper_table(name: str, analyses: Sequence[Analysis], rows: Sequence[dict], confidence: float) -> str:
    keys = _CHURN_KEYS if name == "table2" else _GAIN_KEYS
    if name == "table2":
        value, by = "churn", "bucket"
        shown = [bucket for bucket, _, _ in BUCKETS]
        columns = [Column("Dataset", text=True), Column("Ranked by", text=True), Column("Churn of", text=True)]
        columns += [Column(bucket, f"{100 * low:g}–{100 * high:g} %") for bucket, low, high in BUCKETS]
    else:
        value, by = "mean", "score"
        shown = [score for score in SCORES if any(row["score"] == score for row in rows)]
        columns = [Column("Dataset", text=True), Column("Smaller", text=True), Column("Larger", text=True)]
        columns += [Column(SCORE_TITLES[score].replace("Cmt.", "Committee")) for score in shown]
    lines: dict[tuple[str, ...], list[Cell | str]] = {}
    for row in rows:
        key = tuple(row[column] for column in keys)
        line = lines.setdefault(key, [*key, *[Cell("–", order=math.nan)] * len(shown)])
        line[len(keys) + shown.index(row[by])] = _mean_cell(row, value)
    if name == "table1":
        columns.append(Column("Random floor"))
        floors = [pair.bounds.random_hump.mean() for analysis in analyses for pair in analysis.pairs]
        for line, floor in zip(lines.values(), floors, strict=True):
            line.append(number_cell(100 * floor))
    title, _, rest = CAPTIONS[name].partition(". ")
    caption = f"Table {name[-1]}. {title.removesuffix('.')}"
    reading = f"{rest} {_READING[name]} {_CELLS.format(confidence=100 * confidence)} File: tables/{name}.csv.".lstrip()
    return table(name, caption, reading, columns, list(lines.values()))


def _mean_cell(row: Mapping[str, Any], column: str) -> Cell:
    cell = number_cell(row[column])
    low, high = (number_cell(row[limit]).text for limit in ("ci_low", "ci_high"))
    below = "" if math.isnan(row["ci_low"]) else f"[{low}, {high}]"
    return Cell(cell.text, below, cell.order, beside="" if math.isnan(row["se"]) else f"({row['se']:.3f})")


def further_table(one: FurtherTable) -> str:
    """Any table of plain rows: numbers right and to four digits, `ci_low` and `ci_high` below what they are of.

    `X_low` and `X_high` go below `X`; a bare `ci_low` and `ci_high` below the number column before them.
    """
    limits, columns = _limits(one.columns), []
    texts = {name: all(isinstance(row[name], str) or row[name] is None for row in one.rows) for name in one.columns}
    shown = [name for name in one.columns if name not in {limit for pair in limits.values() for limit in pair}]
    for name in shown:
        columns.append(Column(name.replace("_", " "), text=texts[name]))
    rows = [[_plain_cell(row, name, limits.get(name)) for name in shown] for row in one.rows]
    return table(one.name, one.title, f"{one.reading} File: tables/{one.name}.csv.", columns, rows)


def _limits(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """column -> the columns of its interval."""
    found = {}
    for k, name in enumerate(columns):
        if not name.endswith("_low") or name.removesuffix("_low") + "_high" not in columns:
            continue
        stem = name.removesuffix("_low")
        owner = stem if stem in columns else stem.removesuffix("_ci") if stem.removesuffix("_ci") in columns else ""
        if not owner and k:
            before = [c for c in columns[:k] if not c.endswith(("_low", "_high", "se"))]
            owner = before[-1] if before else ""
        if owner:
            found[owner] = (name, stem + "_high")
    return found


def _plain_cell(row: Mapping[str, Any], name: str, limits: tuple[str, str] | None) -> Cell:
    value = row[name]
    if value is None or isinstance(value, float) and math.isnan(value):
        return Cell("–", order=math.nan)
    if isinstance(value, (bool, str)):
        return Cell(str(value) if isinstance(value, str) else "yes" if value else "no", order=str(value))
    below = ""
    if limits and all(isinstance(row[limit], (int, float)) and not math.isnan(row[limit]) for limit in limits):
        below = f"[{readable(row[limits[0]])}, {readable(row[limits[1]])}]"
    return Cell(readable(value), below, float(value))


def readable(value: float) -> str:
    """Whole numbers with commas, others to two decimals, or to three digits where those would say nothing."""
    if isinstance(value, int) or float(value).is_integer() and 1000 <= abs(value) < 1e9:
        return f"{int(value):,}".replace("-", "\N{MINUS SIGN}")
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
    digits = 2 if value == 0 or abs(value) >= 0.1 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


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
        line += [estimate_cell(row.accuracy[size]) for size in names]
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
