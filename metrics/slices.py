"""Subgroups of the examples: how good each size is in them, and where the larger one gains."""

from dataclasses import dataclass

import numpy as np

from metrics.grid import Grid, SizeRuns
from metrics.intervals import Estimate, Resampling, estimate
from metrics.resampled import GroupSamples
from metrics.text import corpus_bleu

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
    """One row a value of a slice column, by value. Adds to `notes` if there are too many values to show."""
    column = grid.slices[name]
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
    by_value = sorted((value, code) for code, value in enumerate(column.values) if counts[code])
    if len(by_value) > MOST_SLICES:
        notes.append(f"{name} has {len(by_value):,} values; the report shows the {MOST_SLICES} with most examples.")
        most = sorted(range(len(by_value)), key=lambda k: -counts[by_value[k][1]])[:MOST_SLICES]
        by_value = [by_value[k] for k in sorted(most)]
    group = column.recoded([value for value, _ in by_value])
    samples = GroupSamples(grid.sizes, group, len(by_value), resampling).quality
    rows = []
    for row, (value, code) in enumerate(by_value):
        inside = group == row
        point = {size.name: _quality(size, inside) for size in grid.sizes}
        of = {size.name: samples[size.name][row] for size in grid.sizes}
        rows.append(
            SliceRow(
                column=name,
                value=value,
                examples=int(counts[code]),
                quality={size: estimate(point[size], of[size], confidence) for size in point},
                gains={
                    (a.name, b.name): estimate(point[b.name] - point[a.name], of[b.name] - of[a.name], confidence)
                    for a, b in grid.pairs
                },
            )
        )
    return rows


def _quality(size: SizeRuns, inside: np.ndarray) -> float:
    if size.correct is not None:
        return float(size.correct[:, inside].mean())
    assert size.bleu_stats is not None
    return float(corpus_bleu(size.bleu_stats[:, inside].sum(axis=1)).mean() / 100)
