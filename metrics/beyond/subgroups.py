"""Subgroups: where does the larger model help, where does it hurt, and does that survive looking at all of them?"""

import numpy as np

from metrics.analysis import Analysis
from metrics.beyond.table import KEYS, Column, Table, interval_of
from metrics.churn import BUCKETS
from metrics.grid import Grid
from metrics.intervals import estimate
from metrics.slices import SliceColumn
from metrics.switcher import DeferralOrder
from metrics.tables import Row

FEWEST = 10  # examples of a subgroup; percentiles of fewer say nothing

TARGET, LENGTH, UNCERTAINTY = "target", "target length, words", "uncertainty of the smallest"


def subgroups_table() -> Table:
    return Table(
        name="subgroups",
        title="Where the larger model helps and where it hurts, corrected for many subgroups",
        reading=(
            "The larger model's accuracy minus the smaller's in each subgroup. The interval is of that subgroup alone; "
            "the simultaneous one holds for all subgroups of a pair of sizes together (max-T over the same resamples), "
            "and so do p and the verdict. Subgroups overlap: they are the dataset's own, the target, and how "
            "uncertain the smallest model is (rank of its margin, mean over runs, in Table 2's buckets)."
        ),
        columns=(
            *(Column(key, key.capitalize()) for key in KEYS),
            Column("column", "By"),
            Column("value", "Subgroup"),
            Column("examples", "Examples", "", ",d"),
            Column("small_accuracy", "Small", "%", ".2f"),
            Column("large_accuracy", "Large", "%", ".2f"),
            Column("gain", "Gain", "points", "+.2f", interval=True),
            Column("simultaneous_low", "simultaneous from", "points", "+.2f"),
            Column("simultaneous_high", "to", "points", "+.2f"),
            Column("p", "p, for all", "", ".4f"),
            Column("verdict", "The larger model"),
            Column("subgroups", "Subgroups", "", "d", shown=False),
        ),
    )


def subgroup_columns(grid: Grid, margins: list[DeferralOrder], resamples: int, notes: list[str]) -> list[SliceColumn]:
    """The dataset's slices, and what can be had of any dataset. `margins` are the smallest size's orders by margin."""
    columns = [SliceColumn(grid, name, resamples, notes) for name in sorted(grid.slices)]
    if grid.classes:
        columns.append(SliceColumn(grid, TARGET, resamples, notes, grid.target))
    else:
        words = np.array([str(len(target.split())) for target in grid.target], dtype=object)
        columns.append(SliceColumn(grid, LENGTH, resamples, notes, words))
    columns.append(SliceColumn(grid, UNCERTAINTY, resamples, notes, uncertainty_buckets(margins)))
    return columns


def uncertainty_buckets(margins: list[DeferralOrder]) -> np.ndarray:
    """Table 2's buckets by the mean over runs of an example's rank, most certain first, ties shared: [n] object (str).

    Examples that tie in their mean rank go by their place in the data.
    """
    n = margins[0].examples
    rank = np.zeros(n)
    for deferral in margins:
        middle = (deferral.knots[:-1] + deferral.knots[1:]) / 2
        rank[deferral.order] -= np.repeat(middle, np.diff(deferral.knots))
    place = np.empty(n, dtype=np.int64)
    place[np.argsort(rank, kind="stable")] = np.arange(n)
    result = np.empty(n, dtype=object)
    for name, low, high in BUCKETS:
        result[(place >= low * n) & (place < high * n)] = f"{name} {100 * low:g}-{100 * high:g} %"
    return result


def subgroups(analysis: Analysis, columns: list[SliceColumn], confidence: float) -> tuple[list[Row], list[str]]:
    """One row a (small, large, subgroup) of ten examples or more, and notes; the columns' samples are filled in."""
    rows: list[Row] = []
    grid = analysis.grid
    groups = [
        (column, code) for column in columns for code in range(len(column.values)) if int(column.counts[code]) >= FEWEST
    ]
    left_out = sum(len(column.values) for column in columns) - len(groups)
    notes = [f"{left_out} subgroups have fewer than {FEWEST} examples and are left out."] if left_out else []
    for small, large in grid.pairs:
        of_pair: list[Row] = []
        values, drawn = [], []
        for column, code in groups:
            inside = column.group == code
            accuracy = [size.correct[:, inside].mean() for size in (small, large)]
            samples = column.samples.accuracy[large.name][code] - column.samples.accuracy[small.name][code]
            value = float(accuracy[1] - accuracy[0])
            values.append(value)
            drawn.append(samples)
            of_pair.append(
                {
                    **dict(zip(KEYS, (grid.dataset, small.name, large.name), strict=True)),
                    "column": column.name.removeprefix("slice_"),
                    "value": column.values[code],
                    "examples": int(column.counts[code]),
                    "small_accuracy": 100 * float(accuracy[0]),
                    "large_accuracy": 100 * float(accuracy[1]),
                    **interval_of("gain", estimate(value, samples, confidence), 100),
                }
            )
        low, high, p = simultaneous(np.array(values), np.array(drawn), confidence)
        for k, row in enumerate(of_pair):
            verdict = "no interval" if np.isnan(low[k]) else "helps" if low[k] > 0 else "hurts" if high[k] < 0 else "-"
            row |= {
                "simultaneous_low": 100 * float(low[k]),
                "simultaneous_high": 100 * float(high[k]),
                "p": float(p[k]),
                "verdict": verdict,
                "subgroups": len(groups),
            }
        rows += of_pair
    return rows, notes


def simultaneous(values: np.ndarray, samples: np.ndarray, confidence: float) -> tuple[np.ndarray, ...]:
    """Simultaneous intervals and adjusted p by the single-step max-T: [V], [V, B] -> low, high, p, each [V].

    With sd the samples' standard deviation and M_b = max over v of |sample - value| / sd, the intervals are
    value ± (confidence quantile of M) sd, and p = (1 + #{M_b ≥ |value| / sd}) / (1 + B) (Westfall & Young 1993, ch. 2).
    It takes the subgroups' dependence from the resamples, unlike Bonferroni. Without samples, or where they don't
    vary, NaN; a sample in which a subgroup was not drawn is left out of that subgroup.
    """
    low, high, p = (np.full(len(values), np.nan) for _ in range(3))
    if not samples.size:
        return low, high, p
    with np.errstate(invalid="ignore"):
        deviations = samples - values[:, None]
        known = ~np.isnan(deviations)
        count = known.sum(axis=1)
        sd = np.sqrt(np.square(np.where(known, deviations, 0.0)).sum(axis=1) / np.maximum(count - 1, 1))
    usable = (count > 1) & (sd > 0)
    if not usable.any():
        return low, high, p
    scaled = np.where(known[usable], np.abs(deviations[usable]), 0.0) / sd[usable, None]
    largest = scaled.max(axis=0)  # [B]
    reach = np.quantile(largest, confidence) * sd[usable]
    low[usable], high[usable] = values[usable] - reach, values[usable] + reach
    at_least = (largest[None, :] >= (np.abs(values[usable]) / sd[usable])[:, None]).sum(axis=1)
    p[usable] = (1 + at_least) / (1 + samples.shape[1])
    return low, high, p
