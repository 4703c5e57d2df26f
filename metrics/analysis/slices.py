"""Estimates how good each size is in subgroups of the examples, and where a larger size gains over a smaller one."""

from dataclasses import dataclass

import numpy as np

from metrics.analysis.example_group import ExampleGroup
from metrics.analysis.intervals import ExampleChoice
from metrics.bootstrap import GroupSamples
from metrics.bootstrap.resampling import Estimate, Resampling
from metrics.grid.runs import Grid
from metrics.scores import Strings

MOST_SLICES = 40  # values shown of one column; rarer values are left out, with a note


@dataclass
class SliceRow:
    """Holds one subgroup: the value of a slice column, how many examples have it, and the sizes' quality on those."""

    column: str
    value: str
    examples: int
    quality: dict[str, Estimate]  # size -> mean over runs of accuracy or corpus BLEU / 100, 0-1
    gains: dict[tuple[str, str], Estimate]  # (small, large) -> the larger size's quality minus the smaller one's


def slice_rows(
    grid: Grid, name: str, resampling: Resampling, choice: ExampleChoice | None, confidence: float, notes: list[str]
) -> list[SliceRow]:
    """Estimates the quality in each subgroup of a slice column: one row a value, sorted; appends to `notes`.

    What is noted is what `slice_groups` notes. Intervals have the given confidence, 0-1; they are t intervals where
    there is a `choice` of influential examples, else those of the resamples.
    """
    values, group = slice_groups(grid.slices[name], name, notes)
    samples = GroupSamples(grid.sizes, group, len(values), resampling).quality
    rows = []
    for row, value in enumerate(values):
        inside = group == row
        group_samples = {size.name: samples[size.name][row] for size in grid.sizes}
        found = ExampleGroup.inside(grid.sizes, inside, group_samples, choice)
        rows.append(
            SliceRow(
                column=name,
                value=value,
                examples=int(inside.sum()),
                quality={size.name: found.quality_estimate(size.name, confidence) for size in grid.sizes},
                gains={(a.name, b.name): found.gain_estimate(a.name, b.name, confidence) for a, b in grid.pairs},
            )
        )
    return rows


def slice_groups(column: Strings, name: str, notes: list[str]) -> tuple[list[str], np.ndarray]:
    """Chooses which values of a column to show, and finds which of them each example has.

    Returns the values, sorted, and [n] int32, each example's place in them, -1 for none of them. A column of numbers
    with more than 40 different values is cut into quartiles. Of any other column with more values, the 40 with most
    examples are kept; that is appended to `notes`.
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
    """Cuts a column of numbers into quartiles, `1 (FROM to TO)` …; returns a column with any other value as it is.

    Cuts are the values at ranks n/4, n/2 and 3n/4; equal values stay together.
    """
    try:
        numbers = np.array([float(text) for text in column.values])
    except ValueError:
        return column
    has_value = column.codes >= 0
    if not has_value.any() or not np.isfinite(numbers).all():
        return column
    of_examples = numbers[column.codes[has_value]]
    ranked = np.sort(of_examples)
    cuts = ranked[[len(ranked) * k // 4 for k in (1, 2, 3)]]
    codes = np.full(len(column), -1, dtype=np.int32)
    codes[has_value] = np.searchsorted(cuts, of_examples, side="right")
    within = [of_examples[codes[has_value] == k] for k in range(4)]
    values = [f"{k + 1} ({some.min():g} to {some.max():g})" if len(some) else "" for k, some in enumerate(within)]
    return Strings(values, codes)
