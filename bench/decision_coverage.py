"""Measures whether what a decision rests on holds what it claims, where the truth is known: `just calibrate-decisions`.

Draws datasets from bench/populations.py, three ways in which runs differ, and asks how often the 95 % interval of a
least share to defer holds the population's, and how often the share that is to lose at most ε, or a certified
threshold, loses more. Writes two tables between two marks of docs/metrics.md.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.further_coverage import CLUSTER_SD, PER_CLUSTER
from bench.marked_page import write_between_marks
from bench.populations import REGIMES, Draw, Regime, draw
from conf.machine import cores
from metrics.statistics.cluster_certificates import Clusters
from metrics.statistics.least_share import (
    CurveMoments,
    Goal,
    curve_influence,
    deferred_at_places,
    excess_variance,
    first_reaching_zero,
    last_below_zero,
    least_share_interval,
    t_limits,
)
from metrics.statistics.switcher import FRACTIONS, deferral_order, switcher_statistics
from metrics.statistics.thresholds import Candidates, fewest_kept

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
MARKS = ("<!-- decisions: made by `just calibrate-decisions` -->", "<!-- end of decisions -->")
RUNS = (2, 3, 5, 10)
EXAMPLES = (1000, 5000)
CONFIDENCE, EPSILON, DELTA = 0.95, 0.01, 0.1
PARTS = (0.5, 0.8, 0.95, 0.99)
WITHIN = "within"
_NAMES = {"examples": "example by example", "runs_1": "accuracy, sd 1.1 points", "runs_2": "accuracy, sd 2 points"}
_CERTIFIED = {"certified": "loss of all examples", "kept": "loss among those kept"}
_IN_CLUSTERS = {"clusters": "bets on clusters of 50", "examples": "the same counting examples"}


@dataclass(frozen=True)
class Measured:
    """Holds how one goal's share did: how often its interval or its promise held, and the mean width or share."""

    regime: str
    runs: int
    examples: int
    goal: str  # a part of the gain, or WITHIN
    held: float  # 0-1
    width: float  # of the interval; of WITHIN how far above the population's share: 0-1


def shares(regime: Regime, runs: int, examples: int, draws: int, truth: np.ndarray, seed: int) -> list[Measured]:
    """Returns a row for each goal, from `draws` datasets; `truth` is the population's mean curve, [101]."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1, runs, examples]))
    goals: dict[str, Goal] = {f"{part:g}": Goal.part_of_gain(part) for part in PARTS}
    needed = {name: first_reaching_zero(goal.excess(truth)) for name, goal in goals.items()}
    within = Goal.within(EPSILON)
    held: dict[str, list[bool]] = {name: [] for name in (*goals, WITHIN)}
    width: dict[str, list[float]] = {name: [] for name in held}
    for _ in range(draws):
        curves, moments = curves_of(draw(regime, runs, examples, rng))
        for name, goal in goals.items():
            low, high = least_share_interval(*_limits(goal, curves, moments, (1 - CONFIDENCE) / 2))
            held[name].append(low <= needed[name] <= high)
            width[name].append(high - low)
        share = last_below_zero(_limits(within, curves, moments, (1 - CONFIDENCE) / 2)[0])
        # what the population loses at that share
        held[WITHIN].append(bool(np.interp(share, FRACTIONS, truth) >= truth[-1] - EPSILON - 1e-9))
        width[WITHIN].append(share - first_reaching_zero(within.excess(truth)))
    return [
        Measured(regime.name, runs, examples, name, float(np.mean(held[name])), float(np.mean(width[name])))
        for name in held
    ]


def _limits(goal: Goal, curves: np.ndarray, moments: CurveMoments, tail: float) -> tuple[np.ndarray, np.ndarray]:
    excess = goal.excess(curves)
    return t_limits(excess.mean(axis=(0, 1)), *excess_variance(excess, goal, moments), tail)


def curves_of(runs: Draw) -> tuple[np.ndarray, CurveMoments]:
    """Returns the switcher curve of every pair of runs, [R_S, R_L, 101], and the moments of examples' influence."""
    small, large = runs.correct["small"], runs.correct["large"]
    rows = np.arange(small.shape[1])
    moments, curves = CurveMoments(len(rows)), []
    for own, scores in zip(small, runs.uncertainty["small"], strict=True):
        order = deferral_order(scores)
        curve = switcher_statistics(order, own, large).curve
        gains = large.view(np.int8) - own.view(np.int8)
        gained = curve_influence(order, gains, curve, deferred_at_places(order, rows))
        moments.add(gained, own - own.mean(), large - large.mean(axis=1, keepdims=True))
        curves.append(curve)
    return np.array(curves), moments


def mean_curve(regime: Regime, draws: int, seed: int) -> np.ndarray:
    """Returns the population's mean switcher curve, [101], from independent draws of two runs and 20,000 examples."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    total = np.zeros(len(FRACTIONS))
    for _ in range(draws):
        one = draw(regime, 2, 20_000, rng)
        for own, scores in zip(one.correct["small"], one.uncertainty["small"], strict=True):
            total += switcher_statistics(deferral_order(scores), own, one.correct["large"]).curve.mean(axis=0) / 2
    return total / draws


def violations(examples: int, draws: int, epsilon: float, seed: int) -> dict[str, tuple[float, float]]:
    """Returns how often each kind of certified threshold loses more than ε, and the mean share deferred.

    Half of the examples calibrate. Runs differ example by example here, so that any other run of a size is as good
    to know a threshold's loss in the population by.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3, examples]))
    regime = REGIMES[0]
    many = draw(regime, 1, 1_000_000, rng)
    order = np.argsort(many.uncertainty["small"][0])
    ranked = many.uncertainty["small"][0][order]
    gains = np.cumsum((many.correct["large"][0].astype(np.int8) - many.correct["small"][0])[order])
    among = np.maximum.accumulate(  # the largest loss among those kept, from the fewest that are looked at on
        np.where(
            np.arange(1, len(gains) + 1) * examples / 2 >= fewest_kept(epsilon, DELTA) * len(gains), gains, -np.inf
        )
        / np.arange(1, len(gains) + 1)
    )
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in _CERTIFIED}
    for _ in range(draws):
        one = draw(regime, 1, examples, rng)
        candidates = Candidates.of_run(
            one.uncertainty["small"][0], one.correct["small"][0], one.correct["large"], np.arange(examples) % 2 == 0
        )
        for name, certified in (
            ("certified", candidates.certified(epsilon, DELTA)),
            ("kept", candidates.certified_among_kept(epsilon, DELTA)),
        ):
            kept = int(np.searchsorted(ranked, certified.threshold[0]))
            loss = 0.0 if not kept else gains[kept - 1] / len(gains) if name == "certified" else among[kept - 1]
            found[name].append((bool(loss > epsilon), float(certified.deferred[0])))
    return {name: tuple(np.mean(values, axis=0).tolist()) for name, values in found.items()}


def violations_in_clusters(examples: int, draws: int, epsilon: float, seed: int) -> dict[str, tuple[float, float]]:
    """Returns what `violations` does of examples in clusters of 50, by a test of clusters and one of examples.

    Half of the clusters calibrate. The truth is of examples that are each a cluster by themselves.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 4, examples]))
    regime = REGIMES[0]
    many = draw(regime, 1, 1_000_000, rng, cluster_sd=CLUSTER_SD)
    order = np.argsort(many.uncertainty["small"][0])
    ranked = many.uncertainty["small"][0][order]
    gains = np.cumsum((many.correct["large"][0].astype(np.int8) - many.correct["small"][0])[order])
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in _IN_CLUSTERS}
    for number in range(draws):
        one = draw(regime, 1, examples, rng, per_cluster=PER_CLUSTER, cluster_sd=CLUSTER_SD)
        half = one.cluster % 2 == 0
        runs = one.uncertainty["small"][0], one.correct["small"][0], one.correct["large"], half
        clusters = Clusters.of_examples(one.cluster, np.flatnonzero(half), number)
        for name, together in zip(_IN_CLUSTERS, (clusters, None), strict=True):
            certified = Candidates.of_run(*runs, together).certified(epsilon, DELTA)
            kept = int(np.searchsorted(ranked, certified.threshold[0]))
            broken = kept > 0 and gains[kept - 1] / len(gains) > epsilon
            found[name].append((bool(broken), float(certified.deferred[0])))
    return {name: tuple(np.mean(values, axis=0).tolist()) for name, values in found.items()}


def shares_table(rows: list[Measured], draws: int) -> str:
    """Returns the rows as Markdown: a line a regime, number of examples and goal, a column a number of runs."""
    lines = [
        f"How often the 95 % interval of a least share holds the population's, and in brackets its mean width in "
        f"percent of the examples; below them how often the share to lose at most {100 * EPSILON:g} point loses no "
        f"more, and how much more it defers than is needed. From {draws} draws each (standard error at 95 %: "
        f"{100 * (0.95 * 0.05 / draws) ** 0.5:.1f} points).",
        "",
        "| runs differ | examples | share for | " + " | ".join(f"R = {runs}" for runs in RUNS) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in RUNS) + " |",
    ]
    for regime, examples in ((regime, examples) for regime in REGIMES for examples in EXAMPLES):
        for goal in (*(f"{part:g}" for part in PARTS), WITHIN):
            title = f"at most {100 * EPSILON:g} point" if goal == WITHIN else f"{100 * float(goal):g} % of the gain"
            cells = [
                f"{row.held:.3f} ({100 * row.width:.0f})"
                for runs in RUNS
                for row in rows
                if (row.regime, row.runs, row.examples, row.goal) == (regime.name, runs, examples, goal)
            ]
            lines.append(f"| {_NAMES[regime.name]} | {examples:,} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def violations_table(
    found: Mapping[tuple[int, float], Mapping[str, tuple[float, float]]],
    draws: int,
    titles: Mapping[str, str] = _CERTIFIED,
) -> str:
    """Returns how often certificates are broken as Markdown, by number of examples and ε."""
    lines = [
        f"How often a certified threshold loses more than ε in the population (at most δ = {DELTA:g} is promised), and "
        f"in brackets the mean share that it defers. From {draws} draws each; half of the examples calibrate.",
        "",
        "| examples | ε, points | " + " | ".join(titles.values()) + " |",
        "| --- | --- | " + " | ".join("---" for _ in titles) + " |",
    ]
    for (examples, epsilon), by_kind in found.items():
        cells = " | ".join(f"{broken:.3f} ({100 * share:.0f} %)" for broken, share in by_kind.values())
        lines.append(f"| {examples:,} | {100 * epsilon:g} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Measures, prints the tables and writes them into docs/metrics.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.decision_coverage", description=__doc__)
    parser.add_argument("--draws", type=int, default=400, help="datasets a cell of the tables; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, start = Console(highlight=False), time.monotonic()
    with ProcessPoolExecutor(cores()) as pool:
        curves = {
            regime.name: pool.submit(mean_curve, regime, max(20, options.draws // 2), options.seed)
            for regime in REGIMES
        }
        truth = {name: curve.result() for name, curve in curves.items()}
        waiting = [
            pool.submit(shares, regime, runs, examples, options.draws, truth[regime.name], options.seed)
            for regime in REGIMES
            for runs in RUNS
            for examples in EXAMPLES
        ]
        broken = {
            (examples, epsilon): pool.submit(violations, examples, 2 * options.draws, epsilon, options.seed)
            for examples in (2000, 10_000)
            for epsilon in (0.01, 0.03)
        }
        clustered = {
            (examples, epsilon): pool.submit(violations_in_clusters, examples, options.draws, epsilon, options.seed)
            for examples in (2000, 10_000)
            for epsilon in (0.03, 0.05)
        }
        rows = [row for one in waiting for row in one.result()]
        certified = {key: one.result() for key, one in broken.items()}
        in_clusters = {key: one.result() for key, one in clustered.items()}
    tables = [
        shares_table(rows, options.draws),
        violations_table(certified, 2 * options.draws, _CERTIFIED),
        violations_table(in_clusters, options.draws, _IN_CLUSTERS),
    ]
    text = "\n\n".join(tables)
    console.print(text, markup=False)
    write_between_marks(PAGE, MARKS, text)
    console.print(f"in {time.monotonic() - start:.0f} s; written to docs/metrics.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
