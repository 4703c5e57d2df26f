"""Measures how often the tables' intervals hold the truth, in populations where the truth is known: `just calibrate`.

Draws datasets from bench/populations.py, three ways in which runs differ, and asks for each how often the 95 % interval
of accuracy, gap, Table 3 and Table 2's most certain half holds the population's value, and how wide it is. Writes the
table between two marks of docs/metrics.md. The truth is a mean over many independent draws of large datasets.
"""

import argparse
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.populations import REGIMES, Draw, Regime, draw
from conf.machine import cores
from metrics.statistics.churn import bucket_churn, differing_in_buckets, differing_pairs
from metrics.statistics.churn_variance import churn_variance
from metrics.statistics.components import (
    ExampleInfluence,
    Variance,
    area_influence,
    variance_of_gap,
    variance_of_pairs,
    variance_of_quality,
)
from metrics.statistics.switcher import deferral_order, switcher_statistics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
MARKS = ("<!-- calibration: made by `just calibrate` -->", "<!-- end of calibration -->")
RUNS = (2, 3, 5, 10)
EXAMPLES = (1000, 5000)
CONFIDENCE = 0.95
TITLES = {"accuracy": "accuracy", "gap": "gap", "table3": "Table 3", "table2_q1": "Table 2, Q1"}


@dataclass(frozen=True)
class Coverage:
    """Holds how an interval did: `covered` of its draws held the truth, at `width` times the width that is needed."""

    regime: str
    runs: int
    examples: int
    quantity: str
    covered: float  # 0-1
    width: float  # mean half width over 1.96 standard deviations of the estimate


def coverage(regime: Regime, runs: int, examples: int, draws: int, truth_draws: int, seed: int) -> list[Coverage]:
    """Returns a row for each quantity, from `draws` datasets of so many runs of two sizes and so many examples."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, runs, examples]))
    truth = _truth(regime, runs, truth_draws, rng)
    values: dict[str, list[float]] = {name: [] for name in TITLES}
    halves: dict[str, list[float]] = {name: [] for name in TITLES}
    for _ in range(draws):
        for name, value, variance in estimates(draw(regime, runs, examples, rng)):
            values[name].append(value)
            halves[name].append(variance.half_width(CONFIDENCE))
    rows = []
    for name in TITLES:
        found, half = np.array(values[name]), np.array(halves[name])
        held = float((np.abs(found - truth[name]) <= half).mean())
        needed = 1.96 * float(found.std(ddof=1))
        rows.append(Coverage(regime.name, runs, examples, name, held, float(half.mean()) / needed))
    return rows


def estimates(runs: Draw) -> Iterator[tuple[str, float, Variance]]:
    """Yields each quantity of a dataset, 0-1, with the variance that its interval is made of."""
    small, large = runs.correct["small"], runs.correct["large"]
    rows = np.arange(small.shape[1])
    orders = [deferral_order(uncertainty) for uncertainty in runs.uncertainty["small"]]
    yield "accuracy", float(small.mean()), variance_of_quality(small, rows)
    yield "gap", float(large.mean() - small.mean()), variance_of_gap(small, large, rows)
    areas = np.array([switcher_statistics(order, own, large).area for order, own in zip(orders, small, strict=True)])
    influence = ExampleInfluence.of_runs(
        (
            area_influence(order, large.view(np.int8) - own.view(np.int8), area, rows)
            for order, own, area in zip(orders, small, areas, strict=True)
        ),
        len(rows),
    )
    yield "table3", float(areas.mean()), variance_of_pairs(areas, influence)
    churn = churn_variance(runs.answer["large"], orders, same_size=False)
    yield "table2_q1", _most_certain_churn(runs), churn[0]


def _most_certain_churn(runs: Draw) -> float:
    """Returns the larger size's churn in the half that the smaller is most certain of, Table 2's Q1."""
    prediction = runs.answer["large"]
    differing = differing_pairs(prediction)
    in_buckets = [differing_in_buckets(deferral_order(one), differing) for one in runs.uncertainty["small"]]
    return float(bucket_churn(np.array(in_buckets), len(prediction), prediction.shape[1]).churn[0])


def _truth(regime: Regime, runs: int, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Returns each quantity of the population: means over independent draws of two runs and 20,000 examples."""
    sums = dict.fromkeys(TITLES, 0.0)
    for _ in range(draws):
        one = draw(regime, 2, 20_000, rng)
        small, large = one.correct["small"], one.correct["large"]
        order = deferral_order(one.uncertainty["small"][0])
        sums["accuracy"] += float(small.mean())
        sums["gap"] += float(large.mean() - small.mean())
        sums["table3"] += float(switcher_statistics(order, small[0], large).area.mean())
        sums["table2_q1"] += _most_certain_churn(one)
    return {name: total / draws for name, total in sums.items()}


def table(rows: list[Coverage], draws: int) -> str:
    """Returns the rows as Markdown: a line a regime, number of examples and quantity, a column a number of runs."""
    names = {"examples": "example by example", "runs_1": "accuracy, sd 1.1 points", "runs_2": "accuracy, sd 2 points"}
    lines = [
        f"Coverage of 95 % intervals, and in brackets their width over the needed one, from {draws} draws each "
        f"(standard error of a coverage of 95 %: {100 * (0.95 * 0.05 / draws) ** 0.5:.1f} points).",
        "",
        "| runs differ | examples | quantity | " + " | ".join(f"R = {runs}" for runs in RUNS) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in RUNS) + " |",
    ]
    for regime in REGIMES:
        for examples in EXAMPLES:
            for quantity, title in TITLES.items():
                found = {
                    row.runs: f"{row.covered:.3f} ({row.width:.2f})"
                    for row in rows
                    if (row.regime, row.examples, row.quantity) == (regime.name, examples, quantity)
                }
                cells = " | ".join(found[runs] for runs in RUNS)
                lines.append(f"| {names[regime.name]} | {examples:,} | {title} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Measures, prints the table and writes it into docs/metrics.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibrate", description=__doc__)
    parser.add_argument("--draws", type=int, default=400, help="datasets a cell of the table; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, start = Console(highlight=False), time.monotonic()
    cells = [(regime, runs, examples) for regime in REGIMES for runs in RUNS for examples in EXAMPLES]
    with ProcessPoolExecutor(cores()) as pool:
        waiting = [
            pool.submit(coverage, *cell, draws=options.draws, truth_draws=2 * options.draws, seed=options.seed)
            for cell in cells
        ]
        rows = [row for one in waiting for row in one.result()]
    text = table(rows, options.draws)
    console.print(text, markup=False)
    page = PAGE.read_text(encoding="utf-8")
    between = f"{MARKS[0]}\n\n{text}\n\n{MARKS[1]}"
    PAGE.write_text(re.sub(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", lambda _: between, page, flags=re.S))
    console.print(f"{len(cells)} cells in {time.monotonic() - start:.0f} s; written to docs/metrics.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
