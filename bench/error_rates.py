"""Measures how often the tests find what is not there, in populations where nothing is to be found: `just calibrate`.

Two scores of the same quality are compared by Tables 1 and 3 as the table of paired tests does, and two sizes of the
same skill in ten subgroups as the subgroups table does. Each rate is the share of made-up datasets in which a test at
the level of 5 % finds a difference; of the subgroups, in any of the ten.
"""

import numpy as np

from bench.populations import Draw, Regime, draw, two_like_scores
from metrics.analysis.example_group import ExampleGroup
from metrics.analysis.intervals import ExampleChoice
from metrics.analysis.subgroups import simultaneous
from metrics.bootstrap import GroupSamples, switcher_samples
from metrics.bootstrap.resampling import Resampling
from metrics.grid.runs import SizeRuns
from metrics.statistics.components import (
    ExampleInfluence,
    area_influence,
    variance_of_pairs,
    variance_of_resamples,
)
from metrics.statistics.switcher import deferral_order, switcher_statistics

LEVEL = 0.05
RESAMPLES = 200
TITLES = {
    "table3": "two scores by Table 3",
    "table1": "two scores by Table 1",
    "subgroups": "ten subgroups, any of them",
}


def error_rates(
    regime: Regime, runs: int, examples: int, worlds: int, seed: int, resampled: bool = False
) -> dict[str, float]:
    """Returns how often each test finds a difference that isn't there, from so many made-up datasets of two sizes.

    `resampled` adds the tests that need resamples: by Table 1, and of subgroups.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, runs, examples]))
    found: dict[str, list[bool]] = {name: [] for name in (TITLES if resampled else ["table3"])}
    for world in range(worlds):
        made = draw(regime, runs, examples, rng)
        by_score = two_like_scores(made.value["small"], regime, rng)
        for name, p in _paired_tests(made, by_score, world, resampled).items():
            found[name].append(p < LEVEL)
        if resampled:
            alike = draw(regime, runs, examples, rng, skills={"small": 1.0, "large": 1.0})
            found["subgroups"].append(bool((_subgroup_tests(alike, world) < LEVEL).any()))
    return {name: float(np.mean(rejected)) for name, rejected in found.items()}


def sizes_of(made: Draw) -> list[SizeRuns]:
    """Returns the sizes of a made-up dataset as the analysis takes them."""
    return [
        SizeRuns(name, "classification", 1, 1.0, list(range(len(correct))), made.answer[name], correct, None, None, [])
        for name, correct in made.correct.items()
    ]


def _paired_tests(made: Draw, by_score: tuple[np.ndarray, np.ndarray], world: int, resampled: bool) -> dict[str, float]:
    """Returns the p of the difference of two scores by Table 3, and where `resampled` by Table 1."""
    small, large = sizes_of(made)
    runs, n = made.value["small"].shape
    assert small.correct is not None and large.correct is not None
    resampling = Resampling({"small": runs, "large": runs}, n, RESAMPLES if resampled else 0, world)
    samples = switcher_samples(small, [large], resampling)
    areas, peaks, influences = [], [], []
    for score, uncertainty in zip(("one", "other"), by_score, strict=True):
        orders = [deferral_order(of_run) for of_run in uncertainty]
        statistics = [switcher_statistics(*one, large.correct) for one in zip(orders, small.correct, strict=True)]
        influence = (
            area_influence(order, large.correct.view(np.int8) - own.view(np.int8), cells.area, np.arange(n))
            for order, own, cells in zip(orders, small.correct, statistics, strict=True)
        )
        areas.append(np.array([one.area for one in statistics]))
        peaks.append(np.array([one.peak_gain for one in statistics]))
        influences.append(ExampleInfluence.of_runs(influence, n))
        if resampled:
            for run, order in enumerate(orders):
                samples.run(run).add(score, order)
    area = areas[0] - areas[1]
    tests = {"table3": variance_of_pairs(area, influences[0].minus(influences[1])).p_value(area.mean())}
    if resampled:
        peak = peaks[0] - peaks[1]
        drawn = samples.peak_gain["large", "one"] - samples.peak_gain["large", "other"]
        tests["table1"] = variance_of_resamples(peak, drawn).p_value(peak.mean())
    return tests


def _subgroup_tests(made: Draw, world: int) -> np.ndarray:
    """Returns the adjusted p of the larger size's gain in ten subgroups, five by turns and five by chance: [10]."""
    sizes = sizes_of(made)
    runs, n = made.value["small"].shape
    resampling = Resampling({"small": runs, "large": runs}, n, RESAMPLES, world)
    rng = np.random.default_rng(world)
    groups: list[ExampleGroup] = []
    by_chance = np.asarray(rng.choice(5, n, p=[0.4, 0.3, 0.15, 0.1, 0.05]))
    for group in (np.arange(n) % 5, by_chance):
        samples = GroupSamples(sizes, group, 5, resampling).quality
        for code in range(5):
            drawn = {size: of_groups[code] for size, of_groups in samples.items()}
            groups.append(ExampleGroup.inside(sizes, group == code, drawn, ExampleChoice(0)))
    values = np.array([group.gain("small", "large") for group in groups])
    drawn_gains = np.array([group.gain_samples("small", "large") for group in groups])
    variances = [group.gain_variance("small", "large") for group in groups]
    adjusted: np.ndarray = simultaneous(values, drawn_gains, 1 - LEVEL, variances)[2]
    return adjusted
