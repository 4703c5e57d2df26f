"""Says how few examples have to be deferred: for parts of the larger model's gain, and to be at most ε below it."""

import math

from metrics.analysis.dataset import Analysis
from metrics.analysis.least_share import PARTS
from metrics.beyond.table import PAIR, SCORE, BeyondTable, Observer, interval_entries, pair_entries, score_entries
from metrics.bootstrap.resampling import Estimate
from metrics.tables.table import Column, Row


class LeastShareRows(Observer):
    """Makes the rows; the analysis has every number."""

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), in percent."""
        rows: list[Row] = []
        for pair in analysis.pairs:
            for score, shares in pair.least_share.items():
                row: Row = {
                    **pair_entries(analysis, pair.small, pair.large),
                    **score_entries(score),
                    **interval_entries("gap", pair.gap, 100),
                }
                for part, share in shares.reaching.items():
                    row |= interval_entries(f"share_{100 * part:g}", share, 100)
                row["epsilon"] = 100 * shares.epsilon
                row["share_within_epsilon"] = 100 * shares.within_epsilon
                row["readable"] = gap_can_be_read(pair.gap)
                rows.append(row)
        return rows


def gap_can_be_read(gap: Estimate) -> str:
    """Says whether parts of the gap mean something: "yes", or "no" and why."""
    if gap.value <= 0:
        return "no: the larger model is no better"
    return "no: the gap may be 0" if not gap.above_zero and not math.isnan(gap.low) else "yes"


LEAST_SHARE = BeyondTable(
    name="least_share",
    title="Least share to defer: for parts of the larger model's gain, and to be at most ε below it",
    reading=(
        "The least share of examples that has to be deferred so that the mixture's quality is that part of the way "
        "from the smaller to the larger model (RouteLLM's call-performance threshold). The interval holds the share "
        "that is needed in the population of examples and runs. Parts of a gap that may be 0 are not given. At most ε "
        "below: from this share on the lower end of the interval of the mixture minus the larger model is at least -ε "
        "(100 %: only all examples are)."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("gap", "Gap", "points", ".2f", interval=True),
        *(
            Column(f"share_{100 * part:g}", f"Share for {100 * part:g} % of the gap", "%", ".1f", interval=True)
            for part in PARTS
        ),
        Column("epsilon", "ε", "points", ".2f"),
        Column("share_within_epsilon", "Share to be at most ε below", "%", ".1f"),
        Column("readable", "Parts can be read?"),
    ),
    observer=LeastShareRows,
    rows=LeastShareRows.rows,
    choices=lambda config: [f"epsilon:{config.epsilon:g}"],
)
