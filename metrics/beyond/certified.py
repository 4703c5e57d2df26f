"""Certifies thresholds: whom to defer so as to be no worse than ε below the larger model, with probability 1 - δ.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052): thresholds are hypotheses "this one loses more than ε",
tested one after the other on a calibration half from the safest on, each at level δ, until one can't be rejected. The
last rejected is certified: whatever the data, with probability at least 1 - δ over the calibration half it loses no
more than ε in the population. The other half says what it does there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond.table import PAIR, SCORE, BeyondTable, Context, Observer, pair_entries, score_entries
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.certificates import examples_needed, least_epsilon, loses_no_more
from metrics.statistics.switcher import FRACTIONS, sums_before
from metrics.tables.table import Column, Row


class CertifiedThresholds(Observer):
    """Certifies thresholds of each pair of sizes by each score, and keeps the entries that both tables have of them."""

    needs_right_or_wrong = True
    deployable_only = True
    fewest_examples = 20  # to calibrate a threshold on one half and look at it on the other

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        # by (context, small, large, score): entries of the row over all runs, and of a row a small run
        self.entries: dict[tuple[Context, str, str, str], tuple[Row, list[Row]]] = {}

    def warnings(self) -> list[str]:
        """Returns that ε is too small to be certified by so many examples, with the least ε and the examples needed."""
        if not any(self.applies_in(context) for context in (None, "self")):
            return []
        warning = epsilon_warning(self.grid.examples, self.config)
        return [warning] if warning else []

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*super().gaps(), *self.warnings()]

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        half = calibration_half(self.grid.examples, self.config.seed)
        for large in view.larger:

            def certified_by(score: str, large: SizeRuns = large) -> tuple[Row, list[Row]]:
                return certified_entries(view.scores, score, view.size, large, half, self.config)

            for score, entries in zip(view.scores, view.parallel_map(certified_by, view.scores), strict=True):
                self.entries[view.context, view.size.name, large.name, score] = entries

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score)."""
        rows: list[Row] = []
        for pair in analysis.pairs:
            for score in pair.scores:
                over_runs, _ = self.entries[analysis.context, pair.small, pair.large, score]
                rows.append({**pair_entries(analysis, pair.small, pair.large), **score_entries(score), **over_runs})
        return rows

    def rows_of_runs(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score, small seed)."""
        rows: list[Row] = []
        for pair in analysis.pairs:
            for score in pair.scores:
                names = {**pair_entries(analysis, pair.small, pair.large), **score_entries(score)}
                _, by_run = self.entries[analysis.context, pair.small, pair.large, score]
                rows += [{**names, **entries} for entries in by_run]
        return rows


def _promise_in_signature(config: Metrics) -> list[str]:
    return [f"epsilon:{config.epsilon:g}", f"delta:{config.delta:g}", f"split:half-seed{config.seed}"]


_GUARANTEE = (
    "Each holds by itself: the thresholds of two scores are not certified together. It is for examples like these, for "
    "these runs."
)

CERTIFIED = BeyondTable(
    name="certified",
    title="Certified deferral: no worse than ε below the larger model, with probability 1 - δ",
    reading=(
        "The share of examples that has to go to the larger model so that the mixture is certified to be at most ε "
        "below it (100 %: nothing can be saved with this certainty), a mean over pairs of runs with its least and "
        "most. Loss: how far below the larger model the mixture is on the half that nothing was chosen on (below "
        "0: above it); runs over ε there are by chance a few even where every certificate is right, as that half "
        "is a sample too. " + _GUARANTEE
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("epsilon", "ε", "points", ".2f"),
        Column("delta", "δ", "", ".2g"),
        Column("deferred", "Deferred", "%", ".1f"),
        Column("deferred_least", "least", "%", ".1f"),
        Column("deferred_most", "most", "%", ".1f"),
        Column("deferred_chosen", "on the calibration half", "%", ".1f", shown=False),
        Column("loss", "Loss", "points", "+.2f"),
        Column("over_epsilon", "Pairs over ε", "%", ".0f"),
        Column("saving", "Pairs that save", "%", ".0f"),
        Column("pairs", "Pairs", "", "d"),
        Column("calibration", "Calibration examples", "", ",d"),
        Column("evaluation", "Other half", "", ",d"),
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


@dataclass
class Certified:
    """Holds the certified thresholds of one small run towards J larger runs. Fractions, 0-1."""

    threshold: np.ndarray  # [J], in the score's own units: defer where it is at least that; -inf: all
    chosen: np.ndarray  # [J], share of the calibration half it defers
    deferred: np.ndarray  # [J], share of the evaluation half it defers
    loss: np.ndarray  # [J], the larger model's accuracy minus the mixture's, on the evaluation half


def calibration_half(examples: int, seed: int) -> np.ndarray:
    """Draws the examples that calibrate, the same for all runs and scores: [n] bool."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(13,)))
    half = np.zeros(examples, dtype=bool)
    half[rng.permutation(examples)[: examples // 2]] = True
    return half


def epsilon_warning(examples: int, config: Metrics) -> str:
    """Says that `metrics.epsilon` can't be certified by half of so many examples, and what can; "" if it can."""
    half, epsilon, delta = examples // 2, config.epsilon, config.delta
    least = least_epsilon(half, delta)
    if epsilon >= least:
        return ""
    least = math.ceil(least * 1e5 - 1e-9) / 1e5
    text = (
        f"metrics.epsilon={epsilon:g} is too small to certify anything: {half:,} examples to calibrate on, half of "
        f"{examples:,}, certify {least:g} at best with metrics.delta={delta:g}. "
    )
    if epsilon <= 0:
        return f"{text}No number of examples certifies a loss of 0: set metrics.epsilon={least:g} or more."
    needed = 2 * examples_needed(epsilon, delta)
    return f"{text}Set metrics.epsilon={least:g} or more, or score {needed:,} examples."


def certified_entries(
    scores: Mapping[str, np.ndarray],
    score: str,
    small: SizeRuns,
    large: SizeRuns,
    calibration: np.ndarray,
    config: Metrics,
) -> tuple[Row, list[Row]]:
    """Returns the entries of a row over all pairs of runs by one score, and of a row for each small run.

    `scores` are all of the small size's, [R, n] each; `calibration` [n] bool says which examples calibrate. Both sizes
    have `correct`.
    """
    assert small.correct is not None and large.correct is not None
    runs = [
        certify(own, right, large.correct, calibration, config.epsilon, config.delta)
        for own, right in zip(scores[score], small.correct, strict=True)
    ]
    deferred, chosen, loss = (np.stack([getattr(run, name) for run in runs]) for name in ("deferred", "chosen", "loss"))
    over_runs: Row = {
        "epsilon": 100 * config.epsilon,
        "delta": config.delta,
        "deferred": 100 * float(deferred.mean()),
        "deferred_least": 100 * float(deferred.min()),
        "deferred_most": 100 * float(deferred.max()),
        "deferred_chosen": 100 * float(chosen.mean()),
        "loss": 100 * float(loss.mean()),
        # a loss is a whole number of examples over n, so its rounding is far below one
        "over_epsilon": 100 * float((loss > config.epsilon + 1e-12).mean()),
        "saving": 100 * float((deferred < 1).mean()),
        "pairs": deferred.size,
        "calibration": int(calibration.sum()),
        "evaluation": int((~calibration).sum()),
    }
    by_run: list[Row] = []
    for i, run in enumerate(runs):
        j = i % len(large.seeds)
        theirs = float(large.correct[j][~calibration].mean())
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
    return over_runs, by_run


def certify(
    score: np.ndarray, small: np.ndarray, large: np.ndarray, calibration: np.ndarray, epsilon: float, delta: float
) -> Certified:
    """Certifies thresholds, from a run's score [n], correctness [n] and [J, n], and which examples calibrate [n] bool.

    Loss of threshold t: R(t) = E (l - s) 1[score < t]. Thresholds to test are the evaluation half's scores at its
    deferral fractions 1, .99 … 0, so they don't depend on what tests them; that half's correctness isn't looked at.
    """
    calibrates, evaluates = np.flatnonzero(calibration), np.flatnonzero(~calibration)
    fit, check = score.take(calibrates), score.take(evaluates)
    ranked = np.sort(check)[::-1]
    # defer fractions 1, 0.99 … 0.01: where the score is at least the ⌈f m⌉-th highest; then nothing
    at = np.ceil(FRACTIONS[:0:-1] * len(ranked) - 1e-9).astype(int) - 1
    thresholds = np.unique(ranked[at]).astype(np.float64)  # ascending: the safest first
    order = np.argsort(fit, kind="stable")
    below = np.searchsorted(fit[order], np.append(thresholds, np.inf), side="left")  # [T + 1], not deferred
    gains = _gains(small, large, calibrates.take(order))
    wins, losses = (sums_before((gains == sign).view(np.int8), below) for sign in (1, -1))  # [J, T + 1]
    passes = loses_no_more(wins, losses, len(fit), epsilon, delta)
    passed = np.logical_and.accumulate(passes, axis=1).sum(axis=1)  # how many before the first that fails
    candidates = np.concatenate([[-np.inf], thresholds, [np.inf]])
    threshold = candidates[passed]
    kept = check[None, :] < threshold[:, None]  # [J, m]
    return Certified(
        threshold=threshold,
        chosen=(fit[None, :] >= threshold[:, None]).mean(axis=1),
        deferred=(~kept).mean(axis=1),
        loss=(_gains(small, large, evaluates) * kept).mean(axis=1),
    )


def _gains(small: np.ndarray, large: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Returns d = l - s of some examples [m], in their order, from correctness [n] and [J, n] bool: [J, m] int8."""
    return large.take(examples, axis=1).view(np.int8) - small.take(examples).view(np.int8)


def natural_units(score: str, value: float, values: Mapping[str, np.ndarray], config: Metrics) -> float:
    """Returns a threshold in the units of docs/metrics.md, from those that a size's scores are ranked in.

    NaN where all examples go to the larger model, inf where none has to. `values` are the size's scores: of two classes
    the entropy is ranked by the margin, which is the same array.
    """
    if math.isinf(value):
        return math.nan if value < 0 else math.inf
    runs = len(values[score])
    if score == "churn":
        return value / (runs - 1)
    if score == "committee_churn":
        return value / ((runs - 1) * (runs - 1 if config.committee_churn_includes_self else runs - 2))
    if score.endswith("entropy") and values[score] is values[score.replace("entropy", "margin")]:
        p = math.exp(value) / 2  # of the less likely class
        return -p * math.log(p) - (1 - p) * math.log1p(-p) if p > 0 else 0.0
    return math.exp(value)
