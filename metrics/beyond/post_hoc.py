"""Learns whom to defer: a small model predicts from a small run's outputs where the larger one is worth asking.

Confidence defers where the small model is unsure, whether or not the larger one knows better. Jitkrittum et al. 2023
(*When does confidence-based cascade deferral suffice?*) show when that falls short, and fit the difference instead: a
regression of d = l - s ("Diff-01") on the small model's outputs. Here it is cross-fitted: no example is scored by a
model that saw it.
"""

import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.intervals import InfluentialExamples, reflected_estimate, t_estimate
from metrics.analysis.pairs import SizePair
from metrics.beyond.few import few_in_signature, first_few
from metrics.beyond.table import PAIR, SCORE, BeyondTable, Context, Observer, interval_entries, pair_entries
from metrics.bootstrap import SwitcherSamples, switcher_samples
from metrics.bootstrap.resampling import Estimate, Resampling
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.boosted_trees import ColumnPredictor
from metrics.statistics.components import ExampleInfluence, area_influence, variance_of_pairs
from metrics.statistics.ranked_sums import RankedSums
from metrics.statistics.switcher import (
    DeferralOrder,
    PairStatistics,
    SwitcherStatistics,
    deferral_order,
    pair_statistics,
    percentiles,
    switcher_statistics,
)
from metrics.statistics.uncertainty import log_probabilities
from metrics.tables.table import Column, Row

FOLDS = 5
# That a fold's model is fitted on. On 357,199 synthetic examples 20,000 would take half of the fits' time, but move
# Table 3's cells by -0.016 to +0.025 points, and those of one run's outputs down for all of six pairs.
MOST_ROWS = 50_000
# From so many on, 20 trees of twice the rate say what 40 do (Table 3's cells move by -0.0015 to +0.002 points, up and
# down) in three quarters of the time; of 1,000 examples they order worse, by 0.007 points.
_MANY_ROWS = 10_000
_MOST_CLASSES = 20  # with a feature each; of more classes, the likeliest ten
_LOWEST_LOG = -700.0  # instead of -inf, which the trees don't take

ALONE, COMMITTEE = "post_hoc", "post_hoc_committee"
_TITLES = {
    "margin": "Margin",
    ALONE: "Post-hoc, one run's outputs",
    COMMITTEE: "Post-hoc, with churn and committee",
    "perfect": "Perfect router",
}
_OF_A_COMMITTEE = ("churn", "committee_margin", "committee_entropy", "committee_churn")


class LearnedScores(Observer):
    """Learns a score for each pair of sizes, and keeps its switchers."""

    needs_right_or_wrong = True
    deployable_only = True
    fewest_examples = 100  # below it there is nothing to learn from

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.learned: dict[Context, dict[tuple[str, str], LearnedCells]] = {}  # by (small, large)
        if grid.pairs and self.applies_in(None):
            load_in_background()

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if not view.larger:
            return
        learned = self.learned.setdefault(view.context, {})
        few = first_few(view.resampling)
        of_runs = features(view.size, view.scores, self.config.length_normalized, view.parallel_map)
        inputs = inputs_of_fits(of_runs, view.scores, view.parallel_map)
        powers = powers_of_runs(inputs[ALONE], view.parallel_map)
        margin, first = view.results["margin"], len(learned)

        def learn(place: int) -> LearnedCells:
            large, seed = view.larger[place], (self.config.seed, first + place)
            found = post_hoc_of(view.size, large, inputs, powers, few, seed, view.parallel_map, view.influential)
            return LearnedCells.of(
                found,
                large.name,
                margin.switchers[large.name],
                margin.influence.get(large.name),
                self.config.confidence,
            )

        # All pairs at a time, whose folds share the threads: of one pair's five folds two threads would share the last.
        with ThreadPoolExecutor(len(view.larger)) as pairs:
            for large, cells in zip(view.larger, pairs.map(learn, range(len(view.larger))), strict=True):
                learned[view.size.name, large.name] = cells

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score): the margin, the learned scores, the perfect router."""
        rows: list[Row] = []
        for pair in analysis.pairs:
            perfect = float(pair.bounds.perfect_area.mean())
            for score, cells in self._cells(analysis, pair, perfect).items():
                share = cells["table3"] / perfect if perfect > 0 else math.nan
                rows.append(
                    {
                        **pair_entries(analysis, pair.small, pair.large),
                        "score_title": _TITLES[score],
                        "score": score,
                        **cells,
                        "share_of_perfect": share,
                        "pairs": pair.gaps.size,
                    }
                )
        return rows

    def _cells(self, analysis: Analysis, pair: SizePair, perfect: float) -> dict[str, Row]:
        """Returns each score's entries of Tables 1 and 3, in points; `perfect` is the perfect router's area."""
        learned = self.learned[analysis.context][pair.small, pair.large]
        margin = pair.area["margin"].value
        cells: dict[str, Row] = {
            "margin": {
                **interval_entries("table1", pair.peak_gain["margin"], 100),
                **interval_entries("table3", pair.area["margin"], 100),
                **interval_entries("over_margin", Estimate(0.0), 100),
                "passes": 1,
            }
        }
        for score, table1 in learned.table1.items():
            cells[score] = {
                **interval_entries("table1", table1, 100),
                **interval_entries("table3", learned.table3[score], 100),
                **interval_entries("over_margin", learned.over_margin[score], 100),
                "passes": 1 if score == ALONE else pair.committee,
            }
        cells["perfect"] = {
            **interval_entries("table1", Estimate(float(pair.bounds.perfect_hump.mean())), 100),
            **interval_entries("table3", Estimate(perfect), 100),
            **interval_entries("over_margin", Estimate(perfect - margin), 100),
            "passes": 1,
        }
        return cells


def _folds_in_signature(config: Metrics) -> list[str]:
    return [*few_in_signature(config), f"folds:{FOLDS}-seed{config.seed}"]


POST_HOC = BeyondTable(
    name="post_hoc",
    title="Post-hoc deferral: a model of where the larger one is right, against confidence",
    reading=(
        "Cells of Tables 1 and 3 for a score that was learned: a curve in the margin's rank and boosted trees, "
        "fitted to predict l - s from the small run's outputs on four fifths of the examples, scoring the fifth "
        "they didn't see, by rank among that fifth. Over the margin, interval above 0: confidence leaves something "
        "on the table. Intervals take the fits as they are: they do not include fitting anew on other examples, which "
        "may move a learned score further. The perfect router knows every d and is out of reach of any score. The "
        "committee's version needs as many runs of the small model as a committee has."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("table1", "Table 1", "points", "+.2f", interval=True),
        Column("table3", "Table 3", "points", "+.2f", interval=True),
        Column("over_margin", "Table 3 over the margin's", "points", "+.2f", interval=True),
        Column("share_of_perfect", "of the perfect router's", "%", ".1f"),
        Column("passes", "Small passes", "", "d"),
        Column("pairs", "Pairs", "", "d"),
    ),
    observer=LearnedScores,
    rows=LearnedScores.rows,
    choices=_folds_in_signature,
)


@dataclass
class PostHoc:
    """Holds the switchers of one size pair by its learned scores."""

    scores: dict[str, PairStatistics]
    samples: SwitcherSamples  # of the first few resamples
    influence: dict[str, ExampleInfluence]  # on the area of Table 3; {} without intervals


@dataclass
class LearnedCells:
    """Holds the cells of Tables 1 and 3 of one size pair by its learned scores, by score. Fractions."""

    table1: dict[str, Estimate]
    table3: dict[str, Estimate]
    over_margin: dict[str, Estimate]  # Table 3 minus the margin's, of the same runs and examples

    @classmethod
    def of(
        cls,
        learned: PostHoc,
        large: str,
        margin: PairStatistics,
        margin_influence: ExampleInfluence | None,
        confidence: float,
    ) -> Self:
        """Returns the cells with their intervals, beside what the margin gives; None makes none of Table 3."""
        cells = cls({}, {}, {})
        for score, statistics in learned.scores.items():
            samples = learned.samples.peak_gain[large, score]
            cells.table1[score] = reflected_estimate(statistics.peak_gain, samples, confidence)
            area, over_margin = statistics.area, statistics.area - margin.area
            if margin_influence is None:
                cells.table3[score], cells.over_margin[score] = Estimate(area.mean()), Estimate(over_margin.mean())
                continue
            influence = learned.influence[score]
            cells.table3[score] = t_estimate(area.mean(), variance_of_pairs(area, influence), confidence)
            variance = variance_of_pairs(over_margin, influence.minus(margin_influence))
            cells.over_margin[score] = t_estimate(over_margin.mean(), variance, confidence)
        return cells


def load_in_background() -> None:
    """Imports scikit-learn on another thread: it takes two seconds, while numpy works on without the interpreter."""

    def load() -> None:
        # If it fails, the import that needs it fails again, where the error is seen.
        with suppress(Exception):
            import sklearn.ensemble  # noqa: F401

    threading.Thread(target=load, daemon=True).start()


def post_hoc_of(
    small: SizeRuns,
    large: SizeRuns,
    inputs: Mapping[str, np.ndarray],
    powers: np.ndarray,
    resampling: Resampling,
    seed: tuple[int, ...],
    parallel_map: ParallelMap = map,
    influential: InfluentialExamples | None = None,
) -> PostHoc:
    """Fits, scores and resamples one pair of sizes with `correct`, and 100 examples or more.

    `inputs` are those of each fit, as `inputs_of_fits` returns them, and `powers` as `powers_of_runs` does: they are of
    the small size alone. `influential` are the examples whose influence on the area is wanted.
    """
    assert small.correct is not None and large.correct is not None
    small_correct, large_correct = small.correct, large.correct
    samples = switcher_samples(small, [large], resampling)
    predicted = {}
    for score, columns in inputs.items():
        rng = np.random.default_rng(np.random.SeedSequence(seed[0], spawn_key=(14, *seed[1:])))
        predicted[score] = cross_fitted(
            columns, small_correct, large_correct, rng, parallel_map, resampling.clusters, powers
        )
    statistics: dict[str, list[SwitcherStatistics]] = {score: [] for score in predicted}
    influence: dict[str, list[np.ndarray]] = {score: [] for score in predicted}  # by run

    large_by_example = np.ascontiguousarray(large_correct.T).view(np.int8)  # an example's side by side: faster to sort

    def add_runs(score: str) -> None:
        """Adds the switchers of every run by one score, runs in order, so that sums always give the same bits."""
        for run, own in enumerate(small_correct):
            deferral = deferral_order(predicted[score][run])
            gains = (large_by_example - own.view(np.int8)[:, None]).T
            ranked = RankedSums.of_order(deferral.order, gains)
            found = switcher_statistics(deferral, own, large_correct, ranked)
            statistics[score].append(found)
            samples.run(run).add(score, deferral)
            if influential is not None:
                influence[score].append(area_influence(deferral, gains, found.area, influential.rows, ranked))

    list(parallel_map(add_runs, predicted))
    return PostHoc(
        {score: pair_statistics(small.name, large.name, score, runs) for score, runs in statistics.items()},
        samples,
        {
            score: ExampleInfluence.of_runs(runs, small_correct.shape[1], influential.clusters)
            for score, runs in influence.items()
            if influential is not None
        },
    )


def inputs_of_fits(
    inputs: np.ndarray, scores: Mapping[str, np.ndarray], parallel_map: ParallelMap = map
) -> dict[str, np.ndarray]:
    """Returns what each fit learns from: a run's `features` [R, n, F], and these with its committee's scores, if any.

    `scores` are the size's, [R, n] each.
    """
    result = {ALONE: inputs}
    more = [scores[name] for name in _OF_A_COMMITTEE if name in scores]
    if more:
        runs, n, own = inputs.shape
        with_committee = result[COMMITTEE] = np.empty((runs, n, own + len(more)), dtype=np.float32)

        def fill(run: int) -> None:
            with_committee[run, :, :own] = inputs[run]
            for place, column in enumerate(more, start=own):
                with_committee[run, :, place] = np.clip(column[run], _LOWEST_LOG, None)

        list(parallel_map(fill, range(runs)))
    return result


def powers_of_runs(inputs: np.ndarray, parallel_map: ParallelMap = map) -> np.ndarray:
    """Returns `rank_powers` by the first of each run's inputs, the margin: [R, n, F] -> [R, n, 4] float64."""
    return np.stack(list(parallel_map(lambda run: rank_powers(deferral_order(run[:, 0])), inputs)))


def features(
    size: SizeRuns, scores: Mapping[str, np.ndarray], length_normalized: bool, parallel_map: ParallelMap = map
) -> np.ndarray:
    """Returns what each run of a size tells of its examples, without a label: [R, n, F] float32, the margin first.

    Margin and entropy; of classes, the log-probability of each in their order (of many, the prediction and the highest
    ten); of sequences, by tokens of the run's own output, their number, and the least and mean log-probability.
    """

    def of_run(run: int) -> np.ndarray:
        columns = [scores["margin"][run], scores["entropy"][run]]
        if size.task == "classification":
            log_p = log_probabilities(size, run, length_normalized)
            if log_p.shape[1] > _MOST_CLASSES:
                columns.append(size.prediction[run])
                log_p = -np.sort(-log_p, axis=1)[:, :10]
            columns += list(log_p.T)
        else:
            tokens = size.tokens("self", run)
            columns.append(tokens.lengths)
            columns.append(np.minimum.reduceat(tokens.log_probs, tokens.offsets[:-1]))
            columns.append(np.add.reduceat(tokens.log_probs, tokens.offsets[:-1]) / tokens.lengths)
        values = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
        for place, column in enumerate(columns):
            values[:, place] = np.clip(column, _LOWEST_LOG, None)
        return values

    return np.stack(list(parallel_map(of_run, range(len(size.seeds)))))


def cross_fitted(
    inputs: np.ndarray,
    small_correct: np.ndarray,
    large_correct: np.ndarray,
    rng: np.random.Generator,
    parallel_map: ParallelMap = map,
    clusters: np.ndarray | None = None,
    powers: np.ndarray | None = None,
) -> np.ndarray:
    """Predicts E[d | inputs] of every run's examples by models that saw none of them: [R_small, n, F] -> [R_small, n].

    Examples, or whole `clusters` of them, are split into five folds. The model of a fold is fitted on the other four:
    each of their examples once, with one small and one large run drawn at random, as much as one pair of runs has to
    learn from; of more than 50,000 examples, as many drawn at random. It is a cubic in the rank of the first feature
    (the margin; ranks need no label) and, on what that leaves, shallow trees: with few examples to learn from it stays
    near confidence, which trees alone fall below.

    `powers` [R_small, n, 4] are those of `powers_of_runs`, where the same inputs are fitted more than once.

    What a fold's model predicts is returned as its rank among that fold's examples, 0-1: predictions of different
    models have levels of their own, and a model fitted on better examples than it is applied to predicts too much of
    them, so that pooled predictions order the folds the wrong way round.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    runs, n, _ = inputs.shape
    fold = rng.permutation(n if clusters is None else int(clusters.max()) + 1) % FOLDS
    if clusters is not None:
        fold = fold[clusters]
    own, other = np.asarray(rng.integers(runs, size=n)), np.asarray(rng.integers(len(large_correct), size=n))
    example = np.arange(n)
    d = large_correct[other, example].astype(np.float64) - small_correct[own, example]
    powers = powers_of_runs(inputs, parallel_map) if powers is None else powers
    present = np.unique(fold)  # of fewer than five clusters there are fewer folds
    others = {k: np.flatnonzero(fold != k) for k in present.tolist()}
    fitted_on = {
        k: rng.choice(rows, MOST_ROWS, replace=False) if len(rows) > MOST_ROWS else rows for k, rows in others.items()
    }
    predicted = np.zeros((runs, n))

    def of_fold(k: int) -> None:
        rows, held_out = fitted_on[k], np.flatnonzero(fold == k)
        rows = rows[np.argsort(powers[own[rows], rows, 1])]  # in order of the margin trees are fitted faster
        of_rank = powers[own[rows], rows]
        cubic = np.linalg.lstsq(of_rank, d[rows], rcond=None)[0]
        count = 40 if len(rows) < _MANY_ROWS else 20
        trees = HistGradientBoostingRegressor(
            max_iter=count,
            learning_rate=2 / count,
            max_leaf_nodes=4,
            min_samples_leaf=int(np.clip(len(rows) // 20, 10, 500)),
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
        with threadpool_limits(limits=1, user_api="openmp"):  # of this thread: the folds have the cores
            trees.fit(np.asfortranarray(inputs[own[rows], rows]), d[rows] - of_rank @ cubic)
            predictor = ColumnPredictor(trees)
            for run in range(runs):
                values = powers[run].take(held_out, axis=0) @ cubic
                values += predictor.predict(inputs[run].take(held_out, axis=0))
                predicted[run, held_out] = percentiles(deferral_order(values)) / 100

    list(parallel_map(of_fold, fitted_on))
    return predicted


def rank_powers(deferral: DeferralOrder) -> np.ndarray:
    """Returns 1, r, r², r³ for each example, r being the share of less certain examples, ties half: [n, 4]."""
    middle = (deferral.knots[:-1] + deferral.knots[1:]) / (2 * deferral.examples)
    rank = np.empty(deferral.examples)
    rank[deferral.order] = np.repeat(middle, np.diff(deferral.knots))
    powers: np.ndarray = rank[:, None] ** np.arange(4)
    return powers
