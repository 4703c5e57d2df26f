"""Post-hoc deferral: a small model that learns, from the small run's outputs, where the larger one is worth asking.

Confidence defers where the small model is unsure, whether or not the larger one knows better. Jitkrittum et al. 2023
(*When does confidence-based cascade deferral suffice?*) show when that falls short, and fit the difference instead: a
regression of d = l - s ("Diff-01") on the small model's outputs. Here it is cross-fitted: no example is scored by a
model that saw it.
"""

from dataclasses import dataclass

import numpy as np

from metrics.analysis import Analysis
from metrics.beyond.passes import few
from metrics.beyond.table import KEYS, Column, Table, interval_of
from metrics.grid import SizeRuns
from metrics.intervals import estimate
from metrics.resampled import SwitcherSamples
from metrics.switcher import DeferralOrder, PairStatistics, deferral_order, pair_statistics
from metrics.tables import Row
from metrics.uncertainty import log_probabilities

FOLDS = 5
FEWEST = 100  # examples: below it there is nothing to learn from
MOST_ROWS = 50_000  # that a fold's model is fitted on
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


def post_hoc_table() -> Table:
    return Table(
        name="post_hoc",
        title="Post-hoc deferral: a model of where the larger one is right, against confidence",
        reading=(
            "Cells of Tables 1 and 3 for a score that was learned: a curve in the margin's rank and boosted trees, "
            "fitted to predict l - s from the small run's outputs on four fifths of the examples, scoring the fifth "
            "they didn't see. Over the margin, "
            "interval above 0: confidence leaves something on the table. The perfect router knows every d and is out "
            "of reach of any score. The committee's version needs every run of the small model."
        ),
        columns=(
            *(Column(key, key.capitalize()) for key in KEYS),
            Column("score_title", "Score"),
            Column("score", "score", shown=False),
            Column("table1", "Table 1", "points", "+.2f", interval=True),
            Column("table3", "Table 3", "points", "+.2f", interval=True),
            Column("over_margin", "Table 3 over the margin's", "points", "+.2f", interval=True),
            Column("share_of_perfect", "of the perfect router's", "%", ".1f"),
            Column("passes", "Small passes", "", "d"),
            Column("pairs", "Pairs", "", "d"),
        ),
    )


@dataclass
class PostHoc:
    """A learned score's switchers of one size pair."""

    small: str
    large: str
    scores: dict[str, PairStatistics]
    samples: SwitcherSamples


def post_hoc_scores(analysis: Analysis, length_normalized: bool, seed: int) -> tuple[list[PostHoc], list[str]]:
    """Fits and scores every pair of sizes, and says in notes what could not be; the samples are yet to be filled in."""
    grid = analysis.grid
    if grid.examples < FEWEST:
        return [], [f"{grid.examples} examples are too few to fit a post-hoc deferral ({FEWEST} or more)."]
    resamples = few(analysis.resampled.resampling.resamples)
    sizes = {size.name: size for size in grid.sizes}
    results = []
    for number, pair in enumerate(analysis.pairs):
        small, large = sizes[pair.small], sizes[pair.large]
        of_size = analysis.resampled.scores[small.name]
        alone = features(small, of_size, length_normalized)
        orders: dict[str, list[DeferralOrder]] = {}
        for score in (ALONE, COMMITTEE):
            given = alone
            if score == COMMITTEE:
                more = [of_size[name] for name in _OF_A_COMMITTEE if name in of_size]
                if not more:
                    continue
                given = np.concatenate([alone, np.stack(more, axis=2).clip(_LOWEST_LOG)], axis=2, dtype=np.float32)
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(14, number)))
            predicted = cross_fitted(given, small.correct, large.correct, rng)
            orders[score] = [deferral_order(run) for run in predicted]
        scores = {
            score: pair_statistics(small.name, large.name, score, of, small.correct, large.correct)
            for score, of in orders.items()
        }
        results.append(PostHoc(small.name, large.name, scores, SwitcherSamples(small, [large], orders, resamples)))
    return results, []


def features(size: SizeRuns, scores: dict[str, np.ndarray], length_normalized: bool) -> np.ndarray:
    """What one run of a size tells of its examples, without a label: [R, n, F] float32.

    Margin, entropy, and log-probabilities: of each class, in order of the classes (of many classes the highest ten).
    """
    columns = [scores["margin"], scores["entropy"]]
    if size.log_likelihoods is not None:
        log_p = log_probabilities(size, length_normalized)
        if log_p.shape[2] > _MOST_CLASSES:
            columns.append(size.prediction)
            log_p = -np.sort(-log_p, axis=2)[:, :, :10]
        columns += list(np.moveaxis(log_p, 2, 0))
    return np.stack([np.clip(column, _LOWEST_LOG, None) for column in columns], axis=2).astype(np.float32)


def cross_fitted(
    given: np.ndarray, small_correct: np.ndarray, large_correct: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """E[d | features] of every run's examples, by models that saw none of them: [R_small, n, F] -> [R_small, n].

    Examples are split into five folds. The model of a fold is fitted on the other four: each of their examples once,
    with one small and one large run drawn at random, as much as one pair of runs has to learn from. It is a cubic in
    the rank of the first feature (the margin; ranks need no label) and, on what that leaves, shallow trees: with few
    examples to learn from it stays near confidence, which trees alone fall below.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    runs, n, _ = given.shape
    fold = rng.permutation(n) % FOLDS
    own, other = np.asarray(rng.integers(runs, size=n)), np.asarray(rng.integers(len(large_correct), size=n))
    example = np.arange(n)
    d = large_correct[other, example].astype(np.float64) - small_correct[own, example]
    powers = np.stack([_powers(deferral_order(run[:, 0])) for run in given])  # [R_small, n, 4]
    predicted = np.zeros((runs, n))
    with threadpool_limits(limits=1, user_api="openmp"):  # small fits: more threads wait for one another
        for k in range(FOLDS):
            rows = np.flatnonzero(fold != k)
            if len(rows) > MOST_ROWS:
                rows = rng.choice(rows, MOST_ROWS, replace=False)
            of_rank = powers[own[rows], rows]
            cubic = np.linalg.lstsq(of_rank, d[rows], rcond=None)[0]
            trees = HistGradientBoostingRegressor(
                max_iter=40,
                learning_rate=0.05,
                max_leaf_nodes=4,
                min_samples_leaf=int(np.clip(len(rows) // 20, 10, 500)),
                l2_regularization=1.0,
                early_stopping=False,
                random_state=0,
            )
            trees.fit(given[own[rows], rows], d[rows] - of_rank @ cubic)
            held_out = np.flatnonzero(fold == k)
            for run in range(runs):
                left = trees.predict(given[run][held_out])
                predicted[run, held_out] = powers[run][held_out] @ cubic + left
    return predicted


def _powers(deferral: DeferralOrder) -> np.ndarray:
    """1, r, r², r³ of each example's share of less certain ones, ties half: [n, 4]."""
    middle = (deferral.knots[:-1] + deferral.knots[1:]) / (2 * deferral.examples)
    rank = np.empty(deferral.examples)
    rank[deferral.order] = np.repeat(middle, np.diff(deferral.knots))
    return rank[:, None] ** np.arange(4)


def post_hoc(analysis: Analysis, results: list[PostHoc], confidence: float) -> list[Row]:
    """One row a (small, large, score): the margin, the learned scores, the perfect router; samples are filled in."""
    rows: list[Row] = []
    pairs = {(pair.small, pair.large): pair for pair in analysis.pairs}
    for result in results:
        pair = pairs[result.small, result.large]
        resamples = few(analysis.resampled.resampling.resamples)
        margins = analysis.resampled.switchers[pair.small].area[pair.large, "margin"][:resamples]
        margin = pair.area["margin"].value
        perfect = float(pair.bounds.perfect_area.mean())
        runs = len(pair.gaps)
        names = dict(zip(KEYS, (analysis.grid.dataset, pair.small, pair.large), strict=True))
        cells: list[tuple[str, Row]] = [
            (
                "margin",
                {
                    **interval_of("table1", pair.peak_gain["margin"], 100),
                    **interval_of("table3", pair.area["margin"], 100),
                    **interval_of("over_margin", estimate(0.0, np.zeros(0), confidence), 100),
                    "passes": 1,
                },
            )
        ]
        for score, statistics in result.scores.items():
            peak, area = float(statistics.peak_gain.mean()), float(statistics.area.mean())
            peaks, areas = result.samples.peak_gain[pair.large, score], result.samples.area[pair.large, score]
            row = {
                **interval_of("table1", estimate(peak, peaks, confidence), 100),
                **interval_of("table3", estimate(area, areas, confidence), 100),
                **interval_of("over_margin", estimate(area - margin, areas - margins, confidence), 100),
                "passes": 1 if score == ALONE else runs,
            }
            cells.append((score, row))
        best = {
            **interval_of("table1", estimate(pair.bounds.perfect_hump.mean(), np.zeros(0), confidence), 100),
            **interval_of("table3", estimate(perfect, np.zeros(0), confidence), 100),
            **interval_of("over_margin", estimate(perfect - margin, np.zeros(0), confidence), 100),
            "passes": 1,
        }
        cells.append(("perfect", best))
        for score, row in cells:
            share = row["table3"] / perfect if perfect > 0 else float("nan")
            rows.append(
                {
                    **names,
                    "score_title": _TITLES[score],
                    "score": score,
                    **row,
                    "share_of_perfect": share,
                    "pairs": pair.gaps.size,
                }
            )
    return rows
