"""Asks whether deferral makes answers more stable: how often retrained mixtures answer differently."""

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.intervals import ExampleChoice, t_estimate
from metrics.beyond.table import PAIR, BeyondTable, Context, Observer, interval_entries, pair_entries
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import Grid
from metrics.statistics.multiplicity import Multiplicity, mixture_multiplicity
from metrics.tables.table import Column, Row

SHARES = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0])  # deferred
_HALF = 5


class MixtureMultiplicity(Observer):
    """Measures each pair of sizes with two seeds each by margin."""

    deployable_only = True

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.found: dict[tuple[Context, str, str], Multiplicity] = {}  # by context, small and large size
        self.looked_at = ExampleChoice(config.seed, grid.clusters).among(np.arange(grid.examples))

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        rows = self.looked_at.rows
        for large in view.larger:
            runs = min(len(view.size.seeds), len(large.seeds))
            if runs >= 2:
                self.found[view.context, view.size.name, large.name] = mixture_multiplicity(
                    view.size.prediction[:runs, rows],
                    large.prediction[:runs, rows],
                    view.orders["margin"][:runs],
                    SHARES,
                    rows,
                    self.looked_at.clusters,
                )

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset, and what it says of the smallest and the largest size."""
        single = [size.name for size in self.grid.sizes if len(size.seeds) < 2]
        notes = [*super().gaps(), *(f"{name} has one seed: no other training of it." for name in single)]
        if len(self.looked_at.rows) < self.grid.examples:
            notes.append(f"Of {len(self.looked_at.rows):,} of the {self.grid.examples:,} examples.")
        ends = self.grid.sizes[0].name, self.grid.sizes[-1].name
        widest = [found for (_, *sizes), found in self.found.items() if tuple(sizes) == ends]
        return [*notes, *(stability(found, *ends, self.config.confidence) for found in widest[:1])]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, share deferred), in percent and points."""
        rows: list[Row] = []
        for pair in analysis.pairs:
            found = self.found.get((analysis.context, pair.small, pair.large))
            for k, share in enumerate(SHARES if found is not None else []):
                assert found is not None
                churn, change = _estimates(found, k, self.config.confidence)
                rows.append(
                    {
                        **pair_entries(analysis, pair.small, pair.large),
                        "deferred": 100 * float(share),
                        "trainings": found.trainings,
                        **interval_entries("churn", churn, 100),
                        "ambiguity": 100 * float(found.ambiguity[k]),
                        **interval_entries("change", change, 100),
                        "verdict": _verdict(change) if k else "",
                    }
                )
        return rows


def _estimates(found: Multiplicity, place: int, confidence: float) -> tuple[Estimate, Estimate]:
    """Returns the churn at a share and its change from the smaller model alone, with t intervals."""
    churn = t_estimate(found.churn[place], found.churn_variance[place], confidence, 0.0, 1.0)
    if place == 0:
        return churn, Estimate(0.0)
    return churn, t_estimate(found.change[place], found.change_variance[place], confidence, -1.0, 1.0)


def _verdict(change: Estimate) -> str:
    if change.below_zero:
        return "more stable"
    return "less stable" if change.above_zero else "can't be told"


def stability(found: Multiplicity, small: str, large: str, confidence: float) -> str:
    """Writes whether deferring half of the examples makes the answers of a mixture more stable."""
    churns = [_estimates(found, k, confidence)[0] for k in (0, _HALF, -1)]
    alone, half, deferred = (f"{100 * one.value:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f})" for one in churns)
    verdict = {
        "more stable": "deferring half makes answers more stable",
        "less stable": "deferring half makes answers less stable",
        "can't be told": "whether deferring half makes answers more stable can't be told",
    }[_verdict(_estimates(found, _HALF, confidence)[1])]
    return (
        f"Two trainings of {small} alone answer differently on {alone} of the examples, of the mixture that defers "
        f"half to {large} on {half}, of {large} alone on {deferred}: {verdict}."
    )


MULTIPLICITY = BeyondTable(
    name="multiplicity",
    title="Does deferral make answers more stable? Retrained mixtures by the share deferred",
    reading=(
        "A training is one small run with one larger run, deferring by margin. Churn: the chance that two trainings "
        "answer an example differently; ambiguity: the share of examples on which not all of so many trainings agree, "
        "which grows with their number. Change: churn minus that of the smaller model alone. Intervals are t's over "
        "trainings and examples; of two trainings, over examples alone."
    ),
    columns=(
        *PAIR,
        Column("deferred", "Deferred", "%", ".0f"),
        Column("trainings", "Trainings", "", "d"),
        Column("churn", "Churn", "%", ".2f", interval=True),
        Column("ambiguity", "Ambiguity", "%", ".2f"),
        Column("change", "Change", "points", "+.2f", interval=True),
        Column("verdict", "Than the smaller model alone"),
    ),
    observer=MixtureMultiplicity,
    rows=MixtureMultiplicity.rows,
)
