"""Measures how often further intervals hold the truth: of Table 1's peaks, of churn, and of examples in clusters."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from bench.error_rates import sizes_of
from bench.populations import REGIMES, Draw, Regime, draw
from metrics.analysis.intervals import ExampleChoice, reflected_estimate
from metrics.bootstrap import switcher_samples
from metrics.bootstrap.resampling import Estimate, Resampling
from metrics.statistics.churn_variance import overall_churn_variance
from metrics.statistics.components import (
    ExampleInfluence,
    Variance,
    area_influence,
    variance_of_gap,
    variance_of_pairs,
    variance_of_quality,
)
from metrics.statistics.switcher import deferral_order, switcher_statistics

CONFIDENCE = 0.95
RESAMPLES = 200
EXAMPLES = 1000  # of peaks and churn
CLUSTERED, PER_CLUSTER, CLUSTER_SD = 5000, 50, 0.6  # examples, examples a cluster, sd of what a cluster shares

# sizes far apart, whose curve has no peak above the larger model, and sizes close to each other, whose curve has one
FAR, CLOSE = "Table 1, no peak", "Table 1, a peak"
SKILLS = {FAR: {"small": 0.8, "large": 1.4}, CLOSE: {"small": 0.9, "large": 1.0}}
CHURN = "overall churn"
PEAK_TITLES = (FAR, CLOSE, CHURN)
CLUSTER_TITLES = ("accuracy", "gap", "Table 3")

Covered = dict[str, tuple[float, float]]  # quantity -> coverage, 0-1, and width over the needed one


def peaks_and_churn(
    regime: Regime,
    runs: int,
    draws: int,
    seed: int,
    truth_examples: int = 400_000,
    titles: Sequence[str] = (FAR, CLOSE),
) -> Covered:
    """Returns the coverage of Table 1's intervals in the populations of these titles, and that of overall churn.

    A peak's truth is that of so many examples: of fewer it is biased upward as well, if little.
    """
    result: Covered = {}
    for title in titles:
        rng = np.random.default_rng(np.random.SeedSequence([seed, runs, len(title)]))
        estimates, churn = [], []
        for number in range(draws):
            made = draw(regime, runs, EXAMPLES, rng, skills=SKILLS[title])
            estimates.append(_peak_estimate(made, number))
            churn.append(_of_variance(_churn(made.answer["large"]), overall_churn_variance(made.answer["large"])))
        truth, true_churn = _true_peak_and_churn(REGIMES.index(regime), title, truth_examples)
        result[title] = covered(estimates, truth)
        if title == titles[0]:
            result[CHURN] = covered(churn, true_churn)
    return result


def clusters(
    regime: Regime, runs: int, draws: int, seed: int, together: bool = True, truth_draws: int = 150
) -> Covered:
    """Returns the coverage of t intervals where 50 examples in a row share a part of their difficulty.

    `together` draws the examples of a cluster together, as they are; else each by itself, to see what that misses.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, runs, PER_CLUSTER]))
    estimates: dict[str, list[Estimate]] = {title: [] for title in CLUSTER_TITLES}
    for _ in range(draws):
        made = draw(regime, runs, CLUSTERED, rng, per_cluster=PER_CLUSTER, cluster_sd=CLUSTER_SD)
        for title, found in _clustered_estimates(made, together).items():
            estimates[title].append(found)
    truth = _true_values_with_clusters(REGIMES.index(regime), truth_draws)
    return {title: covered(found, truth[title]) for title, found in estimates.items()}


def covered(estimates: list[Estimate], truth: float) -> tuple[float, float]:
    """Returns how many of the intervals hold the truth, and their mean width over the needed one."""
    low, high = (np.array([getattr(one, end) for one in estimates]) for end in ("low", "high"))
    needed = 1.96 * float(np.std([one.value for one in estimates], ddof=1))
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean()) / 2 / needed


def _of_variance(value: float, variance: Variance) -> Estimate:
    half = variance.half_width(CONFIDENCE)
    return Estimate(value, value - half, value + half)


def _peak_estimate(made: Draw, number: int) -> Estimate:
    """Returns Table 1's cell of a made-up dataset with its interval, by the small size's own uncertainty."""
    small, large = sizes_of(made)
    assert small.correct is not None and large.correct is not None
    runs, n = small.correct.shape
    samples = switcher_samples(small, [large], Resampling({"small": runs, "large": runs}, n, RESAMPLES, number))
    cells = []
    for run, own in enumerate(small.correct):
        order = deferral_order(made.uncertainty["small"][run])
        samples.run(run).add("margin", order)
        cells.append(switcher_statistics(order, own, large.correct).peak_gain)
    return reflected_estimate(np.array(cells), samples.peak_gain["large", "margin"], CONFIDENCE)


def _churn(answers: np.ndarray) -> float:
    """Returns the share of examples on which two runs differ, a mean over pairs of the runs [R, n]."""
    runs = len(answers)
    pairs = [(answers[one] != answers[other]).mean() for one in range(runs) for other in range(one)]
    return float(np.mean(pairs))


def _clustered_estimates(made: Draw, together: bool) -> dict[str, Estimate]:
    """Returns accuracy, gap and Table 3 of a made-up dataset with their t intervals."""
    small, large, n = made.correct["small"], made.correct["large"], len(made.cluster)
    examples = ExampleChoice(0, made.cluster if together else None).among(np.arange(n))
    areas, influences = [], []
    for uncertainty, own in zip(made.uncertainty["small"], small, strict=True):
        order = deferral_order(uncertainty)
        areas.append(switcher_statistics(order, own, large).area)
        influences.append(area_influence(order, large.view(np.int8) - own.view(np.int8), areas[-1], examples.rows))
    cells = np.array(areas)
    of_area = ExampleInfluence.of_runs(influences, n, examples.clusters)
    chosen = examples.rows, examples.clusters
    return {
        "accuracy": _of_variance(float(small.mean()), variance_of_quality(small, *chosen)),
        "gap": _of_variance(float(large.mean() - small.mean()), variance_of_gap(small, large, *chosen)),
        "Table 3": _of_variance(float(cells.mean()), variance_of_pairs(cells, of_area)),
    }


@cache
def _true_peak_and_churn(regime: int, title: str, examples: int) -> tuple[float, float]:
    """Returns Table 1's cell in the population, and its churn: means over draws so large that a peak has no bias."""
    rng = np.random.default_rng(np.random.SeedSequence([99, regime, len(title)]))
    peaks, churn = [], []
    for _ in range(8):
        made = draw(REGIMES[regime], 3, examples, rng, skills=SKILLS[title])
        orders = [deferral_order(uncertainty) for uncertainty in made.uncertainty["small"]]
        cells = [
            switcher_statistics(*one, made.correct["large"]).peak_gain for one in zip(orders, made.correct["small"])
        ]
        peaks.append(np.mean(cells))
        churn.append(_churn(made.answer["large"]))
    return float(np.mean(peaks)), float(np.mean(churn))


@cache
def _true_values_with_clusters(regime: int, draws: int) -> dict[str, float]:
    """Returns accuracy, gap and Table 3 in the population, where clusters are as many as examples."""
    rng = np.random.default_rng(np.random.SeedSequence([98, regime]))
    values = [_clustered_estimates(_without_clusters(regime, rng), together=False) for _ in range(draws)]
    return {title: float(np.mean([one[title].value for one in values])) for title in CLUSTER_TITLES}


def _without_clusters(regime: int, rng: np.random.Generator) -> Draw:
    """Draws a dataset in which every example is a cluster by itself: the same population, seen better."""
    return draw(REGIMES[regime], 2, 20_000, rng, per_cluster=1, cluster_sd=CLUSTER_SD)
