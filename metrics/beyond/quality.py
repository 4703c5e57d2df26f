"""Measures deferral quality: what share a score gains of all that choosing well whom to defer could gain.

Deferring at random gives the chord from a to b, the perfect router (score d = l - s) the most that any score can; a
score is somewhere between, or below.
"""

import math

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond.table import (
    PAIR,
    QUALITY,
    SCORE,
    BeyondTable,
    Context,
    Observer,
    interval_entries,
    pair_entries,
    score_entries,
)
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import Grid, SizeRuns
from metrics.tables.table import Column, Row

SMALL_GAP = 0.01  # below it, or with 0 in its interval, APGR says nothing


class DeferralQuality(Observer):
    """Keeps each size's resampled quality, and what the perfect router would gain of each pair of sizes."""

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.quality: dict[Context, dict[str, np.ndarray]] = {}  # size -> [B]
        # (small, large) -> [B], alike in every context; empty of BLEU, which has no perfect router in closed form
        self.perfect: dict[tuple[str, str], np.ndarray] = {}

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        self.quality[view.context] = view.quality
        for large in view.larger:
            if self.grid.task != "translation" and (view.size.name, large.name) not in self.perfect:
                self.perfect[view.size.name, large.name] = perfect_samples(view.size, large, view.resampling)

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        if self.grid.task == "translation":
            return ["Translation: BLEU has no perfect router in closed form."]
        return super().gaps()

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score).

        share_of_perfect = mean over pairs of runs of ∫ (S - chord) df, over the mean of [w(1 - w) + l'(1 - l')] / 2, in
        percent (the perfect router's closed form; a ratio of means, so that pairs without anything to gain do no harm;
        NaN of BLEU, which has no such form). area = ∫ S df = Table 3 + (a + b) / 2, percent or BLEU. apgr = mean over f
        of (S(f) - a) / (b - a) = 1/2 + Table 3 / (b - a) (RouteLLM, Ong et al. 2024, average performance gap
        recovered); NaN unless b > a, and without an interval where the gap's holds 0: the ratio has none there.
        """
        rows: list[Row] = []
        confidence = self.config.confidence
        means = {size.name: float(size.quality.mean()) for size in self.grid.sizes}
        for pair in analysis.pairs:
            small, large = (self.quality[analysis.context][size] for size in (pair.small, pair.large))
            ceiling = self.perfect.get((pair.small, pair.large), np.full_like(small, np.nan))
            best = float(pair.bounds.perfect_area.mean())
            middle = (means[pair.small] + means[pair.large]) / 2
            middles = (small + large) / 2
            for score in pair.scores:
                area = pair.area[score].value
                areas = self.samples[analysis.context, pair.small].area[pair.large, score]
                share = estimate(_ratio(area, best), _ratios(areas, ceiling), confidence)
                recovered, warning = apgr(area, areas, pair.gap, large - small, confidence)
                rows.append(
                    {
                        **pair_entries(analysis, pair.small, pair.large),
                        **score_entries(score),
                        **interval_entries("share_of_perfect", share, 100),
                        **interval_entries("area", estimate(area + middle, areas + middles, confidence), 100),
                        "random_area": 100 * middle,
                        **interval_entries("perfect_area", estimate(best + middle, ceiling + middles, confidence), 100),
                        **interval_entries("gap", pair.gap, 100),
                        **interval_entries("apgr", recovered),
                        "apgr_warning": warning,
                    }
                )
        return rows


DEFERRAL_QUALITY = BeyondTable(
    name="deferral_quality",
    title="Deferral quality: gain over random against the perfect router's, area under the deferral curve, APGR",
    reading=(
        "0 % of the perfect router's gain is deferring at random, 100 % is knowing for every example which model "
        "is right. The area is the accuracy (translation: BLEU) averaged over all deferral fractions; compare it "
        "with random's and the perfect router's in the same row. APGR (0.5 is random) divides by the gap between "
        "the models: where the gap is small its size says nothing, and the last column says so."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("share_of_perfect", "Gain over random as a share of the perfect router's", "%", ".1f", interval=True),
        Column("area", "Area under the deferral curve", QUALITY, ".2f", interval=True),
        Column("random_area", "random's", QUALITY, ".2f"),
        Column("perfect_area", "perfect router's", QUALITY, ".2f", interval=True),
        Column("gap", "Gap", "points", ".2f", interval=True),
        Column("apgr", "APGR", "", ".3f", interval=True),
        Column("apgr_warning", "APGR can be read?"),
    ),
    observer=DeferralQuality,
    rows=DeferralQuality.rows,
)


def apgr(area: float, areas: np.ndarray, gap: Estimate, gaps: np.ndarray, confidence: float) -> tuple[Estimate, str]:
    """Returns the average performance gap recovered, and whether it can be read: "yes", or "no" and why.

    `area` is the gain over random, a fraction, as in Table 3, and `areas` [B] are its samples; `gap` is b - a with its
    interval, and `gaps` [B] are its samples; `confidence`, 0-1, is that of the interval.
    """
    if gap.value <= 0:
        return Estimate(math.nan), "no: the larger model is no better"
    value = 0.5 + area / gap.value
    if gap.low <= 0:
        return Estimate(value), "no: the gap may be 0"
    small = gap.value < SMALL_GAP
    return estimate(value, 0.5 + _ratios(areas, gaps), confidence), "no: the gap is small" if small else "yes"


def _ratio(number: float, whole: float) -> float:
    return number / whole if whole > 0 else math.nan


def _ratios(numbers: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Divides [B] by [B]; NaN where the denominator is not above 0."""
    return numbers / np.where(wholes > 0, wholes, np.nan)


def perfect_samples(small: SizeRuns, large: SizeRuns, resampling: Resampling) -> np.ndarray:
    """Returns the perfect router's gain over random, resampled: [B], a fraction, a mean over pairs of drawn runs.

    With w and l' of the resampled examples, [w(1 - w) + l'(1 - l')] / 2 for each pair. Both sizes have `correct`.
    """
    assert small.correct is not None and large.correct is not None
    drawn = {size.name: resampling.seeds[size.name].T / len(size.seeds) for size in (small, large)}  # [R, B]
    area = np.zeros(resampling.resamples)
    ones = np.ones((1, small.correct.shape[1]), dtype=bool)
    for run, own in enumerate(small.correct):
        columns = np.concatenate([ones, large.correct & ~own, ~large.correct & own])
        sums = resampling.total_sums(columns.T)  # [1 + 2 R_large, B]
        only_large, only_small = np.split(sums[1:] / sums[0], 2)
        of_pairs = (only_large * (1 - only_large) + only_small * (1 - only_small)) / 2
        area += drawn[small.name][run] * (drawn[large.name] * of_pairs).sum(axis=0)
    return area
