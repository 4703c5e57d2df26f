"""Gives RouterBench's AIQ: the mean quality over all costs that a switcher offers, beside the paper's own gain."""

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.beyond.cost import passes, relative_cost, unknown_flops
from metrics.beyond.table import (
    PAIR,
    QUALITY,
    SCORE,
    BeyondTable,
    Observer,
    interval_entries,
    pair_entries,
    score_entries,
)
from metrics.bootstrap.resampling import estimate
from metrics.statistics.hull import hull_area
from metrics.statistics.switcher import FRACTIONS
from metrics.tables.table import Column, Row


class QualityOverCost(Observer):
    """Keeps the resampled switchers, of whose curves the hulls are taken."""

    deployable_only = True

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*unknown_flops(self.grid), *super().gaps()]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), in percent and points.

        AIQ is the area under the non-decreasing hull of (cost, quality) from the cost of the smaller model to that of
        the larger, over the difference of these costs (Hu et al. 2024, arXiv 2403.12031, section 3). Its points are
        both models alone and the switcher at every stored fraction that costs no more than the larger model.
        """
        confidence = self.config.confidence
        rows: list[Row] = []
        for pair in analysis.pairs:
            ratio = relative_cost(self.grid, pair.small, pair.large)
            for score in pair.scores:
                score_cost = passes(score, pair.committee) * ratio
                curve = pair.curve[score][:, None]
                curves = self.samples[analysis.context, pair.small].curve[pair.large, score]
                aiq, alone = quality_over_cost(curve, ratio, score_cost), without_switcher(curve)
                aiqs, alones = quality_over_cost(curves, ratio, score_cost), without_switcher(curves)
                rows.append(
                    {
                        **pair_entries(analysis, pair.small, pair.large),
                        **score_entries(score),
                        "small_cost": 100 * ratio,
                        "score_cost": 100 * score_cost,
                        **interval_entries("aiq", estimate(aiq[0], aiqs, confidence), 100),
                        "aiq_alone": 100 * float(alone[0]) if ratio < 1 else float("nan"),
                        **interval_entries("aiq_gain", estimate(aiq[0] - alone[0], aiqs - alones, confidence), 100),
                        **interval_entries("table3", pair.area[score], 100),
                    }
                )
        return rows


AIQ = BeyondTable(
    name="aiq",
    title="Quality over all costs (AIQ) beside the gain over random",
    reading=(
        "AIQ is the quality averaged over all costs between the smaller and the larger model's, where at each cost the "
        "best mixture of both models and the switcher is taken: the non-decreasing hull (RouterBench). Both models "
        "alone: the same without the switcher. The gain is never below 0, as a hull leaves out what is worse: a "
        "switcher that is worse than random at some fractions, or costs more than the larger model, looks no worse by "
        "it. The paper's own gain, Table 3, shows that; it charges nothing for the score. Intervals are percentiles of "
        "the resamples, whose hulls are a little above the hull of the mean. -: the smaller model is no cheaper."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("small_cost", "Smaller model's cost", "%", ".1f"),
        Column("score_cost", "Cost of the score", "%", ".1f"),
        Column("aiq", "AIQ", QUALITY, ".2f", interval=True),
        Column("aiq_alone", "Both models alone", QUALITY, ".2f"),
        Column("aiq_gain", "AIQ's gain", "points", "+.2f", interval=True),
        Column("table3", "Gain over random (Table 3)", "points", "+.2f", interval=True),
    ),
    observer=QualityOverCost,
    rows=QualityOverCost.rows,
)


def quality_over_cost(curves: np.ndarray, small_cost: float, score_cost: float) -> np.ndarray:
    """Returns the AIQ of switchers [101, B] whose smaller model and whose score cost so much of the larger: [B].

    NaN where the smaller model costs as much as the larger.
    """
    if not small_cost < 1:
        return np.full(curves.shape[1], np.nan)
    within = score_cost + FRACTIONS <= 1 + 1e-12
    cost = np.concatenate([[small_cost], score_cost + FRACTIONS[within], [1.0]])
    quality = np.concatenate([curves[:1], curves[within], curves[-1:]])
    order = np.argsort(cost, kind="stable")
    return hull_area(np.minimum(cost[order], 1.0), quality[order]) / (1 - small_cost)


def without_switcher(curves: np.ndarray) -> np.ndarray:
    """Returns the AIQ of both models alone, from the ends of switcher curves [101, B]: [B]."""
    alone: np.ndarray = (curves[0] + np.maximum(curves[0], curves[-1])) / 2
    return alone
