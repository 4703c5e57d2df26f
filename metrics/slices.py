"""Subgroups of the examples: how accurate each size is in them, and where the larger one gains."""

from dataclasses import dataclass

import numpy as np

from metrics.grid import Grid
from metrics.intervals import Estimate, estimate
from metrics.resampled import GroupSamples

MOST_SLICES = 40  # of one column; rarer values are left out, with a note


def quartiles(column: np.ndarray) -> np.ndarray:
    """A column of numbers [n] object (str or None) by quartile, `1 (from to)` …; as it is if it holds anything else.

    Cuts are the values at ranks n/4, n/2 and 3n/4; equal values stay together.
    """
    try:
        values = np.array([np.nan if text is None else float(text) for text in column])
    except ValueError:
        return column
    known = ~np.isnan(values)
    if not np.isfinite(values[known]).all() or not known.any():
        return column
    ranked = np.sort(values[known])
    cuts = ranked[[len(ranked) * k // 4 for k in (1, 2, 3)]]
    quarter = np.searchsorted(cuts, values, side="right")
    result = np.full(len(column), None, dtype=object)
    for k in range(4):
        inside = known & (quarter == k)
        if inside.any():
            result[inside] = f"{k + 1} ({values[inside].min():g} to {values[inside].max():g})"
    return result


@dataclass
class SliceRow:
    """A subgroup: its examples and each size's accuracy in it; the gain is the largest size's over the smallest."""

    column: str
    value: str
    examples: int
    accuracy: dict[str, Estimate]
    gains: dict[tuple[str, str], Estimate]  # (small, large) -> Estimate


class SliceColumn:
    """One slice column: which examples each value has, and the samples of its accuracies."""

    def __init__(self, grid: Grid, name: str, resamples: int, notes: list[str], column: np.ndarray | None = None):
        """`column` [n] object (str or None), where it isn't `grid.slices[name]`.

        Numbers of many values are taken by quartile. Adds to `notes` if there are too many other values to show.
        """
        column = grid.slices[name] if column is None else column
        if len(set(column)) > MOST_SLICES:
            column = quartiles(column)
        values, counts = np.unique([v for v in column if v is not None], return_counts=True)
        if len(values) > MOST_SLICES:
            notes.append(f"{name} has {len(values):,} values; the report shows the {MOST_SLICES} with most examples.")
            kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_SLICES])
            values, counts = values[kept], counts[kept]
        codes = {str(value): code for code, value in enumerate(values)}
        self.grid, self.name, self.values, self.counts = grid, name, list(codes), counts
        self.group = np.array([codes.get(value, -1) for value in column])
        self.samples = GroupSamples(grid.sizes, self.group, len(values), resamples)

    def rows(self, confidence: float) -> list[SliceRow]:
        """One row a value, by name, once the samples are filled in."""
        rows = []
        for code, value in enumerate(self.values):
            inside = self.group == code
            point = {size.name: size.correct[:, inside].mean() for size in self.grid.sizes}
            of = {size.name: self.samples.accuracy[size.name][code] for size in self.grid.sizes}
            rows.append(
                SliceRow(
                    column=self.name,
                    value=value,
                    examples=int(self.counts[code]),
                    accuracy={size: estimate(point[size], of[size], confidence) for size in point},
                    gains={
                        (a.name, b.name): estimate(point[b.name] - point[a.name], of[b.name] - of[a.name], confidence)
                        for a, b in self.grid.pairs
                    },
                )
            )
        return rows
