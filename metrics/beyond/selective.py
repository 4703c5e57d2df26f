"""Selective prediction: how well does a score tell a run's own right answers from its wrong ones?

AURC, E-AURC and AUGRC ask of one run what the switcher asks of two: with the most uncertain examples taken away, how
wrong is the rest?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.beyond.table import PAIR, SCORE, Column, Table, interval_of, of_dataset, of_score
from metrics.bootstrap.resampling import ResampledRanks, Resampling, estimate
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import SizeRuns
from metrics.statistics.switcher import DeferralOrder, sums_at_knots
from metrics.tables.paper import Row

STATISTICS = ("aurc", "e_aurc", "augrc", "auroc")

_NUMBERS = (
    ("aurc", "AURC"),
    ("e_aurc", "E-AURC"),
    ("augrc", "AUGRC"),
    ("auroc", "AUROC of being right"),
)
_READING = (
    "AURC is the error among the examples kept, averaged over how many are kept, most certain first; E-AURC is what of "
    "it a perfect ranking of the same errors would avoid. AUGRC averages errors among the kept as a fraction of all "
    "examples: the chance that a random example is kept and wrong, which doesn't weigh the few most certain examples "
    "as heavily (Traub et al. 2024). Lower is better for these three. AUROC: the chance that a wrong answer is more "
    "uncertain than a right one; 50 % is chance."
)


def selective_table() -> Table:
    return Table(
        name="selective",
        title="Selective prediction: risk-coverage of each size by its own scores",
        reading=_READING + " Means over runs.",
        columns=(
            *PAIR[:2],
            Column("size", "Size"),
            *SCORE,
            Column("runs", "Runs", "", "d"),
            Column("error", "Error", "%", ".2f", interval=True),
            *(Column(key, title, "%", ".3f" if key != "auroc" else ".2f", interval=True) for key, title in _NUMBERS),
        ),
    )


def selective_runs_table() -> Table:
    return Table(
        name="selective_runs",
        title="Selective prediction of each run",
        reading=_READING,
        columns=(
            *PAIR[:2],
            Column("size", "Size"),
            Column("seed", "Seed"),
            *SCORE,
            Column("error", "Error", "%", ".2f"),
            *(Column(key, title, "%", ".3f" if key != "auroc" else ".2f") for key, title in _NUMBERS),
        ),
    )


@dataclass
class RiskCoverage:
    """One run by one score; fractions 0-1, NaN where a statistic has nothing to go by."""

    error: float
    aurc: float
    e_aurc: float
    augrc: float
    auroc: float  # NaN if the run is always or never right


def risk_coverage(deferral: DeferralOrder, correct: np.ndarray) -> RiskCoverage:
    """From an order of deferral and correctness [n]; every statistic is its expectation over the order inside ties.

    With E(k) the errors among the k most certain of n:
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
    aurc = float(_risk_sums(kept, among, _harmonic(kept)).sum()) / n
    least = float(errors - (n - errors) * (_harmonic(n) - _harmonic(n - errors))) / n
    augrc = float((np.diff(kept) * (among[1:] + among[:-1])).sum()) / (2.0 * n * n)
    return RiskCoverage(
        error=errors / n, aurc=aurc, e_aurc=aurc - least, augrc=augrc, auroc=float(_auroc(augrc, errors / n))
    )


def _harmonic(k: np.ndarray | float) -> np.ndarray:
    """H_k, whole numbers [...] -> [...] float64: digamma(k + 1) + γ."""
    from scipy.special import digamma

    return digamma(np.asarray(k, dtype=np.float64) + 1) + np.euler_gamma


def _risk_sums(kept: np.ndarray, among: np.ndarray, harmonic: np.ndarray) -> np.ndarray:
    """Σ_{a<k≤b} E(k)/k of each block, E linear from a to b: [G + 1, ...] of k, E(k) and H_k -> [G, ...].

    With slope r, E(k) = E(a) + r(k - a), so the sum is (E(a) - r a)(H_b - H_a) + r(b - a).
    """
    length, step = np.diff(kept, axis=0), np.diff(among, axis=0)
    slope = step / np.where(length > 0, length, 1)
    return (among[:-1] - slope * kept[:-1]) * np.diff(harmonic, axis=0) + step


def _auroc(augrc: np.ndarray | float, error: np.ndarray | float) -> np.ndarray:
    """The relation of Traub et al. 2024, solved for AUROC."""
    both = np.asarray(error * (1.0 - error))
    return 1.0 - (augrc - np.square(error) / 2) / np.where(both > 0, both, np.nan)


@dataclass
class SizeRisks:
    """One size by each of its scores."""

    runs: dict[str, list[RiskCoverage]]  # score -> by run
    samples: dict[str, dict[str, np.ndarray]]  # score -> statistic or error -> [B], means over drawn runs


def size_risks(
    size: SizeRuns, orders: Mapping[str, Sequence[DeferralOrder]], resampling: Resampling, each: ParallelMap = map
) -> SizeRisks:
    """`orders` of each score's runs; the size has `correct`.

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
    for score, found in zip(orders, each(risks_of, orders.values()), strict=True):
        risks.runs[score], risks.samples[score] = found
    return risks


def _add_samples(
    samples: dict[str, np.ndarray], size: SizeRuns, run: int, order: DeferralOrder, resampling: Resampling
) -> None:
    assert size.correct is not None
    blocks = resampling.micro_blocks(order)
    values = np.stack([np.ones(order.examples), ~size.correct[run]], axis=1).astype(np.float32)
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


def selective(analysis: Analysis, risks: Mapping[str, SizeRisks], confidence: float) -> tuple[list[Row], list[Row]]:
    """Rows a (size, score), and rows a (size, seed, score); `risks` by size."""
    means: list[Row] = []
    single: list[Row] = []
    for size in analysis.grid.sizes:
        for score, of_runs in risks[size.name].runs.items():
            names = {**of_dataset(analysis), "size": size.name, **of_score(score)}
            row: Row = {**names, "runs": len(of_runs)}
            for key in ("error", *STATISTICS):
                mean = float(np.mean([getattr(run, key) for run in of_runs]))
                drawn = risks[size.name].samples[score][key]
                row |= interval_of(key, estimate(mean, drawn, confidence), 100)
            means.append(row)
            for seed, run in zip(size.seeds, of_runs, strict=True):
                numbers = {key: 100 * float(getattr(run, key)) for key in ("error", *STATISTICS)}
                single.append({**names, "seed": seed, **numbers})
    return means, single
