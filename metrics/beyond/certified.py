"""Certifies thresholds: whom to defer so as to be no worse than ε below the larger model, with probability 1 - δ.

`metrics/statistics/thresholds.py` finds them on one half of the examples; the other half says what they do there.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond.certifiable import clusters_note, epsilon_warning
from metrics.beyond.peak import half_of_clusters
from metrics.beyond.retrained import retrained_entries
from metrics.beyond.table import PAIR, SCORE, BeyondTable, Context, Observer, pair_entries, score_entries
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.certificates import LIMITS, test_by_counts
from metrics.statistics.cluster_certificates import Clusters
from metrics.statistics.thresholds import Certified, SplitScores, fewest_kept
from metrics.statistics.uncertainty import committee_size
from metrics.tables.table import Column, Row


@dataclass
class CertifiedEntries:
    """Holds the entries of rows that the tables have of one pair of sizes by one score."""

    over_runs: Row
    by_run: list[Row]
    among_kept: Row  # empty where ε is 0, which no number of examples certifies
    retrained: Row


class CertifiedThresholds(Observer):
    """Certifies thresholds of each pair of sizes by each score, and keeps the entries that the tables have of them."""

    needs_right_or_wrong = True
    deployable_only = True
    fewest_examples = 20  # to calibrate a threshold on one half and look at it on the other

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.entries: dict[tuple[Context, str, str, str], CertifiedEntries] = {}  # by context, small, large and score

    def warnings(self) -> list[str]:
        """Returns that ε is too small to be certified by so many examples, with the least ε and the examples needed."""
        if not any(self.applies_in(context) for context in (None, "self")):
            return []
        if self.grid.clusters is None:
            warning = epsilon_warning(self.grid.examples, self.config)
            return [warning] if warning else []
        return [clusters_note(calibration_clusters(self.grid, self.config), self.config)]

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*super().gaps(), *self.warnings()]

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if not view.larger:
            return
        half = calibration_half(self.grid.examples, self.config.seed, self.grid.clusters)
        clusters = None if self.grid.clusters is None else calibration_clusters(self.grid, self.config)

        runs_of_sizes = [len(large.seeds) for large in view.larger]

        def certified_of(run: int) -> dict[str, tuple[list[Certified], list[Certified]]]:
            """Returns what is certified of one run: score -> by larger size, over all examples and among those kept."""
            gains = view.gains[run]
            differences = np.abs(gains)
            found = {}
            for first, alike in view.distinct.items():
                split = SplitScores.of_halves(view.scores[first][run], half, clusters, view.orders[first][run])
                candidates = split.candidates(gains, differences)
                certified = candidates.certified(self.config.epsilon, self.config.delta).parts(runs_of_sizes)
                among_kept = []
                if self.config.epsilon > 0:
                    kept = candidates.certified_among_kept(self.config.epsilon, self.config.delta)
                    among_kept = kept.parts(runs_of_sizes)
                found.update(dict.fromkeys(alike, (certified, among_kept)))
            return found

        by_run = list(view.parallel_map(certified_of, range(len(view.size.seeds))))

        def entries_by(score: str) -> list[CertifiedEntries]:
            return [
                certified_entries(
                    view.scores,
                    score,
                    [run[score][0][place] for run in by_run],
                    [run[score][1][place] for run in by_run if run[score][1]],
                    view.size,
                    large,
                    half,
                    self.config,
                    clusters,
                    self.grid.clusters,
                )
                for place, large in enumerate(view.larger)
            ]

        for score, entries in zip(view.scores, view.parallel_map(entries_by, view.scores), strict=True):
            for large, of_large in zip(view.larger, entries, strict=True):
                self.entries[view.context, view.size.name, large.name, score] = of_large

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score)."""
        return [{**names, **entries.over_runs} for names, entries in self._entries(analysis)]

    def rows_of_runs(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score, small seed)."""
        return [{**names, **row} for names, entries in self._entries(analysis) for row in entries.by_run]

    def rows_among_kept(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), of thresholds certified by the loss among those kept."""
        return [{**names, **entries.among_kept} for names, entries in self._entries(analysis) if entries.among_kept]

    def rows_retrained(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), of thresholds reused on other runs."""
        return [{**names, **entries.retrained} for names, entries in self._entries(analysis)]

    def _entries(self, analysis: Analysis) -> Iterator[tuple[Row, CertifiedEntries]]:
        for pair in analysis.pairs:
            for score in pair.scores:
                names = {**pair_entries(analysis, pair.small, pair.large), **score_entries(score)}
                yield names, self.entries[analysis.context, pair.small, pair.large, score]


def _promise_in_signature(config: Metrics) -> list[str]:
    return [f"epsilon:{config.epsilon:g}", f"delta:{config.delta:g}", f"split:half-seed{config.seed}"]


_GUARANTEE = (
    "Each holds by itself: the thresholds of two scores are not certified together. It is for examples like these, for "
    "these runs."
)

CLUSTER_TEST = "betting on clusters"

_PROMISE = (
    Column("epsilon", "ε", "points", ".2f"),
    Column("delta", "δ", "", ".2g"),
)
_DEFERRED = (
    Column("deferred", "Deferred", "%", ".1f"),
    Column("deferred_least", "least", "%", ".1f"),
    Column("deferred_most", "most", "%", ".1f"),
)
_EXTENT = (
    Column("saving", "Pairs that save", "%", ".0f"),
    Column("pairs", "Pairs", "", "d"),
    Column("calibration", "Calibration examples", "", ",d"),
    Column("evaluation", "Other half", "", ",d"),
    Column("test", "Test"),
)

CERTIFIED = BeyondTable(
    name="certified",
    title="Certified deferral: no worse than ε below the larger model, with probability 1 - δ",
    reading=(
        "The share of examples that has to go to the larger model so that the mixture is certified to be at most ε "
        "below it (100 %: nothing can be saved with this certainty), a mean over pairs of runs with its least and "
        "most. Loss: how far below the larger model the mixture is on the half that nothing was chosen on (below "
        "0: above it); runs over ε there are by chance a few even where every certificate is right, as that half "
        "is a sample too. Test: exact by counts of examples (trinomial, or two limits), or by bets on whole clusters "
        "where examples come in clusters. " + _GUARANTEE
    ),
    columns=(
        *PAIR,
        *SCORE,
        *_PROMISE,
        *_DEFERRED,
        Column("deferred_chosen", "on the calibration half", "%", ".1f", shown=False),
        Column("loss", "Loss", "points", "+.2f"),
        Column("over_epsilon", "Pairs over ε", "%", ".0f"),
        *_EXTENT,
    ),
    observer=CertifiedThresholds,
    rows=CertifiedThresholds.rows,
    choices=_promise_in_signature,
)

CERTIFIED_RUNS = BeyondTable(
    name="certified_runs",
    title="Certified thresholds of single runs, to deploy",
    reading=(
        "Send an example to the larger run where the small run's score is at least the threshold (margin: "
        "1 - (p₁ - p₂); entropy: nats; churn: a fraction; -: no threshold is certified, send all; inf: send none). "
        "Each small run is paired with one larger run. " + _GUARANTEE
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("small_seed", "Small seed"),
        Column("large_seed", "Large seed"),
        Column("threshold", "Threshold", "", ".4g"),
        Column("deferred", "Deferred", "%", ".1f"),
        Column("loss", "Loss", "points", "+.2f"),
        Column("accuracy", "Accuracy", "%", ".2f"),
        Column("large_accuracy", "Larger model's", "%", ".2f"),
    ),
    observer=CertifiedThresholds,
    rows=CertifiedThresholds.rows_of_runs,
    choices=_promise_in_signature,
)

CERTIFIED_KEPT = BeyondTable(
    name="certified_kept",
    title="Certified among those kept: no worse than ε on the examples that the smaller model answers alone",
    reading=(
        "The certificate above is over all examples, so that many easy ones make up for wrong answers among those "
        "that the smaller model keeps. This one bounds the loss among those kept, at this threshold and at every lower "
        "one that keeps at least the fewest examples given: however sure the smaller model has to be, on what it then "
        "answers alone it loses at most ε, with probability 1 - δ. " + _GUARANTEE
    ),
    columns=(
        *PAIR,
        *SCORE,
        *_PROMISE,
        *_DEFERRED,
        Column("loss_among_kept", "Loss among those kept", "points", "+.2f"),
        Column("over_epsilon", "Pairs over ε", "%", ".0f"),
        Column("fewest_kept", "Fewest kept", "examples", ",d"),
        *_EXTENT,
    ),
    observer=CertifiedThresholds,
    rows=CertifiedThresholds.rows_among_kept,
    choices=_promise_in_signature,
)

CERTIFIED_RETRAINED = BeyondTable(
    name="certified_retrained",
    title="Certified thresholds after retraining: how often they lose more than ε",
    reading=(
        "A certificate is for the two runs that it was made of. Here the thresholds that save something are reused on "
        "the grid's other seeds, as if a model had been trained anew: the larger, the smaller, or both. In percent of "
        "such reuses: how many lose more than ε on the half that nothing was chosen on (on some 50,000 of its examples "
        "where there are more); compare with the threshold's own runs, of which some do by chance. Same share: a new "
        "threshold for the new run, without labels, so that it defers as many. -: no threshold saves, or there is no "
        "other seed. Calibrate anew after retraining."
    ),
    columns=(
        *PAIR,
        *SCORE,
        *_PROMISE,
        Column("thresholds", "Thresholds", "", "d"),
        Column("own_over", "Over ε: own runs", "%", ".0f"),
        Column("new_large_over", "larger retrained", "%", ".0f"),
        Column("new_small_over", "smaller retrained", "%", ".0f"),
        Column("both_new_over", "both retrained", "%", ".0f"),
        Column("same_share_over", "both, same share", "%", ".0f"),
        Column("both_new_loss", "Loss, both retrained", "points", "+.2f"),
        Column("both_new_worst", "worst", "points", "+.2f"),
    ),
    observer=CertifiedThresholds,
    rows=CertifiedThresholds.rows_retrained,
    choices=_promise_in_signature,
)


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


def calibration_clusters(grid: Grid, config: Metrics) -> Clusters:
    """Returns the clusters of the examples that calibrate, of a grid that has clusters."""
    assert grid.clusters is not None
    half = calibration_half(grid.examples, config.seed, grid.clusters)
    return Clusters.of_examples(grid.clusters, np.flatnonzero(half), config.seed)


def certified_entries(
    scores: Mapping[str, np.ndarray],
    score: str,
    runs: Sequence[Certified],
    kept: Sequence[Certified],
    small: SizeRuns,
    large: SizeRuns,
    calibration: np.ndarray,
    config: Metrics,
    clusters: Clusters | None = None,
    cluster_of_each: np.ndarray | None = None,
) -> CertifiedEntries:
    """Returns the entries of the rows that the tables have of one pair of sizes by one score.

    `scores` are all of the small size's, [R, n] each; `runs` are what is certified of each small run by this score, and
    `kept` by the loss among those kept, none where ε is 0; `calibration` [n] bool says which examples calibrate.
    `clusters` are theirs and `cluster_of_each` [n] int is all examples', None where each is drawn by itself. Both sizes
    have `correct`.
    """
    promise: Row = {"epsilon": 100 * config.epsilon, "delta": config.delta}
    calibrates = int(calibration.sum())
    halves: Row = {"calibration": calibrates, "evaluation": int((~calibration).sum())}
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
    evaluates = np.flatnonzero(~calibration)
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
        cluster_of_each,
    )
    return CertifiedEntries(
        over_runs={**promise, **_over_pairs(runs, config.epsilon), **halves, "test": tests[0]},
        by_run=_by_run(runs, scores, score, small, large, calibration, config),
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
