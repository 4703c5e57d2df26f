"""Tells in which subgroups the larger model helps or hurts, and what of that survives looking at all of them."""

from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.slices import quality_inside, quartiles, slice_groups
from metrics.beyond.table import PAIR, QUALITY, BeyondTable, Context, Observer, interval_entries, pair_entries
from metrics.bootstrap import GroupSamples
from metrics.bootstrap.resampling import Resampling, estimate
from metrics.grid.runs import Grid
from metrics.scores import Strings
from metrics.statistics.churn import BUCKETS
from metrics.statistics.switcher import DeferralOrder
from metrics.tables.table import Column, Row

_MOST_LENGTHS = 8  # each by itself; of more, quartiles
FEWEST = 10  # examples of a subgroup; percentiles of fewer say nothing

TARGET, LENGTH, UNCERTAINTY = "target", "target length, words", "uncertainty of the smallest"


class SubgroupGains(Observer):
    """Parts the examples into subgroups once, by the smallest size's margins in the first context."""

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self._context: Context = None
        self._resampling: Resampling | None = None  # None until the smallest size has been observed
        self._partitions: list[Partition] = []
        self._notes: list[str] = []

    def observe(self, view: SizeView) -> None:
        """Parts the examples, if this is the first view of the smallest size."""
        if self._resampling is not None:
            return
        self._context, self._resampling = view.context, view.resampling
        self._partitions = partitions_of(self.grid, view.orders["margin"], self._notes)
        counts = np.concatenate([partition.counts for partition in self._partitions])
        left_out = int(((counts > 0) & (counts < FEWEST)).sum())
        if left_out:
            self._notes.append(f"{left_out} subgroups have fewer than {FEWEST} examples and are left out.")

    def notes(self) -> list[str]:
        """Returns what the table lacks of this dataset, and which subgroups it leaves out."""
        return [*super().notes(), *self._notes]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, subgroup), in the first context: sizes are as good in either."""
        if analysis.context != self._context or self._resampling is None:
            return []
        return subgroup_rows(analysis, self._partitions, self._resampling, self.config.confidence)


SUBGROUPS = BeyondTable(
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
    observer=SubgroupGains,
    rows=SubgroupGains.rows,
)


@dataclass
class Partition:
    """Holds one way to part the examples into subgroups."""

    column: str
    values: list[str]
    group: np.ndarray  # [n] int, place in `values`; -1 for none of them

    @property
    def counts(self) -> np.ndarray:
        """Returns how many examples each subgroup has: [V] int."""
        return np.bincount(self.group[self.group >= 0], minlength=len(self.values))


def partitions_of(grid: Grid, margins: list[DeferralOrder], notes: list[str]) -> list[Partition]:
    """Returns the dataset's slices, and partitions that can be had of any dataset.

    `margins` are the smallest size's orders of deferral by margin. Adds to `notes` which values of slices are left out.
    """
    columns = {name.removeprefix("slice_"): grid.slices[name] for name in sorted(grid.slices)}
    if grid.classes:
        columns[TARGET] = grid.target
    else:
        counts = [str(len(target.split())) for target in grid.target.values]
        values = list(dict.fromkeys(counts))
        lengths = Strings(values, Strings(counts, grid.target.codes).recoded(values))
        columns[LENGTH] = quartiles(lengths) if len(values) > _MOST_LENGTHS else lengths
    partitions = [Partition(name, *slice_groups(column, name, notes)) for name, column in columns.items()]
    names = [f"{name} {100 * low:g}-{100 * high:g} %" for name, low, high in BUCKETS]
    return [*partitions, Partition(UNCERTAINTY, names, uncertainty_buckets(margins))]


def uncertainty_buckets(margins: list[DeferralOrder]) -> np.ndarray:
    """Returns Table 2's buckets by an example's rank, mean over runs, most certain first, ties shared: [n] int, 0-4.

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


def subgroup_rows(
    analysis: Analysis, partitions: list[Partition], resampling: Resampling, confidence: float
) -> list[Row]:
    """Returns a row for each (small, large, subgroup of ten examples or more)."""
    sizes = analysis.grid.sizes
    kept = [
        (partition, code) for partition in partitions for code in np.flatnonzero(partition.counts >= FEWEST).tolist()
    ]
    resampled = {
        partition.column: GroupSamples(sizes, partition.group, len(partition.values), resampling).quality
        for partition in partitions
    }
    quality = {
        (partition.column, code, size.name): quality_inside(size, partition.group == code)
        for partition, code in kept
        for size in sizes
    }
    rows: list[Row] = []
    for small, large in analysis.grid.pairs:
        rows_of_pair: list[Row] = []
        gains, samples = np.zeros(len(kept)), np.zeros((len(kept), resampling.resamples))
        for k, (partition, code) in enumerate(kept):
            of_small, of_large = (quality[partition.column, code, size.name] for size in (small, large))
            of_groups = resampled[partition.column]
            gains[k] = of_large - of_small
            samples[k] = of_groups[large.name][code] - of_groups[small.name][code]
            rows_of_pair.append(
                {
                    **pair_entries(analysis, small.name, large.name),
                    "column": partition.column,
                    "value": partition.values[code],
                    "examples": int(partition.counts[code]),
                    "small_quality": 100 * of_small,
                    "large_quality": 100 * of_large,
                    **interval_entries("gain", estimate(gains[k], samples[k], confidence), 100),
                }
            )
        low, high, p = simultaneous(gains, samples, confidence)
        for k, row in enumerate(rows_of_pair):
            row |= {
                "simultaneous_low": 100 * float(low[k]),
                "simultaneous_high": 100 * float(high[k]),
                "p": float(p[k]),
                "verdict": _verdict(low[k], high[k]),
                "subgroups": len(kept),
            }
        rows += rows_of_pair
    return rows


def _verdict(low: float, high: float) -> str:
    """Returns what the larger model does, from a simultaneous interval of its gain."""
    if np.isnan(low):
        return "no interval"
    return "helps" if low > 0 else "hurts" if high < 0 else "-"


def simultaneous(values: np.ndarray, samples: np.ndarray, confidence: float) -> tuple[np.ndarray, ...]:
    """Returns simultaneous intervals and adjusted p by the single-step max-T: [V], [V, B] -> low, high, p, each [V].

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
        drawn = ~np.isnan(deviations)  # a resample may hold no example of a subgroup
        count = drawn.sum(axis=1)
        sd = np.sqrt(np.square(np.where(drawn, deviations, 0.0)).sum(axis=1) / np.maximum(count - 1, 1))
    usable = (count > 1) & (sd > 0)
    if not usable.any():
        return low, high, p
    scaled = np.where(drawn[usable], np.abs(deviations[usable]), 0.0) / sd[usable, None]
    largest = scaled.max(axis=0)  # [B]
    reach = np.quantile(largest, confidence) * sd[usable]
    low[usable], high[usable] = values[usable] - reach, values[usable] + reach
    at_least = (largest[None, :] >= (np.abs(values[usable]) / sd[usable])[:, None]).sum(axis=1)
    p[usable] = (1 + at_least) / (1 + samples.shape[1])
    return low, high, p
