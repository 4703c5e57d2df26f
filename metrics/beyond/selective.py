"""Selective prediction: how well does a score tell a run's own right answers from its wrong ones?

AURC, E-AURC and AUGRC ask of one run what the switcher asks of two: with the most uncertain examples taken away, how
wrong is the rest?
"""

from dataclasses import dataclass

import numpy as np

from metrics.analysis import Analysis
from metrics.beyond.table import Column, Table, interval_of
from metrics.grid import SizeRuns
from metrics.intervals import Chunk, ResampledRanks, estimate, micro_blocks, padded
from metrics.switcher import DeferralOrder, sums_at_knots
from metrics.tables import SCORE_TITLES, Row

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
            Column("dataset", "Dataset"),
            Column("size", "Size"),
            Column("score_title", "Score"),
            Column("score", "score", shown=False),
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
            Column("dataset", "Dataset"),
            Column("size", "Size"),
            Column("seed", "Seed"),
            Column("score_title", "Score"),
            Column("score", "score", shown=False),
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
    at_knots = sums_at_knots(deferral, wrong.astype(np.int8)[:, None])[:, 0]
    errors = int(at_knots[-1])
    # certain first: the same knots, counted from the other end
    kept, among = (n - deferral.knots)[::-1], (errors - at_knots)[::-1]
    harmonic = _harmonic(n)
    aurc = float(_risk_sums(kept, among, harmonic[kept]).sum()) / n
    least = (errors - (n - errors) * (harmonic[n] - harmonic[n - errors])) / n
    augrc = float((np.diff(kept) * (among[1:] + among[:-1])).sum()) / (2.0 * n * n)
    return RiskCoverage(
        error=errors / n, aurc=aurc, e_aurc=aurc - float(least), augrc=augrc, auroc=float(_auroc(augrc, errors / n))
    )


def _harmonic(n: int) -> np.ndarray:
    """H_0 … H_n, [n + 1] float64."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])


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


def selective(
    analysis: Analysis, samples: dict[str, "RiskCoverageSamples"], confidence: float
) -> tuple[list[Row], list[Row]]:
    """Rows a (size, score), and rows a (size, seed, score); `samples` by size, filled in."""
    means: list[Row] = []
    runs: list[Row] = []
    dataset = analysis.grid.dataset
    for size in analysis.grid.sizes:
        known: dict[int, list[RiskCoverage]] = {}
        for score, orders in analysis.resampled.deferrals[size.name].items():
            if id(orders) not in known:
                known[id(orders)] = [risk_coverage(order, right) for order, right in zip(orders, size.correct)]
            of_runs = known[id(orders)]
            names = {"dataset": dataset, "size": size.name, "score_title": SCORE_TITLES.get(score, score)}
            row: Row = {**names, "score": score, "runs": len(of_runs)}
            for key in ("error", *STATISTICS):
                mean = float(np.mean([getattr(run, key) for run in of_runs]))
                drawn = samples[size.name].error if key == "error" else getattr(samples[size.name], key)[score]
                row |= interval_of(key, estimate(mean, drawn, confidence), 100)
            means.append(row)
            for seed, run in zip(size.seeds, of_runs, strict=True):
                numbers = {key: 100 * float(getattr(run, key)) for key in ("error", *STATISTICS)}
                runs.append({**names, "score": score, "seed": seed, **numbers})
    return means, runs


class RiskCoverageSamples:
    """The statistics of one size under resampling: each is score -> [B], means over drawn runs; `error` is [B].

    AUROC's mean leaves out no run: a resample in which a drawn run is always or never right has none.
    """

    def __init__(self, size: SizeRuns, deferrals: dict[str, list[DeferralOrder]], resamples: int):
        self.size = size
        self.error = np.zeros(resamples)
        self._orders: dict[str, list[DeferralOrder]] = {}
        for statistic in STATISTICS:
            setattr(self, statistic, {})
        for score, orders in deferrals.items():
            same = next((known for known, others in self._orders.items() if others is orders), None)
            if same is None:
                self._orders[score] = orders
            for statistic in STATISTICS:
                of = getattr(self, statistic)
                of[score] = np.zeros(resamples) if same is None else of[same]
        self._blocks = {score: [micro_blocks(order) for order in orders] for score, orders in self._orders.items()}
        self._harmonic = _harmonic(len(size.correct[0]))

    aurc: dict[str, np.ndarray]
    e_aurc: dict[str, np.ndarray]
    augrc: dict[str, np.ndarray]
    auroc: dict[str, np.ndarray]

    def add(self, chunk: Chunk) -> None:
        n, runs = self.size.correct.shape[1], len(self.size.seeds)
        for run in range(runs):
            drawn = np.flatnonzero(chunk.seeds[self.size.name][:, run])
            if not len(drawn):
                continue
            weights = chunk.weights.take(drawn, axis=1)
            values = padded(np.stack([np.ones(n), ~self.size.correct[run]], axis=1))
            where = np.arange(chunk.index.start, chunk.index.stop)[drawn]
            share = chunk.seeds[self.size.name][drawn, run] / runs
            for position, (score, blocks) in enumerate(self._blocks.items()):
                cumulated = ResampledRanks.of(blocks[run], weights, values).cumulated.astype(np.float64)
                errors = cumulated[-1, :, 1]  # [b]
                kept = (n - cumulated[::-1, :, 0]).astype(np.int64)  # [G + 1, b]
                among = errors - cumulated[::-1, :, 1]
                aurc = _risk_sums(kept, among, self._harmonic[kept]).sum(axis=0) / n
                right = n - errors
                least = (errors - right * (self._harmonic[n] - self._harmonic[right.astype(np.int64)])) / n
                augrc = (np.diff(kept, axis=0) * (among[1:] + among[:-1])).sum(axis=0) / (2.0 * n * n)
                self.aurc[score][where] += share * aurc
                self.e_aurc[score][where] += share * (aurc - least)
                self.augrc[score][where] += share * augrc
                self.auroc[score][where] += share * _auroc(augrc, errors / n)
                if position == 0:
                    self.error[where] += share * errors / n
