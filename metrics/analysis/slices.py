"""Subgroups of the examples: how good each size is in them, and where the larger one gains."""

from dataclasses import dataclass

import numpy as np

from metrics.bootstrap import GroupSamples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import Grid, SizeRuns
from metrics.scores import Strings
from metrics.statistics.text import corpus_bleu

MOST_SLICES = 40  # of one column; rarer values are left out, with a note


@dataclass
class SliceRow:
    """A subgroup: its examples and each size's quality in it; a gain is a larger size's over a smaller one's."""

    column: str
    value: str
    examples: int
    quality: dict[str, Estimate]
    gains: dict[tuple[str, str], Estimate]  # (small, large) -> Estimate


def slice_rows(grid: Grid, name: str, resampling: Resampling, confidence: float, notes: list[str]) -> list[SliceRow]:
    """One row a value of a slice column, by value; `notes` as `slice_groups` says."""
    values, group = slice_groups(grid.slices[name], name, notes)
    samples = GroupSamples(grid.sizes, group, len(values), resampling).quality
    rows = []
    for row, value in enumerate(values):
        inside = group == row
        point = {size.name: quality_inside(size, inside) for size in grid.sizes}
        of = {size.name: samples[size.name][row] for size in grid.sizes}
        rows.append(
            SliceRow(
                column=name,
                value=value,
                examples=int(inside.sum()),
                quality={size: estimate(point[size], of[size], confidence) for size in point},
                gains={
                    (a.name, b.name): estimate(point[b.name] - point[a.name], of[b.name] - of[a.name], confidence)
                    for a, b in grid.pairs
                },
            )
        )
    return rows


def slice_groups(column: Strings, name: str, notes: list[str]) -> tuple[list[str], np.ndarray]:
    """The values of a column to show, sorted, and [n] int, which of them each example has; -1 for none of them.

    Numbers of more than 40 values are shown by quartile. Adds to `notes` if there are too many other values to show.
    """
    if len(column.values) > MOST_SLICES:
        column = quartiles(column)
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
    by_value = sorted((value, code) for code, value in enumerate(column.values) if counts[code])
    if len(by_value) > MOST_SLICES:
        notes.append(f"{name} has {len(by_value):,} values; the report shows the {MOST_SLICES} with most examples.")
        most = sorted(range(len(by_value)), key=lambda k: -counts[by_value[k][1]])[:MOST_SLICES]
        by_value = [by_value[k] for k in sorted(most)]
    values = [value for value, _ in by_value]
    return values, column.recoded(values)


def quartiles(column: Strings) -> Strings:
    """A column of numbers by quartile, `1 (from to)` …; as it is if it holds anything else.

    Cuts are the values at ranks n/4, n/2 and 3n/4; equal values stay together.
    """
    try:
        numbers = np.array([float(text) for text in column.values])
    except ValueError:
        return column
    known = column.codes >= 0
    if not known.any() or not np.isfinite(numbers).all():
        return column
    of_examples = numbers[column.codes[known]]
    ranked = np.sort(of_examples)
    cuts = ranked[[len(ranked) * k // 4 for k in (1, 2, 3)]]
    codes = np.full(len(column), -1, dtype=np.int32)
    codes[known] = np.searchsorted(cuts, of_examples, side="right")
    within = [of_examples[codes[known] == k] for k in range(4)]
    values = [f"{k + 1} ({some.min():g} to {some.max():g})" if len(some) else "" for k, some in enumerate(within)]
    return Strings(values, codes)


def quality_inside(size: SizeRuns, inside: np.ndarray) -> float:
    """Mean over runs of the quality on some examples [n] bool: 0-1."""
    if size.correct is not None:
        return float(size.correct[:, inside].mean())
    assert size.bleu_stats is not None
    return float(corpus_bleu(size.bleu_stats[:, inside].sum(axis=1)).mean() / 100)
