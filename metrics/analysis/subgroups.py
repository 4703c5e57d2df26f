"""Estimates a larger size's gain in subgroups of the examples, corrected for looking at all of them.

The subgroups are the dataset's own slices, the targets, and how uncertain the smallest size is. The subgroups table and
the report's sentences both claim what is found here, so neither says more than the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metrics.analysis.example_group import ExampleGroup
from metrics.analysis.intervals import ExampleChoice, t_estimate
from metrics.analysis.slices import quartiles, slice_groups
from metrics.bootstrap import GroupSamples
from metrics.bootstrap.resampling import Estimate, Resampling
from metrics.grid.runs import Grid
from metrics.scores import Strings
from metrics.statistics.churn import BUCKETS
from metrics.statistics.components import Variance
from metrics.statistics.switcher import DeferralOrder

_MOST_LENGTHS = 8  # each by itself; of more, quartiles
FEWEST = 10  # examples of a subgroup; percentiles of fewer say nothing

TARGET, LENGTH, UNCERTAINTY = "target", "target length, words", "uncertainty of the smallest"


@dataclass
class SubgroupGain:
    """Holds what a larger size gains over a smaller one in one subgroup. Qualities and gains are 0-1."""

    column: str
    value: str
    examples: int
    small: str
    large: str
    small_quality: float
    large_quality: float
    gain: Estimate  # with the interval of this subgroup alone
    simultaneous: Estimate  # the same gain; its interval holds for all subgroups of the pair of sizes together
    p: float  # adjusted for all subgroups; NaN without an interval, and where a size has one run
    of_other_runs: bool  # whether the intervals hold the spread of runs, so that they speak of other runs too


@dataclass
class Subgroups:
    """Holds the gains of every pair of sizes in each subgroup of `FEWEST` examples or more."""

    gains: list[SubgroupGain] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # which subgroups are left out

    def of_slices(self, column: str, small: str, large: str) -> dict[str, SubgroupGain]:
        """Returns the gains of a pair of sizes in the values of a slice column, by value; without the small groups."""
        name = column_name(column)
        return {
            gain.value: gain for gain in self.gains if (gain.column, gain.small, gain.large) == (name, small, large)
        }


def column_name(slice_column: str) -> str:
    """Returns the name of a slice column here: `slice_kind` is `kind`, if no other kind of subgroup has that name."""
    name = slice_column.removeprefix("slice_")
    return slice_column if name in (TARGET, LENGTH, UNCERTAINTY) else name


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


def partitions_of(grid: Grid, uncertainty: np.ndarray, notes: list[str]) -> list[Partition]:
    """Returns the dataset's slices, and partitions that can be had of any dataset.

    `uncertainty` [n] int is what `uncertainty_buckets` returns of the smallest size. Adds to `notes` which values of
    slices are left out.
    """
    columns = {column_name(name): grid.slices[name] for name in sorted(grid.slices)}
    if grid.classes:
        columns[TARGET] = grid.target
    else:
        counts = [str(len(target.split())) for target in grid.target.values]
        values = list(dict.fromkeys(counts))
        lengths = Strings(values, Strings(counts, grid.target.codes).recoded(values))
        columns[LENGTH] = quartiles(lengths) if len(values) > _MOST_LENGTHS else lengths
    partitions = [Partition(name, *slice_groups(column, name, notes)) for name, column in columns.items()]
    names = [f"{name} {100 * low:g}-{100 * high:g} %" for name, low, high in BUCKETS]
    return [*partitions, Partition(UNCERTAINTY, names, uncertainty)]


def uncertainty_buckets(margins: list[DeferralOrder]) -> np.ndarray:
    """Returns Table 2's buckets by an example's rank, mean over runs, most certain first, ties shared: [n] int8, 0-4.

    Examples that tie in their mean rank go by their place in the data.
    """
    n = margins[0].examples
    rank = np.zeros(n)
    for deferral in margins:
        middle = (deferral.knots[:-1] + deferral.knots[1:]) / 2
        rank[deferral.order] -= np.repeat(middle, np.diff(deferral.knots))
    place = np.empty(n, dtype=np.int64)
    place[np.argsort(rank, kind="stable")] = np.arange(n)
    return np.searchsorted([high * n for _, _, high in BUCKETS[:-1]], place, side="right").astype(np.int8)


def subgroup_gains(
    grid: Grid, uncertainty: np.ndarray, resampling: Resampling, choice: ExampleChoice | None, confidence: float
) -> Subgroups:
    """Estimates every pair's gain in every subgroup of ten examples or more; `uncertainty` as in `partitions_of`.

    `choice` chooses the examples whose influence makes the intervals; None where resamples make them.
    """
    result = Subgroups()
    if not grid.pairs:
        return result
    partitions = partitions_of(grid, uncertainty, result.notes)
    counts = np.concatenate([partition.counts for partition in partitions])
    left_out = int(((counts > 0) & (counts < FEWEST)).sum())
    if left_out:
        result.notes.append(f"{left_out} subgroups have fewer than {FEWEST} examples and are left out.")
    kept: list[tuple[Partition, int, ExampleGroup]] = []
    for partition in partitions:
        samples = GroupSamples(grid.sizes, partition.group, len(partition.values), resampling).quality
        for code in np.flatnonzero(partition.counts >= FEWEST).tolist():
            of_group = {size.name: samples[size.name][code] for size in grid.sizes}
            kept.append((partition, code, ExampleGroup.inside(grid.sizes, partition.group == code, of_group, choice)))
    for small, large in grid.pairs:
        values = np.array([group.gain(small.name, large.name) for _, _, group in kept])
        gain_samples = [group.gain_samples(small.name, large.name) for _, _, group in kept]
        variances = [group.gain_variance(small.name, large.name) for _, _, group in kept]
        low, high, p = simultaneous(values, np.array(gain_samples), confidence, variances)
        result.gains += [
            SubgroupGain(
                column=partition.column,
                value=partition.values[code],
                examples=int(partition.counts[code]),
                small=small.name,
                large=large.name,
                small_quality=float(group.quality[small.name].mean()),
                large_quality=float(group.quality[large.name].mean()),
                gain=t_estimate(values[k], variances[k], confidence),
                simultaneous=Estimate(float(values[k]), float(low[k]), float(high[k])),
                p=float(p[k]),
                of_other_runs=variances[k].runs,
            )
            for k, (partition, code, group) in enumerate(kept)
        ]
    return result


def simultaneous(
    values: np.ndarray, samples: np.ndarray, confidence: float, variances: Sequence[Variance] | None = None
) -> tuple[np.ndarray, ...]:
    """Returns simultaneous intervals and adjusted p by the single-step max-T: [V], [V, B] -> low, high, p, each [V].

    With sd the samples' standard deviation and M_b = max over v of |sample - value| / sd, the intervals are
    value ± (confidence quantile of M) sd, and p = (1 + #{M_b ≥ |value| / sd}) / (1 + B) (Westfall & Young 1993, ch. 2).
    It takes the subgroups' dependence from the resamples, unlike Bonferroni. Without samples, or where they don't
    vary, NaN; a sample in which a subgroup was not drawn is left out of that subgroup.

    With `variances` the samples give the dependence alone, and Student's t how sure each subgroup is by itself: the
    quantile of M is the normal one of some confidence, and the intervals are t's of that confidence; a subgroup's own
    p is made the normal deviate of that p, to be compared with M (the single-step minP of the same authors). Where a
    variance holds no spread of runs, p is NaN: nothing is said of other runs.
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
    largest = np.sort(scaled.max(axis=0))  # [B]
    critical = np.quantile(largest, confidence)
    if variances is None:
        reach, deviate = critical * sd[usable], np.abs(values[usable]) / sd[usable]
    else:
        from scipy.stats import norm

        by_usable = [variance for variance, kept in zip(variances, usable, strict=True) if kept]
        reach = np.array([variance.half_width(1 - 2 * float(norm.sf(critical))) for variance in by_usable])
        own = [variance.p_value(value) for variance, value in zip(by_usable, values[usable], strict=True)]
        deviate = norm.isf(np.array(own) / 2)
    low[usable], high[usable] = values[usable] - reach, values[usable] + reach
    at_least = len(largest) - np.searchsorted(largest, deviate, side="left")
    p[usable] = np.where(np.isnan(deviate), np.nan, (1 + at_least) / (1 + samples.shape[1]))
    return low, high, p
