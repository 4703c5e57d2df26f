"""Tests scores in pairs: whether one's cell of Table 1 or 3 is above another's, on the same runs and examples."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.intervals import t_estimate
from metrics.beyond.table import (
    PAIR,
    SCORE,
    BeyondTable,
    Context,
    Observer,
    interval_entries,
    pair_entries,
    score_entries,
)
from metrics.grid.runs import Grid
from metrics.statistics.components import Variance, variance_of_pairs, variance_of_resamples
from metrics.tables.table import Column, Row

STATISTICS = (("table1", "peak_gain"), ("table3", "area"))


class ScoreComparison(Observer):
    """Keeps of each pair of scores how sure the difference of their cells is."""

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        # (context, small, large, table) -> (one score, other score) -> the variance of the difference, fractions
        self.variances: dict[tuple[Context, str, str, str], dict[tuple[str, str], Variance]] = {}

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if view.samples is None or not self.config.resamples:
            return
        for large in view.larger:
            for table, statistic in STATISTICS:
                self.variances[view.context, view.size.name, large.name, table] = {
                    (one, other): _variance_of_difference(view, large.name, statistic, one, other)
                    for one, other in combinations(view.distinct, 2)
                }

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        alone = [size.name for size in self.grid.sizes if len(size.seeds) == 1]
        return [
            *super().gaps(),
            *([] if self.config.resamples else ["metrics.resamples=0: no tests."]),
            *(f"{name} has one seed: no tests of it, and intervals are of its examples alone." for name in alone),
        ]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, table, score, other score); none without resamples.

        Scores that order every run's examples alike, as margin and entropy of two classes do, are one score here.
        """
        rows: list[Row] = []
        for pair in analysis.pairs:
            for table, statistic in STATISTICS:
                cells = getattr(pair, statistic)
                compared: list[Row] = []
                variances = self.variances.get((analysis.context, pair.small, pair.large, table), {})
                for (one, other), variance in variances.items():
                    value = cells[one].value - cells[other].value
                    compared.append(
                        {
                            **pair_entries(analysis, pair.small, pair.large),
                            "table": table,
                            **score_entries(one),
                            "other_title": score_entries(other)["score_title"],
                            "other": other,
                            **interval_entries("difference", t_estimate(value, variance, self.config.confidence), 100),
                            "p": variance.p_value(value),
                        }
                    )
                tests = [row["p"] for row in compared]
                made = sum(not math.isnan(p) for p in tests)
                rows += [{**row, "p_holm": p, "comparisons": made} for row, p in zip(compared, holm(tests))]
        return rows


def _variance_of_difference(view: SizeView, large: str, statistic: str, one: str, other: str) -> Variance:
    """Returns the variance of one score's mean cell minus another's, of the same runs and examples."""
    assert view.samples is not None
    of_one, of_other = view.results[one], view.results[other]
    cells = getattr(of_one.switchers[large], statistic) - getattr(of_other.switchers[large], statistic)
    if statistic == "area" and large in of_one.influence:
        return variance_of_pairs(cells, of_one.influence[large].minus(of_other.influence[large]))
    samples = getattr(view.samples, statistic)
    return variance_of_resamples(cells, samples[large, one] - samples[large, other])


SCORE_COMPARISON = BeyondTable(
    name="score_comparison",
    title="Paired tests between scores",
    reading=(
        "The first score's cell minus the second's, both of the same runs and examples: above 0, the first defers "
        "better. The interval and the two-sided p are Student's t, from how the difference varies between the runs of "
        "either size and between examples; Holm's p holds for all comparisons of one table and one pair of sizes "
        "together, and it is the one to go by. With one run of a size nothing is known of other runs: there is no p."
    ),
    columns=(
        *PAIR,
        Column("table", "Of"),
        *SCORE,
        Column("other_title", "minus"),
        Column("other", "other", shown=False),
        Column("difference", "Difference", "points", "+.2f", interval=True),
        Column("p", "p", "", ".4f"),
        Column("p_holm", "Holm's p", "", ".4f"),
        Column("comparisons", "of", "", "d"),
    ),
    observer=ScoreComparison,
    rows=ScoreComparison.rows,
)


def holm(p: Sequence[float]) -> list[float]:
    """Returns p adjusted for their number by Holm's (1979) step-down; NaN stays NaN and isn't counted.

    The k-th smallest of m is multiplied by m - k + 1; the results are made non-decreasing, and at most 1.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")  # NaN last
    m = int((~np.isnan(values)).sum())
    result = np.full(len(values), np.nan)
    result[order[:m]] = np.minimum(1.0, np.maximum.accumulate(values[order[:m]] * (m - np.arange(m))))
    return result.tolist()
