"""Measures how often intervals hold the truth, of numbers that are no mean over runs or pairs of runs.

Percentile intervals are those of points of a switcher's curve, of how often two sizes disagree and of held-out peaks;
ensembles by majority vote have a t interval.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa

from bench.error_rates import sizes_of
from bench.further_coverage import CLOSE, SKILLS, Covered, covered
from bench.populations import REGIMES, Draw, Regime, draw
from metrics.analysis.intervals import InfluentialExamples
from metrics.beyond.ensemble import MAJORITY, ensembles_of, majority_vote, member_counts
from metrics.beyond.peak import halves_of, held_out_gains, held_out_peak
from metrics.bootstrap import disagreement_samples, switcher_samples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import Grid, SizeRuns
from metrics.scores import Strings
from metrics.statistics.switcher import deferral_order, disagreement, switcher_statistics

CONFIDENCE = 0.95
RESAMPLES = 200
EXAMPLES = 1000
PERCENT = 25  # deferred, at the point of the curve
MEMBERS = 3  # of an ensemble, or both runs where there are two
CURVE, DISAGREEMENT, HELD_OUT, ENSEMBLE = "curve at 25 %", "disagreement", "held-out peak", "majority of 3"
RESAMPLED_TITLES = (CURVE, DISAGREEMENT, HELD_OUT, ENSEMBLE)


def resampled_intervals(regime: Regime, runs: int, draws: int, seed: int, truth_draws: int = 10) -> Covered:
    """Returns the coverage of these intervals in the population of sizes close to each other.

    A truth is a mean over `truth_draws` large datasets. Of held-out peaks, which depend on how many examples there are
    to choose a share on, it is the mean of the estimates themselves.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, runs, RESAMPLES]))
    found: dict[str, list[Estimate]] = {title: [] for title in RESAMPLED_TITLES}
    for number in range(draws):
        for title, one in _estimates(draw(regime, runs, EXAMPLES, rng, skills=SKILLS[CLOSE]), number):
            found[title].append(one)
    truth = dict(_truth(REGIMES.index(regime), min(MEMBERS, runs), truth_draws))
    truth[HELD_OUT] = float(np.mean([one.value for one in found[HELD_OUT]]))
    return {title: covered(of_title, truth[title]) for title, of_title in found.items()}


def _estimates(made: Draw, number: int) -> Iterator[tuple[str, Estimate]]:
    """Yields each number of a made-up dataset with its interval, as the tables have them."""
    small, large = sizes_of(made)
    assert small.correct is not None and large.correct is not None
    runs, n = small.correct.shape
    resampling = Resampling({"small": runs, "large": runs}, n, RESAMPLES, number)
    samples = switcher_samples(small, [large], resampling)
    orders = [deferral_order(uncertainty) for uncertainty in made.uncertainty["small"]]
    curves = []
    for run, (order, own) in enumerate(zip(orders, small.correct, strict=True)):
        samples.run(run).add("margin", order)
        curves.append(switcher_statistics(order, own, large.correct).curve[:, PERCENT])
    yield CURVE, estimate(float(np.mean(curves)), samples.curve["large", "margin"][PERCENT], CONFIDENCE)
    differing = resampling.mean_over_pairs("small", "large", disagreement_samples(small, large, resampling))
    yield DISAGREEMENT, estimate(_mean_disagreement(made), differing, CONFIDENCE)
    gains = held_out_gains(orders, small.correct, large.correct, halves_of(n, number))
    peak = held_out_peak(gains, resampling, small, large, (number, 0))
    yield HELD_OUT, estimate(peak.gain, peak.samples, CONFIDENCE)
    yield ENSEMBLE, _ensemble(small, resampling)


def _mean_disagreement(made: Draw) -> float:
    return float(disagreement(made.answer["small"], made.answer["large"]).mean())


def _ensemble(size: SizeRuns, resampling: Resampling) -> Estimate:
    """Returns the accuracy of a size's ensembles by majority vote, which need no likelihoods, with its interval."""
    answers = replace(size, task="span_qa")
    n, none = answers.prediction.shape[1], Strings([], np.zeros(0, dtype=np.int32))
    grid = Grid("made up", "test", "span_qa", [], n, [answers], pa.array([], pa.large_string()), none, {}, [])
    found = ensembles_of(grid, answers, resampling, InfluentialExamples(np.arange(n)))
    return found.estimate(MAJORITY, min(MEMBERS, len(answers.seeds)), CONFIDENCE)


@cache
def _truth(regime: int, members: int, draws: int) -> dict[str, float]:
    """Returns each number of the population but held-out peaks: means over datasets of 100,000 examples."""
    rng = np.random.default_rng(np.random.SeedSequence([97, regime, members]))
    values: dict[str, list[float]] = {CURVE: [], DISAGREEMENT: [], ENSEMBLE: []}
    for _ in range(draws):
        made = draw(REGIMES[regime], members, 100_000, rng, skills=SKILLS[CLOSE])
        small, large = made.correct["small"], made.correct["large"]
        orders = (deferral_order(uncertainty) for uncertainty in made.uncertainty["small"])
        curves = [
            switcher_statistics(order, own, large).curve[:, PERCENT] for order, own in zip(orders, small, strict=True)
        ]
        values[CURVE].append(float(np.mean(curves)))
        values[DISAGREEMENT].append(_mean_disagreement(made))
        right = majority_vote(made.answer["small"], small, member_counts(members))
        values[ENSEMBLE].append(float(right[-1].mean()))
    return {title: float(np.mean(of_title)) for title, of_title in values.items()}
