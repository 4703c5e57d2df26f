"""Measures how often a switcher's promise is broken where the truth is known: `just bench-policies`.

Draws populations of examples and runs, and from each a sample that a switcher is chosen from as `infer.switcher` does:
candidate, path and thresholds anew in each. The promise is broken where the whole population says so. Writes a table
between two marks of docs/serving.md.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from conf.machine import cores
from metrics.statistics.policies.candidates import Goal, Uncertified, choose, cut_in_parts
from metrics.statistics.policies.routing import Member, mean_quality, path_outcome

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
MARKS = ("<!-- promises: made by `just bench-policies` -->", "<!-- end of promises -->")
SKILL = {"small": 0.6, "base": 1.3, "large": 2.0}
FLOPS = {"small": 1.0, "base": 3.0, "large": 9.0}
CHAINS = {"two sizes": ("small", "large"), "three sizes, with chains": ("small", "base", "large")}
DELTA = 0.1
GOALS = {
    name: Goal(name, limit, DELTA)
    for name, limit in (("certified", 0.02), ("budget", 0.3), ("cost", 0.4), ("match", 0.0), ("best", 0.0))
}
POPULATION, SAMPLE, SEEDS = 20_000, 1000, 2
PARTS = (0.3, 0.4, 0.3)
Members = dict[str, list[Member]]


def population(
    n: int, rng: np.random.Generator, sizes: Sequence[str] = ("small", "base", "large"), seeds: int = SEEDS
) -> Members:
    """Draws runs of n examples: uncertain where they are wrong, harder examples harder for all, the larger better."""
    difficulty = rng.normal(size=n)
    members: Members = {}
    for size in sizes:
        members[size] = []
        for seed in range(seeds):
            evidence = SKILL[size] - difficulty + 0.5 * rng.normal(size=n)
            right = rng.random(n) < 1 / (1 + np.exp(-3 * evidence))
            uncertainty = -evidence + 0.3 * rng.normal(size=n)
            scores = {"margin": uncertainty, "entropy": uncertainty + 0.2 * rng.normal(size=n)}
            members[size].append(Member(size, seed, FLOPS[size], scores, right[:, None]))
    return members


def is_broken(goal: Goal, sizes: Sequence[str], examples: int, seed: int) -> bool | None:
    """Tells whether a promise is broken in one population, whose sample of so many `examples` made the switcher.

    None where nothing could be certified. Of `budget` it is the share deferred, of the other goals the loss.
    """
    rng = np.random.default_rng(seed)
    everyone = population(POPULATION, rng, sizes)
    drawn = rng.integers(0, POPULATION, examples)
    sample = {
        size: [
            dataclasses.replace(
                member,
                quality=member.quality[drawn],
                uncertainty={name: score[drawn] for name, score in member.uncertainty.items()},
            )
            for member in runs
        ]
        for size, runs in everyone.items()
    }
    policy = choose(sample, ["margin", "entropy"], goal, cut_in_parts(examples, PARTS, seed))
    if isinstance(policy, Uncertified):
        return None
    chain = [everyone[member.size][member.seed] for member in policy.chain]
    outcome = path_outcome(chain, policy.score, policy.thresholds[None], np.arange(POPULATION))
    if goal.name == "budget":
        assert policy.promise.deferred is not None
        return bool(outcome.deferred[0] > policy.promise.deferred)
    assert policy.promise.loss is not None
    return bool(outcome.quality[0] < mean_quality(chain[-1].quality) - policy.promise.loss)


def violations(goal: Goal, sizes: Sequence[str], examples: int, seeds: range) -> tuple[int, int]:
    """Returns in how many populations, one a seed, the promise is broken, and in how many there was one."""
    found = [is_broken(goal, sizes, examples, seed) for seed in seeds]
    return sum(broken is True for broken in found), sum(broken is not None for broken in found)


def page(found: Mapping[tuple[str, str], tuple[int, int]], populations: int) -> str:
    """Returns what was measured as Markdown: by title of the sizes and name of the goal, (broken, promised)."""
    error = 100 * (DELTA * (1 - DELTA) / populations) ** 0.5
    lines = [
        f"How often a promise is broken, when candidate, path and threshold are chosen anew in each of {populations:,} "
        f"populations ({SAMPLE:,} scored examples, {SEEDS} seeds a size; δ = {DELTA:g} allows {100 * DELTA:g} %, "
        f"standard error {error:.1f}):",
        "",
    ]
    rows = []
    for title in CHAINS:
        cells = []
        for name in GOALS:
            broken, promised = found[title, name]
            cells.append(f"{100 * broken / max(promised, 1):.1f} %" + (f" of {promised:,}" * (promised < populations)))
        rows.append([title, *cells])
    return "\n".join([*lines, *markdown_table(["", *(f"`{name}`" for name in GOALS)], rows)])


def main() -> int:
    """Measures, prints the table and writes it into docs/serving.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    parser.add_argument("--populations", type=int, default=1000, help="of each cell of the table; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, start = Console(highlight=False), time.monotonic()
    part = 25  # populations a task
    with ProcessPoolExecutor(cores()) as pool:
        tasks = {
            (title, name): [
                pool.submit(violations, goal, sizes, SAMPLE, range(first, min(first + part, last)))
                for first in range(options.seed, last, part)
            ]
            for last in [options.seed + options.populations]
            for title, sizes in CHAINS.items()
            for name, goal in GOALS.items()
        }
        found = {key: [task.result() for task in some] for key, some in tasks.items()}
    summed = {key: (sum(one[0] for one in some), sum(one[1] for one in some)) for key, some in found.items()}
    text = page(summed, options.populations)
    console.print(text, markup=False)
    write_between_marks(PAGE, MARKS, text)
    console.print(f"in {time.monotonic() - start:.0f} s; written to docs/serving.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
