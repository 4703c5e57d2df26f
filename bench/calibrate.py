"""Measures how often the tables' intervals hold the truth, in populations where the truth is known: `just calibrate`.

Draws datasets from bench/populations.py, three ways in which runs differ, and asks for each how often a 95 % interval
holds the population's value and how wide it is: of accuracy, gap, Table 3 and Table 2's most certain half here, of
Table 1, churn and clustered examples in bench/further_coverage.py. How often tests find what isn't there is measured in
bench/error_rates.py. Each part writes its table between two marks of docs/metrics.md. A truth is a mean over many
independent draws of large datasets.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench import further_coverage
from bench.error_rates import LEVEL, error_rates
from bench.error_rates import TITLES as ERROR_TITLES
from bench.further_coverage import Covered
from bench.marked_page import write_between_marks
from bench.populations import REGIMES, Draw, Regime, draw
from bench.resampled_coverage import EXAMPLES as RESAMPLED_EXAMPLES
from bench.resampled_coverage import RESAMPLED_TITLES, resampled_intervals
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
PARTS = ("intervals", "peaks", "clusters", "resampled", "tests")
FEW_DRAWS = 2  # resampled parts take so many times fewer draws, as each costs far more
RUNS = (2, 3, 5, 10)
EXAMPLES = (1000, 5000)
CONFIDENCE = 0.95
NAMES = {"examples": "example by example", "runs_1": "accuracy, sd 1.1 points", "runs_2": "accuracy, sd 2 points"}
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
                lines.append(f"| {NAMES[regime.name]} | {examples:,} | {title} | {cells} |")
    return "\n".join(lines)


def cells_table(head: str, found: Mapping[tuple[str, int], Mapping[str, str]], quantities: Iterable[str]) -> str:
    """Returns cells, by (regime, runs) and quantity, as Markdown: a line a regime and quantity, a column a number."""
    counts = sorted({runs for _, runs in found})
    lines = [
        head,
        "",
        "| runs differ | quantity | " + " | ".join(f"R = {runs}" for runs in counts) + " |",
        "| --- | --- | " + " | ".join("---" for _ in counts) + " |",
    ]
    for regime in REGIMES:
        for quantity in quantities:
            cells = " | ".join(found[regime.name, runs][quantity] for runs in counts)
            lines.append(f"| {NAMES[regime.name]} | {quantity} | {cells} |")
    return "\n".join(lines)


def intervals_part(pool: ProcessPoolExecutor, draws: int, seed: int) -> str:
    """Returns the table of accuracy, gap, Table 3 and Table 2."""
    cells = [(regime, runs, examples) for regime in REGIMES for runs in RUNS for examples in EXAMPLES]
    waiting = [pool.submit(coverage, *cell, draws=draws, truth_draws=2 * draws, seed=seed) for cell in cells]
    return table([row for one in waiting for row in one.result()], draws)


def _further_part(
    pool: ProcessPoolExecutor, measure: Callable[..., Covered], counts: Iterable[int], draws: int, seed: int
) -> dict[tuple[str, int], dict[str, str]]:
    waiting = {
        (regime.name, runs): pool.submit(measure, regime, runs, draws, seed) for regime in REGIMES for runs in counts
    }
    return {
        cell: {title: f"{covered:.3f} ({width:.2f})" for title, (covered, width) in one.result().items()}
        for cell, one in waiting.items()
    }


def peaks_part(pool: ProcessPoolExecutor, draws: int, seed: int) -> str:
    """Returns the table of Table 1's peaks, where there is one and where there is none, and of overall churn."""
    draws //= FEW_DRAWS
    examples = f"{further_coverage.EXAMPLES:,} examples"
    head = f"The same of Table 1 and of overall churn with {examples}, from {draws} draws each."
    found = _further_part(pool, further_coverage.peaks_and_churn, RUNS, draws, seed)
    return cells_table(head, found, further_coverage.PEAK_TITLES)


def clusters_part(pool: ProcessPoolExecutor, draws: int, seed: int) -> str:
    """Returns the table of examples in clusters."""
    head = (
        f"The same of {further_coverage.CLUSTERED:,} examples in clusters of {further_coverage.PER_CLUSTER}, drawn by "
        f"`metrics.cluster`, from {draws} draws each."
    )
    found = _further_part(pool, further_coverage.clusters, RUNS, draws, seed)
    return cells_table(head, found, further_coverage.CLUSTER_TITLES)


def resampled_part(pool: ProcessPoolExecutor, draws: int, seed: int) -> str:
    """Returns the table of numbers whose intervals are the multi-bootstrap's percentiles."""
    draws //= FEW_DRAWS
    head = (
        f"The same of percentile intervals of the multi-bootstrap with {RESAMPLED_EXAMPLES:,} examples and two close "
        f"sizes, from {draws} draws each. The truth of a held-out peak is what other datasets of as many examples "
        "give on average; ensembles are of both runs where there are two, and have a t interval."
    )
    return cells_table(head, _further_part(pool, resampled_intervals, RUNS, draws, seed), RESAMPLED_TITLES)


def tests_part(pool: ProcessPoolExecutor, draws: int, seed: int) -> str:
    """Returns the table of error rates of tests."""
    draws //= FEW_DRAWS
    rate = 100 * (LEVEL * (1 - LEVEL) / draws) ** 0.5
    head = (
        f"How often tests at the level of {100 * LEVEL:g} % find a difference where there is none, with 1,000 "
        f"examples, from {draws} draws each (standard error of a rate of 5 %: {rate:.1f} points)."
    )
    waiting = {
        (regime.name, runs): pool.submit(error_rates, regime, runs, 1000, draws, seed, resampled=True)
        for regime in REGIMES
        for runs in RUNS[:3]
    }
    found = {
        cell: {ERROR_TITLES[name]: f"{rate:.3f}" for name, rate in one.result().items()}
        for cell, one in waiting.items()
    }
    return cells_table(head, found, ERROR_TITLES.values())


def write_part(part: str, text: str) -> None:
    """Writes a part's table into docs/metrics.md, between its two marks."""
    marks = f"<!-- calibration of {part}: made by `just calibrate` -->", f"<!-- end of calibration of {part} -->"
    write_between_marks(PAGE, marks, text)


def main() -> int:
    """Measures, prints the tables and writes them into docs/metrics.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibrate", description=__doc__)
    parser.add_argument("--draws", type=int, default=200, help="datasets a cell of the tables; default: %(default)s")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which tables; default: all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, start = Console(highlight=False), time.monotonic()
    make = {
        "intervals": intervals_part,
        "peaks": peaks_part,
        "clusters": clusters_part,
        "resampled": resampled_part,
        "tests": tests_part,
    }
    with ProcessPoolExecutor(cores()) as pool:
        for part in options.parts:
            text = make[part](pool, options.draws, options.seed)
            console.print(text, markup=False)
            write_part(part, text)
            console.print(f"{part}: {time.monotonic() - start:.0f} s so far; written to docs/metrics.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
