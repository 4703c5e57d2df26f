"""Measures selective prediction: how well a score tells a run's own right answers from its wrong ones.

AURC, E-AURC and AUGRC ask of one run what the switcher asks of two: with the most uncertain examples taken away, how
wrong is the rest?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond.few import few_in_signature, first_few
from metrics.beyond.table import (
    PAIR,
    SCORE,
    BeyondTable,
    Context,
    Observer,
    dataset_entries,
    interval_entries,
    score_entries,
)
from metrics.bootstrap.resampling import ResampledRanks, Resampling, estimate
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.switcher import DeferralOrder, sums_at_knots
from metrics.tables.table import Column, Row

STATISTICS = ("aurc", "e_aurc", "augrc", "auroc")


class SelectivePrediction(Observer):
    """Measures each size's runs by each of its scores."""

    needs_larger_size = False
    needs_right_or_wrong = True

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.risks: dict[tuple[Context, str], SizeRisks] = {}  # by context and size

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        risks = size_risks(view.size, view.orders, first_few(view.resampling), view.parallel_map)
        orders_like = {other: score for score, others in view.distinct.items() for other in others}
        self.risks[view.context, view.size.name] = SizeRisks(
            {score: risks.runs[orders_like[score]] for score in view.scores},
            {score: risks.samples[orders_like[score]] for score in view.scores},
        )

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (size, score): means over runs, in percent."""
        rows: list[Row] = []
        for size in self.grid.sizes:
            risks = self.risks[analysis.context, size.name]
            for score, by_run in risks.runs.items():
                row: Row = {
                    **dataset_entries(analysis),
                    "size": size.name,
                    **score_entries(score),
                    "runs": len(by_run),
                }
                for key in ("error", *STATISTICS):
                    mean = float(np.mean([getattr(run, key) for run in by_run]))
                    number = estimate(mean, risks.samples[score][key], self.config.confidence)
                    row |= interval_entries(key, number, 100)
                rows.append(row)
        return rows

    def rows_of_runs(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (size, score, seed), in percent."""
        return [
            {
                **dataset_entries(analysis),
                "size": size.name,
                **score_entries(score),
                "seed": seed,
                **{key: 100 * float(getattr(run, key)) for key in ("error", *STATISTICS)},
            }
            for size in self.grid.sizes
            for score, by_run in self.risks[analysis.context, size.name].runs.items()
            for seed, run in zip(size.seeds, by_run, strict=True)
        ]


_NUMBERS = (
    ("aurc", "AURC", ".3f"),
    ("e_aurc", "E-AURC", ".3f"),
    ("augrc", "AUGRC", ".3f"),
    ("auroc", "AUROC of being right", ".2f"),
)
_READING = (
    "AURC is the error among the examples kept, averaged over how many are kept, most certain first; E-AURC is what of "
    "it a perfect ranking of the same errors would avoid. AUGRC averages errors among the kept as a fraction of all "
    "examples: the chance that a random example is kept and wrong, which doesn't weigh the few most certain examples "
    "as heavily (Traub et al. 2024). Lower is better for these three. AUROC: the chance that a wrong answer is more "
    "uncertain than a right one; 50 % is chance."
)

SELECTIVE = BeyondTable(
    name="selective",
    title="Selective prediction: risk-coverage of each size by its own scores",
    reading=_READING + " Means over runs.",
    columns=(
        *PAIR[:2],
        Column("size", "Size"),
        *SCORE,
        Column("runs", "Runs", "", "d"),
        Column("error", "Error", "%", ".2f", interval=True),
        *(Column(key, title, "%", form, interval=True) for key, title, form in _NUMBERS),
    ),
    observer=SelectivePrediction,
    rows=SelectivePrediction.rows,
    choices=few_in_signature,
)

SELECTIVE_RUNS = BeyondTable(
    name="selective_runs",
    title="Selective prediction of each run",
    reading=_READING,
    columns=(
        *PAIR[:2],
        Column("size", "Size"),
        Column("seed", "Seed"),
        *SCORE,
        Column("error", "Error", "%", ".2f"),
        *(Column(key, title, "%", form) for key, title, form in _NUMBERS),
    ),
    observer=SelectivePrediction,
    rows=SelectivePrediction.rows_of_runs,
)


@dataclass
class RiskCoverage:
    """Holds the statistics of one run by one score; fractions 0-1, NaN where a statistic has nothing to go by."""

    error: float
    aurc: float
    e_aurc: float
    augrc: float
    auroc: float  # NaN if the run is always or never right


def risk_coverage(deferral: DeferralOrder, correct: np.ndarray) -> RiskCoverage:
    """Returns a run's statistics, from its order of deferral and correctness [n].

    Every statistic is its expectation over the order inside ties. With E(k) the errors among the k most certain of n:
    aurc = 1/n Σ_{k=1}^n E(k)/k (Geifman et al. 2019, *Bias-reduced uncertainty estimation*, eq. 1); e_aurc = aurc minus
    that of the order with all errors last, [E - (n - E)(H_n - H_{n-E})]/n with harmonic numbers H, exactly, where they
    take its limit; augrc = ∫ E/n d(k/n) by trapezoids (Traub et al. 2024, arXiv 2407.01032, eq. 6), which equals
    (1 - auroc) acc (1 - acc) + (1 - acc)²/2, auroc being the chance that a random error is more uncertain than a random
    right answer, ties half.
    """
    n = deferral.examples
    wrong = ~np.asarray(correct, dtype=bool)
    at_knots = sums_at_knots(deferral, wrong.view(np.int8)[None])[0].astype(np.int64)
    errors = int(at_knots[-1])
    # certain first: the same knots, counted from the other end
    kept, among = (n - deferral.knots)[::-1], (errors - at_knots)[::-1]
    aurc = float(_risk_sums(kept, among, _harmonic_numbers(n).take(kept)).sum()) / n
    least = float(errors - (n - errors) * (_harmonic(n) - _harmonic(n - errors))) / n
    augrc = float((np.diff(kept) * (among[1:] + among[:-1])).sum()) / (2.0 * n * n)
    return RiskCoverage(
        error=errors / n, aurc=aurc, e_aurc=aurc - least, augrc=augrc, auroc=float(_auroc(augrc, errors / n))
    )


def _harmonic(k: np.ndarray | float) -> np.ndarray:
    """Returns the harmonic numbers H_k = digamma(k + 1) + γ: whole numbers [...] -> [...] float64."""
    from scipy.special import digamma

    harmonic: np.ndarray = digamma(np.asarray(k, dtype=np.float64) + 1) + np.euler_gamma
    return harmonic


@lru_cache(maxsize=1)
def _harmonic_numbers(last: int) -> np.ndarray:
    """Returns H_0 … H_last, which are the same for all runs: [last + 1] float64."""
    return _harmonic(np.arange(last + 1))


def _risk_sums(kept: np.ndarray, among: np.ndarray, harmonic: np.ndarray) -> np.ndarray:
    """Sums E(k)/k over a < k ≤ b in each block, E linear from a to b: [G + 1, ...] of k, E(k) and H_k -> [G, ...].

    With slope r, E(k) = E(a) + r(k - a), so the sum is (E(a) - r a)(H_b - H_a) + r(b - a).
    """
    length, step = np.diff(kept, axis=0), np.diff(among, axis=0)
    slope = step / np.where(length > 0, length, 1)
    sums: np.ndarray = (among[:-1] - slope * kept[:-1]) * np.diff(harmonic, axis=0) + step
    return sums


def _auroc(augrc: np.ndarray | float, error: np.ndarray | float) -> np.ndarray:
    """Returns AUROC, from AUGRC and the error by the relation of Traub et al. 2024."""
    both = np.asarray(error * (1.0 - error))
    return 1.0 - (augrc - np.square(error) / 2) / np.where(both > 0, both, np.nan)


@dataclass
class SizeRisks:
    """Holds the statistics of one size's runs by each of its scores."""

    runs: dict[str, list[RiskCoverage]]  # score -> by run
    samples: dict[str, dict[str, np.ndarray]]  # score -> statistic or error -> [B], means over drawn runs


def size_risks(
    size: SizeRuns,
    orders: Mapping[str, Sequence[DeferralOrder]],
    resampling: Resampling,
    parallel_map: ParallelMap = map,
) -> SizeRisks:
    """Measures a size that has `correct`, by the orders of deferral of each score's runs.

    A resample in which a drawn run is always or never right has no AUROC.
    """
    correct = size.correct
    assert correct is not None

    def risks_of(of_runs: Sequence[DeferralOrder]) -> tuple[list[RiskCoverage], dict[str, np.ndarray]]:
        samples = {key: np.zeros(resampling.resamples) for key in ("error", *STATISTICS)}
        for run, order in enumerate(of_runs):
            _add_samples(samples, size, run, order, resampling)
        return [risk_coverage(order, right) for order, right in zip(of_runs, correct, strict=True)], samples

    risks = SizeRisks({}, {})
    for score, found in zip(orders, parallel_map(risks_of, orders.values()), strict=True):
        risks.runs[score], risks.samples[score] = found
    return risks


def _add_samples(
    samples: dict[str, np.ndarray], size: SizeRuns, run: int, order: DeferralOrder, resampling: Resampling
) -> None:
    assert size.correct is not None
    blocks = resampling.micro_blocks(order)
    values = np.stack([np.ones(order.examples, dtype=bool), ~size.correct[run]], axis=1)
    for drawn, sums in resampling.block_sums(resampling.of_run(size.name, run), blocks, values):
        cumulated = ResampledRanks.of(sums).cumulated.astype(np.float64)  # [G + 1, 2, b]
        n, errors = cumulated[-1]  # [b] each
        kept = n - cumulated[::-1, 0]  # [G + 1, b]
        among = errors - cumulated[::-1, 1]
        aurc = _risk_sums(kept, among, _harmonic(kept)).sum(axis=0) / n
        least = (errors - (n - errors) * (_harmonic(n) - _harmonic(n - errors))) / n
        augrc = (np.diff(kept, axis=0) * (among[1:] + among[:-1])).sum(axis=0) / (2.0 * n * n)
        numbers = {"error": errors / n, "aurc": aurc, "e_aurc": aurc - least, "augrc": augrc}
        numbers["auroc"] = _auroc(augrc, errors / n)
        share = resampling.seeds[size.name][drawn.index, run] / len(size.seeds)
        for key, number in numbers.items():
            samples[key][drawn.index] += share * number
