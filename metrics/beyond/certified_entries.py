"""Makes the entries of the rows that the tables of certified thresholds have of one pair of sizes by one score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from conf.schema import Metrics
from metrics.beyond.peak import half_of_clusters
from metrics.beyond.retrained import retrained_entries
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.certificates import LIMITS, test_by_counts
from metrics.statistics.cluster_certificates import Clusters
from metrics.statistics.thresholds import Certified, fewest_kept
from metrics.statistics.uncertainty import committee_size
from metrics.tables.table import Row

CLUSTER_TEST = "betting on clusters"


@dataclass
class CertifiedEntries:
    """Holds the entries of rows that the tables have of one pair of sizes by one score."""

    over_runs: Row
    by_run: list[Row]
    among_kept: Row  # empty where ε is 0, which no number of examples certifies
    retrained: Row


def calibration_half(examples: int, seed: int, clusters: np.ndarray | None = None) -> np.ndarray:
    """Draws the examples that calibrate, the same for all runs and scores: [n] bool.

    Whole `clusters` [n] int, 0 … G - 1, of examples are on one side.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(13,)))
    if clusters is not None:
        return half_of_clusters(clusters, rng)
    half = np.zeros(examples, dtype=bool)
    half[rng.permutation(examples)[: examples // 2]] = True
    return half


@dataclass(frozen=True)
class Calibration:
    """Holds which examples calibrate, and the clusters that they come in; None where each is drawn by itself."""

    half: np.ndarray  # [n] bool
    cluster_of_each: np.ndarray | None  # [n] int, of all examples
    clusters: Clusters | None  # those of the examples that calibrate

    @classmethod
    def of_grid(cls, grid: Grid, config: Metrics) -> Self:
        """Draws the examples of a grid that calibrate, the same for all runs and scores."""
        half = calibration_half(grid.examples, config.seed, grid.clusters)
        if grid.clusters is None:
            return cls(half, None, None)
        return cls(half, grid.clusters, Clusters.of_examples(grid.clusters, np.flatnonzero(half), config.seed))


def certified_entries(
    scores: Mapping[str, np.ndarray],
    score: str,
    runs: Sequence[Certified],
    kept: Sequence[Certified],
    small: SizeRuns,
    large: SizeRuns,
    calibration: Calibration,
    config: Metrics,
) -> CertifiedEntries:
    """Returns the entries of the rows that the tables have of one pair of sizes by one score.

    `scores` are all of the small size's, [R, n] each; `runs` are what is certified of each small run by this score, and
    `kept` by the loss among those kept, none where ε is 0. Both sizes have `correct`.
    """
    promise: Row = {"epsilon": 100 * config.epsilon, "delta": config.delta}
    half, clusters = calibration.half, calibration.clusters
    calibrates = int(half.sum())
    halves: Row = {"calibration": calibrates, "evaluation": int((~half).sum())}
    among: Row = {}
    if clusters is None:
        tests = (test_by_counts(calibrates, config.epsilon, config.delta), LIMITS)
    else:
        tests = (CLUSTER_TEST, CLUSTER_TEST)
    if kept:
        of_examples = fewest_kept if clusters is None else clusters.fewest_examples
        fewest = of_examples(config.epsilon, config.delta)
        among = {**promise, **_among_kept(kept, config.epsilon), "fewest_kept": fewest, **halves, "test": tests[1]}
    thresholds, shares = (np.stack([getattr(run, name) for run in runs]) for name in ("threshold", "chosen"))
    saving = np.stack([run.deferred < 1 for run in runs])
    evaluates = np.flatnonzero(~half)
    reused = retrained_entries(
        scores[score],
        small,
        large,
        thresholds,
        shares,
        saving,
        evaluates,
        config.epsilon,
        config.seed,
        calibration.cluster_of_each,
    )
    return CertifiedEntries(
        over_runs={**promise, **_over_pairs(runs, config.epsilon), **halves, "test": tests[0]},
        by_run=_by_run(runs, scores, score, small, large, half, config),
        among_kept=among,
        retrained={**promise, **reused},
    )


def _over_pairs(runs: Sequence[Certified], epsilon: float) -> Row:
    """Returns the entries over all pairs of runs, in percent and points, from a small run's thresholds each."""
    deferred, chosen, loss = (np.stack([getattr(run, name) for run in runs]) for name in ("deferred", "chosen", "loss"))
    return {
        "deferred": 100 * float(deferred.mean()),
        "deferred_least": 100 * float(deferred.min()),
        "deferred_most": 100 * float(deferred.max()),
        "deferred_chosen": 100 * float(chosen.mean()),
        "loss": 100 * float(loss.mean()),
        # a loss is a whole number of examples over n, so its rounding is far below one
        "over_epsilon": 100 * float((loss > epsilon + 1e-12).mean()),
        "saving": 100 * float((deferred < 1).mean()),
        "pairs": deferred.size,
    }


def _among_kept(runs: Sequence[Certified], epsilon: float) -> Row:
    """Returns the entries over all pairs of runs of thresholds certified by the loss among those kept."""
    deferred, loss = (np.stack([getattr(run, name) for run in runs]) for name in ("deferred", "loss_among_kept"))
    some = loss[~np.isnan(loss)]
    return {
        "deferred": 100 * float(deferred.mean()),
        "deferred_least": 100 * float(deferred.min()),
        "deferred_most": 100 * float(deferred.max()),
        "loss_among_kept": 100 * float(some.mean()) if some.size else math.nan,
        "over_epsilon": 100 * float((some > epsilon + 1e-12).mean()) if some.size else math.nan,
        "saving": 100 * float((deferred < 1).mean()),
        "pairs": deferred.size,
    }


def _by_run(
    runs: Sequence[Certified],
    scores: Mapping[str, np.ndarray],
    score: str,
    small: SizeRuns,
    large: SizeRuns,
    calibration: np.ndarray,
    config: Metrics,
) -> list[Row]:
    """Returns the entries of a row for each small run, paired with one larger run."""
    assert large.correct is not None
    by_run: list[Row] = []
    evaluates = ~calibration
    examples = np.count_nonzero(evaluates)
    for i, run in enumerate(runs):
        j = i % len(large.seeds)
        theirs = np.count_nonzero(large.correct[j] & evaluates) / examples
        by_run.append(
            {
                "small_seed": small.seeds[i],
                "large_seed": large.seeds[j],
                "threshold": natural_units(score, float(run.threshold[j]), scores, config),
                "deferred": 100 * float(run.deferred[j]),
                "loss": 100 * float(run.loss[j]),
                "accuracy": 100 * (theirs - float(run.loss[j])),
                "large_accuracy": 100 * theirs,
            }
        )
    return by_run


def natural_units(score: str, value: float, values: Mapping[str, np.ndarray], config: Metrics) -> float:
    """Returns a threshold in the units of docs/metrics.md, from those that a size's scores are ranked in.

    NaN where all examples go to the larger model, inf where none has to. `values` are the size's scores: of two classes
    the entropy is ranked by the margin, which is the same array.
    """
    if math.isinf(value):
        return math.nan if value < 0 else math.inf
    committee = committee_size(len(values[score]), config)
    if score == "churn":
        return value / (committee - 1)
    if score == "committee_churn":
        return value / ((committee - 1) * (committee - (1 if config.committee_churn_includes_self else 2)))
    if score.endswith("entropy") and values[score] is values[score.replace("entropy", "margin")]:
        p = math.exp(value) / 2  # of the less likely class
        return -p * math.log(p) - (1 - p) * math.log1p(-p) if p > 0 else 0.0
    return math.exp(value)
