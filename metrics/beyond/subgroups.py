"""Subgroups: where does the larger model help, where does it hurt, and does that survive looking at all of them?"""

from dataclasses import dataclass

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.analysis.slices import quality_inside, quartiles, slice_groups
from metrics.beyond.table import PAIR, QUALITY, Column, Table, interval_of, of_pair
from metrics.bootstrap import GroupSamples
from metrics.bootstrap.resampling import Resampling, estimate
from metrics.grid.runs import Grid
from metrics.scores import Strings
from metrics.statistics.churn import BUCKETS
from metrics.statistics.switcher import DeferralOrder
from metrics.tables.paper import Row

_MOST_LENGTHS = 8  # each by itself; of more, quartiles
FEWEST = 10  # examples of a subgroup; percentiles of fewer say nothing

TARGET, LENGTH, UNCERTAINTY = "target", "target length, words", "uncertainty of the smallest"


def subgroups_table() -> Table:
    return Table(
        name="subgroups",
        title="Where the larger model helps and where it hurts, corrected for many subgroups",
        reading=(
            "The larger model's accuracy (translation: BLEU) minus the smaller's in each subgroup. The interval is of "
            "that subgroup alone; the simultaneous one holds for all subgroups of a pair of sizes together (max-T over "
            "the same resamples), and so do p and the verdict. Subgroups overlap: they are the dataset's own, the "
            "target, and how uncertain the smallest model is (rank of its margin, mean over runs, in Table 2's "
            "buckets)."
        ),
        columns=(
            *PAIR,
            Column("column", "By"),
            Column("value", "Subgroup"),
            Column("examples", "Examples", "", ",d"),
            Column("small_quality", "Small", QUALITY, ".2f"),
            Column("large_quality", "Large", QUALITY, ".2f"),
            Column("gain", "Gain", "points", "+.2f", interval=True),
            Column("simultaneous_low", "simultaneous from", "points", "+.2f"),
            Column("simultaneous_high", "to", "points", "+.2f"),
            Column("p", "p, for all", "", ".4f"),
            Column("verdict", "The larger model"),
            Column("subgroups", "Subgroups", "", "d", shown=False),
        ),
    )


@dataclass
class Subgroups:
    """One way to part the examples."""

    column: str
    values: list[str]
    group: np.ndarray  # [n] int, place in `values`; -1 for none of them


def subgroups_of(grid: Grid, margins: list[DeferralOrder], notes: list[str]) -> list[Subgroups]:
    """The dataset's slices, and what can be had of any dataset. `margins` are the smallest size's orders by margin."""
    columns = {name.removeprefix("slice_"): grid.slices[name] for name in sorted(grid.slices)}
    if grid.classes:
        columns[TARGET] = grid.target
    else:
        counts = [str(len(target.split())) for target in grid.target.values]
        values = list(dict.fromkeys(counts))
        lengths = Strings(values, Strings(counts, grid.target.codes).recoded(values))
        columns[LENGTH] = quartiles(lengths) if len(values) > _MOST_LENGTHS else lengths
    found = [Subgroups(name, *slice_groups(column, name, notes)) for name, column in columns.items()]
    names = [f"{name} {100 * low:g}-{100 * high:g} %" for name, low, high in BUCKETS]
    return [*found, Subgroups(UNCERTAINTY, names, uncertainty_buckets(margins))]


def uncertainty_buckets(margins: list[DeferralOrder]) -> np.ndarray:
    """Table 2's buckets by the mean over runs of an example's rank, most certain first, ties shared: [n] int, 0-4.

    Examples that tie in their mean rank go by their place in the data.
    """
    n = margins[0].examples
    rank = np.zeros(n)
    for deferral in margins:
        middle = (deferral.knots[:-1] + deferral.knots[1:]) / 2
        rank[deferral.order] -= np.repeat(middle, np.diff(deferral.knots))
    place = np.empty(n, dtype=np.int64)
    place[np.argsort(rank, kind="stable")] = np.arange(n)
    return np.searchsorted([high * n for _, _, high in BUCKETS[:-1]], place, side="right")


def subgroups(
    analysis: Analysis, columns: list[Subgroups], resampling: Resampling, confidence: float
) -> tuple[list[Row], list[str]]:
    """One row a (small, large, subgroup) of ten examples or more, and notes."""
    grid = analysis.grid
    counts = [np.bincount(one.group[one.group >= 0], minlength=len(one.values)) for one in columns]
    kept = [(one, code) for one, count in zip(columns, counts) for code in np.flatnonzero(count >= FEWEST).tolist()]
    left_out = sum(int((count > 0).sum()) for count in counts) - len(kept)
    notes = [f"{left_out} subgroups have fewer than {FEWEST} examples and are left out."] if left_out else []
    drawn = {one.column: GroupSamples(grid.sizes, one.group, len(one.values), resampling).quality for one in columns}
    quality = {
        (one.column, code, size.name): quality_inside(size, one.group == code)
        for one, code in kept
        for size in grid.sizes
    }
    rows: list[Row] = []
    for small, large in grid.pairs:
        rows_of_pair: list[Row] = []
        values, samples = np.zeros(len(kept)), np.zeros((len(kept), resampling.resamples))
        for k, (one, code) in enumerate(kept):
            a, b = (quality[one.column, code, size.name] for size in (small, large))
            values[k] = b - a
            samples[k] = drawn[one.column][large.name][code] - drawn[one.column][small.name][code]
            rows_of_pair.append(
                {
                    **of_pair(analysis, small.name, large.name),
                    "column": one.column,
                    "value": one.values[code],
                    "examples": int((one.group == code).sum()),
                    "small_quality": 100 * a,
                    "large_quality": 100 * b,
                    **interval_of("gain", estimate(values[k], samples[k], confidence), 100),
                }
            )
        low, high, p = simultaneous(values, samples, confidence)
        for k, row in enumerate(rows_of_pair):
            verdict = "no interval" if np.isnan(low[k]) else "helps" if low[k] > 0 else "hurts" if high[k] < 0 else "-"
            row |= {
                "simultaneous_low": 100 * float(low[k]),
                "simultaneous_high": 100 * float(high[k]),
                "p": float(p[k]),
                "verdict": verdict,
                "subgroups": len(kept),
            }
        rows += rows_of_pair
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
