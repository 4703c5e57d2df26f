"""Tests scores in pairs: whether one's cell of Table 1 or 3 is above another's, on the same runs and examples."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
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
from metrics.bootstrap.resampling import estimate
from metrics.grid.runs import Grid
from metrics.tables.table import Column, Row

STATISTICS = (("table1", "peak_gain"), ("table3", "area"))


class ScoreComparison(Observer):
    """Keeps which scores of each size order its examples differently."""

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.distinct: dict[tuple[Context, str], set[str]] = {}  # by context and small size

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        self.distinct[view.context, view.size.name] = set(view.distinct)

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*super().gaps(), *([] if self.config.resamples else ["metrics.resamples=0: no tests."])]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, table, score, other score); none without resamples.

        Scores that order every run's examples alike, as margin and entropy of two classes do, are one score here.
        """
        rows: list[Row] = []
        for pair in analysis.pairs:
            scores = [score for score in pair.scores if score in self.distinct[analysis.context, pair.small]]
            for table, statistic in STATISTICS:
                samples = getattr(self.samples[analysis.context, pair.small], statistic)
                cells = getattr(pair, statistic)
                if not samples[pair.large, scores[0]].size:
                    return []
                compared: list[Row] = []
                for one, other in combinations(scores, 2):
                    differences = samples[pair.large, one] - samples[pair.large, other]
                    value = cells[one].value - cells[other].value
                    difference = estimate(value, differences, self.config.confidence)
                    compared.append(
                        {
                            **pair_entries(analysis, pair.small, pair.large),
                            "table": table,
                            **score_entries(one),
                            "other_title": score_entries(other)["score_title"],
                            "other": other,
                            **interval_entries("difference", difference, 100),
                            "p": two_sided_p(differences),
                        }
                    )
                adjusted = holm([row["p"] for row in compared])
                rows += [{**row, "p_holm": p, "comparisons": len(compared)} for row, p in zip(compared, adjusted)]
        return rows


SCORE_COMPARISON = BeyondTable(
    name="score_comparison",
    title="Paired tests between scores",
    reading=(
        "The first score's cell minus the second's, both taken from the same resampled runs and examples: above 0, "
        "the first defers better. p is two-sided, from the resamples; Holm's holds for all comparisons of one "
        "table and one pair of sizes together, and it is the one to go by. It can't be smaller than the number "
        "of comparisons times 2/(resamples + 1): raise metrics.resamples to tell smaller ones apart."
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


def two_sided_p(samples: np.ndarray) -> float:
    """Returns the two-sided p of resampled differences [B]: 2 min(P(sample ≤ 0), P(sample ≥ 0)), at most 1.

    It is the level at which the percentile interval just holds 0 (Efron & Tibshirani 1993, ch. 15.4, by inversion).
    NaN samples are left out; without any other, p is NaN. One is added to each count and to B (Davison & Hinkley 1997,
    eq. 4.11), so that no p is 0.
    """
    usable = samples[~np.isnan(samples)]
    if not len(usable):
        return float("nan")
    least = min(np.count_nonzero(usable <= 0), np.count_nonzero(usable >= 0))
    return float(min(1.0, 2 * (1 + least) / (1 + len(usable))))


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
