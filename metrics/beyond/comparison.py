"""Paired tests: is one score's cell of Table 1 or 3 above another's, on the same runs and examples?"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.beyond.table import PAIR, SCORE, Column, Table, interval_of, of_pair, of_score
from metrics.bootstrap import SwitcherSamples
from metrics.bootstrap.resampling import estimate
from metrics.tables.paper import Row

STATISTICS = (("table1", "peak_gain"), ("table3", "area"))


def score_comparison_table() -> Table:
    return Table(
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
    )


def score_comparison(
    analysis: Analysis,
    samples: Mapping[str, SwitcherSamples],
    distinct: Mapping[str, Mapping[str, Sequence[str]]],
    confidence: float,
) -> list[Row]:
    """One row a (small, large, table, score, other score); `samples` and `distinct` by small size.

    [] without resamples. Scores that order every run's examples alike, as margin and entropy of two classes do, are
    one score here: the keys of `distinct`.
    """
    rows: list[Row] = []
    for pair in analysis.pairs:
        scores = [score for score in pair.scores if score in distinct[pair.small]]
        for table, attribute in STATISTICS:
            drawn = getattr(samples[pair.small], attribute)
            cells = getattr(pair, attribute)
            if not drawn[pair.large, scores[0]].size:
                return []
            of_table = []
            for one, other in combinations(scores, 2):
                differences = drawn[pair.large, one] - drawn[pair.large, other]
                value = cells[one].value - cells[other].value
                of_table.append(
                    {
                        **of_pair(analysis, pair.small, pair.large),
                        "table": table,
                        **of_score(one),
                        "other_title": of_score(other)["score_title"],
                        "other": other,
                        **interval_of("difference", estimate(value, differences, confidence), 100),
                        "p": two_sided_p(differences),
                    }
                )
            adjusted = holm([row["p"] for row in of_table])
            rows += [{**row, "p_holm": p, "comparisons": len(of_table)} for row, p in zip(of_table, adjusted)]
    return rows


def two_sided_p(samples: np.ndarray) -> float:
    """2 min(P(sample ≤ 0), P(sample ≥ 0)) of resampled differences [B], at most 1: the level at which the percentile
    interval just holds 0 (Efron & Tibshirani 1993, ch. 15.4, by inversion). NaN samples are left out.

    One is added to each count and to B (Davison & Hinkley 1997, eq. 4.11), so that no p is 0.
    """
    usable = samples[~np.isnan(samples)]
    if not len(usable):
        return float("nan")
    least = min(np.count_nonzero(usable <= 0), np.count_nonzero(usable >= 0))
    return float(min(1.0, 2 * (1 + least) / (1 + len(usable))))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down: the k-th smallest of m, times m - k + 1, made non-decreasing, at most 1. NaN stays."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")  # NaN last
    m = int((~np.isnan(values)).sum())
    result = np.full(len(values), np.nan)
    result[order[:m]] = np.minimum(1.0, np.maximum.accumulate(values[order[:m]] * (m - np.arange(m))))
    return result.tolist()
