"""Estimates what is said of one pair of sizes: Tables 1 and 3, mean curves, and Figure 6's humps and disagreements."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.analysis.intervals import InfluentialExamples, reflected_estimate, t_estimate
from metrics.analysis.least_share import LeastShares, least_shares
from metrics.analysis.size import ScoreResult
from metrics.bootstrap import SwitcherSamples, disagreement_samples
from metrics.bootstrap.resampling import Estimate, estimate, interval
from metrics.grid.runs import SizeRuns
from metrics.statistics.bleu_switcher import bleu_bounds
from metrics.statistics.chance import Chance
from metrics.statistics.components import variance_of_gap, variance_of_pairs
from metrics.statistics.switcher import Bounds, PairStatistics, bounds, disagreement
from metrics.statistics.uncertainty import committee_size


@dataclass
class SizePair:
    """Holds what is said of one (small, large) pair of sizes.

    Qualities, gains and fractions are 0-1. An Estimate's value is a mean over pairs of runs.
    """

    small: str
    large: str
    committee: int  # how many runs of the small size its churn and committee scores are of; 0 without these scores
    gap: Estimate  # b - a
    disagreement: Estimate
    bounds: Bounds  # [R_small, R_large]
    scores: dict[str, PairStatistics]
    peak_gain: dict[str, Estimate]  # Table 1, by score
    chance: dict[str, Chance]  # what Table 1 shows of a score that knows nothing; {} where there is no reference
    area: dict[str, Estimate]  # Table 3
    area_over_margin: dict[str, Estimate]  # area of a score minus the margin's, of the same runs and examples
    curve: dict[str, np.ndarray]  # [101], mean curve
    band: dict[str, tuple[np.ndarray, np.ndarray]]  # [101] each, the ends of the curve's intervals
    least_share: dict[str, LeastShares]  # by score: the least fractions deferred that reach a goal
    disagreements: np.ndarray  # [R_small, R_large]
    gaps: np.ndarray  # [R_small, R_large]
    near_hump: Estimate  # Figure 6: hump and disagreement, means over the pairs of runs that `near_gap` chooses
    near_disagreement: Estimate


def size_pair(
    samples: SwitcherSamples,
    large: SizeRuns,
    results: Mapping[str, ScoreResult],
    quality: Mapping[str, np.ndarray],
    influential: InfluentialExamples | None,
    config: Metrics,
) -> SizePair:
    """Estimates what is said of a pair of sizes, of which the small one is that of the samples.

    Args:
        samples: samples of the small size's switchers by each score.
        large: the larger size.
        results: what follows from the small size's orders, by score.
        quality: samples of each size's quality, size -> [B].
        influential: the examples whose influence makes t intervals; None where resamples make all intervals.
        config: with the confidence of every interval, and the ε that a switcher may lose.

    """
    confidence = config.confidence
    small, name, resampling = samples.small, large.name, samples.resampling
    scores = {score: result.switchers[name] for score, result in results.items()}
    curve = {score: statistics.curve.mean(axis=(0, 1)) for score, statistics in scores.items()}
    curves = {score: samples.curve[name, score] for score in scores}
    gaps = large.quality[None, :] - small.quality[:, None]
    disagreements = disagreement(small.prediction, large.prediction)
    resampled_disagreements = disagreement_samples(small, large, resampling)
    near = near_gap(gaps)
    areas_over_margin = {s: samples.area[name, s] - samples.area[name, "margin"] for s in results}

    def mean_over_pairs(values: np.ndarray, values_resampled: np.ndarray, kept: np.ndarray) -> Estimate:
        """Averages values [R_small, R_large] over the kept pairs of runs; NaN if none is kept."""
        if not kept.any():
            return Estimate(float("nan"))
        means = resampling.mean_over_pairs(small.name, name, values_resampled, kept)
        return estimate(values[kept].mean(), means, confidence)

    gap = _gap(small, large, quality[name] - quality[small.name], influential, confidence)
    return SizePair(
        small=small.name,
        large=name,
        committee=committee_size(len(small.seeds), config),
        gap=gap,
        disagreement=mean_over_pairs(disagreements, resampled_disagreements, np.ones_like(near)),
        bounds=_bounds_of_sizes(small, large),
        scores=scores,
        peak_gain={s: reflected_estimate(scores[s].peak_gain, samples.peak_gain[name, s], confidence) for s in scores},
        chance={s: result.chance[name] for s, result in results.items() if name in result.chance},
        area={s: _area(result, name, samples.area[name, s], confidence) for s, result in results.items()},
        area_over_margin={
            s: _area_over(result, results["margin"], name, areas_over_margin[s], confidence)
            for s, result in results.items()
        },
        curve=curve,
        band={s: interval(curves[s], confidence) for s in scores},
        least_share={
            s: least_shares(scores[s].curve, curves[s], result.curve_moments.get(name), gap, config)
            for s, result in results.items()
        },
        disagreements=disagreements,
        gaps=gaps,
        near_hump=mean_over_pairs(scores["margin"].hump, samples.hump[name], near),
        near_disagreement=mean_over_pairs(disagreements, resampled_disagreements, near),
    )


def _gap(
    small: SizeRuns, large: SizeRuns, samples: np.ndarray, influential: InfluentialExamples | None, confidence: float
) -> Estimate:
    value = float(large.quality.mean() - small.quality.mean())
    if influential is None or small.correct is None or large.correct is None:
        return estimate(value, samples, confidence)
    return t_estimate(
        value, variance_of_gap(small.correct, large.correct, influential.rows, influential.clusters), confidence
    )


def _area(result: ScoreResult, large: str, samples: np.ndarray, confidence: float) -> Estimate:
    cells = result.switchers[large].area
    if large not in result.influence:
        return estimate(cells.mean(), samples, confidence)
    return t_estimate(cells.mean(), variance_of_pairs(cells, result.influence[large]), confidence)


def _area_over(result: ScoreResult, other: ScoreResult, large: str, samples: np.ndarray, confidence: float) -> Estimate:
    """Estimates how far the area by one score is above that by another, of the same runs and examples."""
    cells = result.switchers[large].area - other.switchers[large].area
    if large not in result.influence:
        return estimate(cells.mean(), samples, confidence)
    influence = result.influence[large].minus(other.influence[large])
    return t_estimate(cells.mean(), variance_of_pairs(cells, influence), confidence)


def _bounds_of_sizes(small: SizeRuns, large: SizeRuns) -> Bounds:
    if small.bleu_stats is not None and large.bleu_stats is not None:
        return bleu_bounds(small.bleu_stats, large.bleu_stats)
    assert small.correct is not None and large.correct is not None
    return bounds(small.correct, large.correct)


def near_gap(gaps: np.ndarray) -> np.ndarray:
    """Chooses Figure 6's pairs of runs, those with 0.5 % ≤ b - a ≤ 1 %: [R_small, R_large] -> the same, bool.

    The limits leave room for a rounding error, as gaps are differences of k / n.
    """
    near: np.ndarray = (gaps >= 0.005 - 1e-12) & (gaps <= 0.01 + 1e-12)
    return near
