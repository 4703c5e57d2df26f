"""Deferral quality: how much of what is to be gained by choosing whom to defer does a score gain?

Deferring at random gives the chord from a to b, the perfect router (score d = l - s) the most that any score can; a
score is somewhere between, or below.
"""

import math
from collections.abc import Mapping

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.beyond.table import PAIR, QUALITY, SCORE, Column, Table, interval_of, of_pair, of_score
from metrics.bootstrap import SwitcherSamples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import SizeRuns
from metrics.tables.paper import Row

SMALL_GAP = 0.01  # below it, or with 0 in its interval, APGR says nothing

SHARE = Column("share_of_perfect", "Gain over random as a share of the perfect router's", "%", ".1f", interval=True)


def deferral_quality_table() -> Table:
    return Table(
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
            SHARE,
            Column("area", "Area under the deferral curve", QUALITY, ".2f", interval=True),
            Column("random_area", "random's", QUALITY, ".2f"),
            Column("perfect_area", "perfect router's", QUALITY, ".2f", interval=True),
            Column("gap", "Gap", "points", ".2f", interval=True),
            Column("apgr", "APGR", "", ".3f", interval=True),
            Column("apgr_warning", "APGR can be read?"),
        ),
    )


def deferral_quality(
    analysis: Analysis,
    samples: Mapping[str, SwitcherSamples],
    quality: Mapping[str, np.ndarray],
    perfect: Mapping[tuple[str, str], np.ndarray],
    confidence: float,
) -> list[Row]:
    """One row a (small, large, score).

    share_of_perfect = mean over pairs of runs of ∫ (S - chord) df, over the mean of [w(1 - w) + l'(1 - l')] / 2, in
    percent (the perfect router's closed form; a ratio of means, so that pairs without anything to gain do no harm; NaN
    of BLEU, which has no such form). area = ∫ S df = Table 3 + (a + b) / 2, percent or BLEU. apgr = mean over f of
    (S(f) - a) / (b - a) = 1/2 + Table 3 / (b - a) (RouteLLM, Ong et al. 2024, average performance gap recovered); NaN
    unless b > a, and without an interval where the gap's holds 0: the ratio has none there.

    Args:
        samples: by small size.
        quality: size -> [B].
        perfect: (small, large) -> [B], `perfect_samples`; of accuracy alone.

    """
    rows: list[Row] = []
    means = {size.name: float(size.quality.mean()) for size in analysis.grid.sizes}
    for pair in analysis.pairs:
        small, large = quality[pair.small], quality[pair.large]
        ceiling = perfect.get((pair.small, pair.large), np.full_like(small, np.nan))
        best = float(pair.bounds.perfect_area.mean())
        middle = (means[pair.small] + means[pair.large]) / 2
        middles = (small + large) / 2
        for score in pair.scores:
            area, areas = pair.area[score].value, samples[pair.small].area[pair.large, score]
            share = estimate(_ratio(area, best), _ratios(areas, ceiling), confidence)
            apgr, warning = _apgr(area, areas, pair.gap, large - small, confidence)
            rows.append(
                {
                    **of_pair(analysis, pair.small, pair.large),
                    **of_score(score),
                    **interval_of("share_of_perfect", share, 100),
                    **interval_of("area", estimate(area + middle, areas + middles, confidence), 100),
                    "random_area": 100 * middle,
                    **interval_of("perfect_area", estimate(best + middle, ceiling + middles, confidence), 100),
                    **interval_of("gap", pair.gap, 100),
                    **interval_of("apgr", apgr),
                    "apgr_warning": warning,
                }
            )
    return rows


def _apgr(area: float, areas: np.ndarray, gap: Estimate, gaps: np.ndarray, confidence: float) -> tuple[Estimate, str]:
    if gap.value <= 0:
        return Estimate(math.nan), "no: the larger model is no better"
    value = 0.5 + area / gap.value
    if gap.low <= 0:
        return Estimate(value), "no: the gap may be 0"
    small = gap.value < SMALL_GAP
    return estimate(value, 0.5 + _ratios(areas, gaps), confidence), "no: the gap is small" if small else "yes"


def _ratio(number: float, of: float) -> float:
    return number / of if of > 0 else math.nan


def _ratios(numbers: np.ndarray, of: np.ndarray) -> np.ndarray:
    """[B], [B] -> [B]; NaN where the denominator is not above 0."""
    return numbers / np.where(of > 0, of, np.nan)


def perfect_samples(small: SizeRuns, large: SizeRuns, resampling: Resampling) -> np.ndarray:
    """The perfect router's gain over random under resampling: [B], a fraction, a mean over pairs of drawn runs.

    With w and l' of the resampled examples, [w(1 - w) + l'(1 - l')] / 2 for each pair. Both sizes have `correct`.
    """
    assert small.correct is not None and large.correct is not None
    drawn = {size.name: resampling.seeds[size.name].T / len(size.seeds) for size in (small, large)}  # [R, B]
    area = np.zeros(resampling.resamples)
    ones = np.ones((1, small.correct.shape[1]), dtype=bool)
    for run, own in enumerate(small.correct):
        columns = np.concatenate([ones, large.correct & ~own, ~large.correct & own])
        sums = resampling.total_sums(columns.T.astype(np.float32))  # [1 + 2 R_large, B]
        only_large, only_small = np.split(sums[1:] / sums[0], 2)
        of_pairs = (only_large * (1 - only_large) + only_small * (1 - only_small)) / 2
        area += drawn[small.name][run] * (drawn[large.name] * of_pairs).sum(axis=0)
    return area
