"""Compares chains of three and more sizes with the best pair at equal cost, and with an oracle."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from conf.machine import cores
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.intervals import ExampleChoice, t_estimate
from metrics.beyond.cost import BUDGETS, unknown_flops
from metrics.beyond.peak import halves_of
from metrics.beyond.table import BeyondTable, Context, Observer, dataset_entries, interval_entries
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import Grid
from metrics.statistics.chains import (
    answering_model,
    best_within,
    bins_of,
    chain_grid,
    cheapest_correct,
    score_thresholds,
)
from metrics.statistics.components import variance_of_runs
from metrics.tables.table import Column, Row

MOST_EXAMPLES = 50_000  # of as many, a difference is known to a quarter of a point
_MOST_MODELS = 4  # in a chain; five at every combination of thresholds are too many to choose among
_LEVELS = {1: 50, 2: 50, 3: 25, 4: 20}  # models of a chain -> steps of each threshold, in shares of the examples


@dataclass
class Routed:
    """Holds what the chosen chain of each run gives at one budget; of every example by a chain chosen on the others."""

    correct: np.ndarray  # [R, m] bool
    cost: float  # mean over runs and examples
    names: str  # the chain most often chosen

    @property
    def quality(self) -> float:
        """Returns the mean over runs and examples, 0-1."""
        return float(self.correct.mean())


class ChainsBesidePairs(Observer):
    """Keeps each size's margins, of at most 50,000 examples, until all sizes are there."""

    needs_right_or_wrong = True
    deployable_only = True
    fewest_examples = 20

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        chosen = ExampleChoice(config.seed, grid.clusters).among(np.arange(grid.examples), MOST_EXAMPLES)
        self.examples, self.clusters = chosen.rows, chosen.clusters
        self.half = halves_of(len(self.examples), config.seed, self.clusters)[0]  # [m] bool
        self.margins: dict[Context, dict[str, np.ndarray]] = {}  # size -> [R, m]

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if len(self.grid.sizes) > 2:
            margins = view.scores["margin"][:, self.examples]
            self.margins.setdefault(view.context, {})[view.size.name] = margins

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        notes = [*super().gaps(), *unknown_flops(self.grid)]
        if len(self.grid.sizes) == 2:
            notes.append("Two sizes only: a chain takes three.")
        if len(self.examples) < self.grid.examples:
            notes.append(f"Of {len(self.examples):,} of the {self.grid.examples:,} examples.")
        return notes

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each budget, in percent and points."""
        if analysis.context not in self.margins:
            return []
        runs = min(len(size.seeds) for size in self.grid.sizes)
        margins = np.stack([self.margins[analysis.context][size.name][:runs] for size in self.grid.sizes], axis=1)
        correct = np.stack(
            [size.correct[:runs, self.examples] for size in self.grid.sizes if size.correct is not None], axis=1
        )  # [R, K, m]
        costs = costs_of(self.grid)
        oracle = np.mean([cheapest_correct(of_run, costs) for of_run in correct], axis=0)
        sizes, names = range(len(costs)), [size.name for size in self.grid.sizes]
        up_to_pairs = [chain for count in (1, 2) for chain in combinations(sizes, count)]
        longer = [chain for count in range(3, _MOST_MODELS + 1) for chain in combinations(sizes, count)]
        pairs, chains = (route(margins, correct, costs, self.half, some, names) for some in (up_to_pairs, longer))
        rows: list[Row] = []
        for budget, pair, chain in zip(BUDGETS, pairs, chains, strict=True):
            row: Row = {**dataset_entries(analysis), "budget": 100 * budget, "runs": runs}
            for key, found in (("pair", pair), ("chain", chain)):
                row[key] = found.names if found is not None else ""
                row[f"{key}_quality"] = 100 * found.quality if found is not None else float("nan")
                row[f"{key}_cost"] = 100 * found.cost if found is not None else float("nan")
            difference = Estimate(float("nan"))
            if pair is not None and chain is not None:
                difference = paired_difference(
                    chain.correct, pair.correct, self.grid.examples, self.config.confidence, self.clusters
                )
            row |= interval_entries("difference", difference, 100)
            row["largest_quality"] = 100 * float(correct[:, -1].mean())
            row["oracle_quality"], row["oracle_cost"] = 100 * float(oracle[0]), 100 * float(oracle[1])
            rows.append(row)
        return rows


CHAINS = BeyondTable(
    name="chains",
    title="Chains of three and more sizes against the best pair at equal cost",
    reading=(
        "A chain asks the next larger model while the present one's margin is at least its threshold, and pays for all "
        "that it asks; costs are FLOPs an example in units of one pass of the largest model (100 %). At each budget "
        "the best pair (or model alone) and the best chain, with all its thresholds together, are chosen on one half "
        "of the examples and evaluated on the other, and the other way round; each run chooses for itself, and the "
        "one chosen most often is named. Difference: chain minus pair, with a t interval over runs and examples that "
        "leaves out the choice. The oracle knows for every example the cheapest model that is right and asks it "
        "alone. -: nothing is as cheap."
    ),
    columns=(
        Column("dataset", "Dataset"),
        Column("context", "Context"),
        Column("budget", "Budget", "%", ".0f"),
        Column("runs", "Runs", "", "d"),
        Column("pair", "Best pair"),
        Column("pair_quality", "Its accuracy", "%", ".2f"),
        Column("pair_cost", "its cost", "%", ".1f"),
        Column("chain", "Best chain"),
        Column("chain_quality", "Its accuracy", "%", ".2f"),
        Column("chain_cost", "its cost", "%", ".1f"),
        Column("difference", "Chain minus pair", "points", "+.2f", interval=True),
        Column("largest_quality", "Largest model's", "%", ".2f"),
        Column("oracle_quality", "Oracle's", "%", ".2f"),
        Column("oracle_cost", "its cost", "%", ".1f"),
    ),
    observer=ChainsBesidePairs,
    rows=ChainsBesidePairs.rows,
    choices=lambda config: [f"split:half-seed{config.seed}"],
)


def costs_of(grid: Grid) -> list[float]:
    """Returns each size's cost an example over the largest's: FLOPs, or parameters where they aren't known of all."""
    flops = [size.flops_per_example for size in grid.sizes]
    known = flops if min(flops) > 0 else [float(size.parameters) for size in grid.sizes]
    return [one / known[-1] for one in known]


def route(
    margins: np.ndarray,
    correct: np.ndarray,
    costs: Sequence[float],
    half: np.ndarray,
    chains: Sequence[tuple[int, ...]],
    names: Sequence[str],
) -> list[Routed | None]:
    """Chooses among some chains at each of BUDGETS on one half of the examples, and routes the other half by it.

    Args:
        margins: [R, K, m], each size's scores.
        correct: [R, K, m] bool.
        costs: of the K sizes.
        half: [m] bool, one half; the other is chosen on in its turn.
        chains: the sizes in each.
        names: of the K sizes.

    Returns: one a budget; None where nothing is as cheap.

    """
    runs, _, m = margins.shape
    right = np.zeros((len(BUDGETS), runs, m), dtype=bool)
    spent = np.zeros((len(BUDGETS), runs, m))

    def of_run(run: int) -> list[tuple[int, str | None]]:
        """Fills in what one run gives; returns a budget and the chain that it chose, None if nothing is as cheap."""
        chosen: list[tuple[int, str | None]] = []
        for chooses in (half, ~half):
            found = []
            for chain in chains:
                levels = _LEVELS[len(chain)]
                thresholds = [score_thresholds(margins[run, k, chooses], levels) for k in chain[:-1]]
                bins = [bins_of(margins[run, k, chooses], some) for k, some in zip(chain[:-1], thresholds, strict=True)]
                grid = chain_grid(bins, [correct[run, k, chooses] for k in chain], [costs[k] for k in chain], levels)
                found.append((chain, thresholds, grid))
            for b, budget in enumerate(BUDGETS):
                best = best_within([grid for _, _, grid in found], budget)
                if best is None:
                    chosen.append((b, None))
                    continue
                chain, thresholds, _ = found[best[0]]
                levels_of_best = [some[g] for some, g in zip(thresholds, best[1], strict=True)]
                scores = margins[run][list(chain[:-1])][:, ~chooses]
                model = answering_model(scores, levels_of_best)
                right[b, run, ~chooses] = correct[run][list(chain)][:, ~chooses][model, np.arange(len(model))]
                spent[b, run, ~chooses] = np.cumsum([costs[k] for k in chain])[model]
                chosen.append((b, " → ".join(names[k] for k in chain)))
        return chosen

    chosen: list[Counter[str]] = [Counter() for _ in BUDGETS]
    missing = [False] * len(BUDGETS)
    with ThreadPoolExecutor(cores()) as pool:
        for of_budgets in pool.map(of_run, range(runs)):
            for b, chain_names in of_budgets:
                missing[b] |= chain_names is None
                chosen[b].update([] if chain_names is None else [chain_names])
    return [
        None if missing[b] else Routed(right[b], float(spent[b].mean()), chosen[b].most_common(1)[0][0])
        for b in range(len(BUDGETS))
    ]


def paired_difference(
    ours: np.ndarray, theirs: np.ndarray, examples: int, confidence: float, clusters: np.ndarray | None = None
) -> Estimate:
    """Returns the mean difference of two routes [R, m] bool of the same runs and examples, with its t interval.

    The m are some of n `examples`; those of one of the `clusters` [m] int are drawn together.
    """
    difference = ours.astype(np.float64) - theirs
    variance = variance_of_runs(difference.mean(axis=1), difference, examples, clusters)
    return t_estimate(float(difference.mean()), variance, confidence)
