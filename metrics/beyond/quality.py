"""Deferral quality: how much of what is to be gained by choosing whom to defer does a score gain?

Deferring at random gives the chord from a to b, the perfect router (score d = l - s) the most that any score can; a
score is somewhere between, or below.
"""

import math

import numpy as np

from metrics.analysis import Analysis
from metrics.beyond.table import KEYS, Column, Table, interval_of
from metrics.grid import SizeRuns
from metrics.intervals import Chunk, Estimate, estimate
from metrics.tables import SCORE_TITLES, Row

_ROWS_AT_A_TIME = 4096
SMALL_GAP = 0.01  # below it, or with 0 in its interval, APGR says nothing

SHARE = Column("share_of_perfect", "Gain over random as a share of the perfect router's", "%", ".1f", interval=True)


def deferral_quality_table() -> Table:
    return Table(
        name="deferral_quality",
        title="Deferral quality: gain over random against the perfect router's, area under the deferral curve, APGR",
        reading=(
            "0 % of the perfect router's gain is deferring at random, 100 % is knowing for every example which model "
            "is right. The area is the accuracy averaged over all deferral fractions; compare it with random's and the "
            "perfect router's in the same row. APGR (0.5 is random) divides by the gap between the models: where the "
            "gap is small its size says nothing, and the last column says so."
        ),
        columns=(
            *(Column(key, key.capitalize()) for key in KEYS),
            Column("score_title", "Score"),
            Column("score", "score", shown=False),
            SHARE,
            Column("area", "Area under the deferral curve", "%", ".2f", interval=True),
            Column("random_area", "random's", "%", ".2f"),
            Column("perfect_area", "perfect router's", "%", ".2f", interval=True),
            Column("gap", "Gap", "points", ".2f", interval=True),
            Column("apgr", "APGR", "", ".3f", interval=True),
            Column("apgr_warning", "APGR can be read?"),
        ),
    )


def deferral_quality(analysis: Analysis, perfect: dict[tuple[str, str], "PerfectSamples"], confidence: float) -> list:
    """One row a (small, large, score); `perfect` by (small, large), filled in.

    share_of_perfect = mean over pairs of runs of ∫ (S - chord) df, over the mean of [w(1 - w) + l'(1 - l')] / 2, in
    percent (the perfect router's closed form; a ratio of means, so that pairs without anything to gain do no harm).
    area = ∫ S df = Table 3 + (a + b) / 2, percent. apgr = mean over f of (S(f) - a) / (b - a) = 1/2 + Table 3 / (b - a)
    (RouteLLM, Ong et al. 2024, eq. for average performance gap recovered); NaN unless b > a, and without an interval
    where the gap's holds 0: the ratio has none there.
    """
    samples = analysis.resampled
    rows: list[Row] = []
    for pair in analysis.pairs:
        of = samples.switchers[pair.small]
        small, large = (samples.overall.accuracy[name][0] for name in (pair.small, pair.large))
        ceiling = perfect[pair.small, pair.large]
        best = pair.bounds.perfect_area.mean()
        means = {size.name: size.accuracy.mean() for size in analysis.grid.sizes}
        middle = (means[pair.small] + means[pair.large]) / 2
        middles = (small + large) / 2
        for score in pair.scores:
            area, areas = pair.area[score].value, of.area[pair.large, score]
            share = estimate(_ratio(area, best), _ratios(areas, ceiling.area), confidence)
            apgr, warning = _apgr(area, areas, pair.gap, large - small, confidence)
            rows.append(
                {
                    "dataset": analysis.grid.dataset,
                    "small": pair.small,
                    "large": pair.large,
                    "score_title": SCORE_TITLES.get(score, score),
                    "score": score,
                    **interval_of("share_of_perfect", share, 100),
                    **interval_of("area", estimate(area + middle, areas + middles, confidence), 100),
                    "random_area": 100 * float(middle),
                    **interval_of("perfect_area", estimate(best + middle, ceiling.area + middles, confidence), 100),
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


class PerfectSamples:
    """The perfect router's gain over random under resampling: `area` is [B], a fraction, a mean over pairs of runs.

    With w and l' of the resampled examples, [w(1 - w) + l'(1 - l')] / 2 for each pair of drawn runs.
    """

    def __init__(self, small: SizeRuns, large: SizeRuns, resamples: int):
        self.small, self.large = small, large
        self.area = np.full(resamples, np.nan)

    def add(self, chunk: Chunk) -> None:
        n = self.small.correct.shape[1]
        small_runs, large_runs = len(self.small.seeds), len(self.large.seeds)
        b = chunk.weights.shape[1]
        both = np.zeros((b, small_runs * large_runs))
        right_small, right_large = np.zeros((b, small_runs)), np.zeros((b, large_runs))
        for start in range(0, n, _ROWS_AT_A_TIME):  # [n, R_small · R_large] at once would be large
            some = slice(start, min(start + _ROWS_AT_A_TIME, n))
            one, other = self.small.correct[:, some], self.large.correct[:, some]
            weights = chunk.weights[some].T.astype(np.float32)
            together = (one[:, None, :] & other[None, :, :]).reshape(small_runs * large_runs, -1).T
            both += weights @ together.astype(np.float32)
            right_small += weights @ one.T.astype(np.float32)
            right_large += weights @ other.T.astype(np.float32)
        pairs = both.reshape(b, small_runs, large_runs)
        only_large = (right_large[:, None, :] - pairs) / n
        only_small = (right_small[:, :, None] - pairs) / n
        area = (only_large * (1 - only_large) + only_small * (1 - only_small)) / 2
        drawn = (chunk.seeds[self.small.name] / small_runs, chunk.seeds[self.large.name] / large_runs)
        self.area[chunk.index] = np.einsum("bij,bi,bj->b", area, *drawn)
