"""Certifies thresholds: whom to defer so as to be no worse than ε below the larger model, with probability 1 - δ.

`metrics/statistics/thresholds.py` finds them on one half of the examples; the other half says what they do there.
"""

from collections.abc import Iterator

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond.certifiable import clusters_note, epsilon_warning
from metrics.beyond.certified_entries import Calibration, CertifiedEntries, certified_entries
from metrics.beyond.table import PAIR, SCORE, BeyondTable, Context, Observer, pair_entries, score_entries
from metrics.grid.runs import Grid
from metrics.statistics.thresholds import Certified, SplitScores
from metrics.tables.table import Column, Row


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
        clusters = Calibration.of_grid(self.grid, self.config).clusters
        assert clusters is not None
        return [clusters_note(clusters, self.config)]

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*super().gaps(), *self.warnings()]

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if not view.larger:
            return
        calibration = Calibration.of_grid(self.grid, self.config)
        runs_of_sizes = [len(large.seeds) for large in view.larger]

        def certified_of(run: int) -> dict[str, tuple[list[Certified], list[Certified]]]:
            """Returns what is certified of one run: score -> by larger size, over all examples and among those kept."""
            gains = view.gains[run]
            differences = np.abs(gains)
            found = {}
            for first, alike in view.distinct.items():
                split = SplitScores.of_halves(
                    view.scores[first][run], calibration.half, calibration.clusters, view.orders[first][run]
                )
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
                    calibration,
                    self.config,
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
