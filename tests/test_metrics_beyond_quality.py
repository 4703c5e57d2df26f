"""Deferral quality: shares of the perfect router's gain, areas and APGR by their definitions, resampled by hand."""

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.beyond.quality import apgr, perfect_samples
from metrics.bootstrap.resampling import Estimate, Resampling
from metrics.statistics.switcher import deferral_order, switcher_statistics
from tests.metrics_runs import tables_of
from tests.resamples import draws
from tests.synthetic_scores import synthetic_grid

B = 12


@pytest.fixture(scope="module")
def analysis():
    sizes = {"small": (10, 1.4), "base": (20, 1.9), "large": (30, 2.3)}
    seeds = {"small": [0, 1, 5], "base": [0, 1], "large": [2, 3, 4, 5]}
    return rows_of(synthetic_grid(sizes, seeds, examples=150, classes=3, seed_noise=1.0))


def rows_of(scores):
    """The analysis, and the rows of its deferral quality."""
    analysis, tables = tables_of(scores, Metrics(resamples=B))
    return analysis, tables["deferral_quality"].rows


def perfect_area(small, large):
    """The switcher's own area when the score is d."""
    d = large.astype(int) - small.astype(int)
    return switcher_statistics(deferral_order(d), small, large[None]).area[0]


def test_perfect_samples_are_the_perfect_routers_on_the_drawn_runs_and_examples(analysis):
    grid = analysis[0].grid
    resampling = Resampling({size.name: len(size.seeds) for size in grid.sizes}, grid.examples, B, seed=3)
    for small, large in grid.pairs:
        samples = perfect_samples(small, large, resampling)
        for b, examples, runs, _ in draws(resampling):
            areas = [
                perfect_area(small.correct[i][examples], large.correct[j][examples])
                for i in runs[small.name]
                for j in runs[large.name]
            ]
            assert samples[b] == pytest.approx(np.mean(areas), abs=1e-6)  # sums of float32 products


def test_rows_against_the_curves(analysis):
    analysis, rows = analysis
    assert len(rows) == 3 * 6
    for row in rows:
        pair = next(p for p in analysis.pairs if (p.small, p.large) == (row["small"], row["large"]))
        curve = pair.scores[row["score"]].curve.mean(axis=(0, 1))
        # 101 points of a curve whose slope is at most 1 give its area to within 0.25 points
        assert row["area"] == pytest.approx(100 * np.trapezoid(curve, dx=0.01), abs=0.25)
        assert row["random_area"] == pytest.approx(50 * (curve[0] + curve[-1]), abs=1e-9)
        assert row["random_area"] < row["perfect_area"]
        share = (row["area"] - row["random_area"]) / (row["perfect_area"] - row["random_area"])
        assert row["share_of_perfect"] == pytest.approx(100 * share)
        assert -100 <= row["share_of_perfect"] <= 100
        recovered = (row["area"] / 100 - curve[0]) / (curve[-1] - curve[0])
        assert row["apgr"] == pytest.approx(recovered)
        assert row["share_of_perfect_ci_low"] < row["share_of_perfect"] < row["share_of_perfect_ci_high"]


def test_apgr_where_the_gap_is_small_negative_or_may_be_zero():
    gaps = np.array([0.02, 0.03, 0.04])
    value, word = apgr(0.01, np.full(3, 0.01), Estimate(0.03, 0.02, 0.04), gaps, 0.95)
    assert (
        value.value == pytest.approx(0.5 + 1 / 3)
        and word == "yes"
        and value.low == pytest.approx(0.5 + 1 / 4, abs=0.01)
    )
    value, word = apgr(0.01, np.full(3, 0.01), Estimate(0.003, -0.02, 0.04), gaps, 0.95)
    assert value.value == pytest.approx(0.5 + 10 / 3) and np.isnan(value.low) and "may be 0" in word
    value, word = apgr(0.01, np.full(3, 0.01), Estimate(0.005, 0.001, 0.04), gaps, 0.95)
    assert "small" in word and value.low < value.high
    value, word = apgr(0.01, np.full(3, 0.01), Estimate(-0.03, -0.04, -0.02), gaps, 0.95)
    assert np.isnan(value.value) and "no better" in word


def test_a_perfect_score_has_all(analysis):
    """The share is linear in the area, so the closed form in the denominator is what makes it 100 %."""
    analysis = analysis[0]
    small, large = analysis.grid.sizes[0], analysis.grid.sizes[-1]
    pair = analysis.widest
    areas = [perfect_area(s, b) for s in small.correct for b in large.correct]
    assert np.mean(areas) == pytest.approx(pair.bounds.perfect_area.mean(), abs=1e-15)


def test_nothing_to_gain_has_no_share():
    grid = synthetic_grid(seeds=2, examples=40)
    for one in grid:  # every run is right everywhere
        one.prediction = one.target.copy()
        one.correct = np.ones(40, dtype=bool)
    for row in rows_of(grid)[1]:
        assert np.isnan(row["share_of_perfect"]) and np.isnan(row["apgr"]) and row["area"] == 100


def test_bleu_has_no_perfect_router():
    """But an area, which is that of its curve, and a gap to divide by."""
    analysis, rows = rows_of(synthetic_grid(seeds=2, examples=60, task="translation"))
    (pair,) = analysis.pairs
    assert rows
    for row in rows:
        assert np.isnan(row["share_of_perfect"]) and np.isnan(row["perfect_area"])
        own = pair if row["context"] == analysis.context else analysis.other_context.pairs[0]
        curve = own.curve[row["score"]]
        assert row["area"] == pytest.approx(100 * np.trapezoid(curve, dx=0.01), abs=0.2)
        assert row["random_area"] == pytest.approx(50 * (curve[0] + curve[-1]), abs=1e-9)
    assert {row["context"] for row in rows} == {"gold", "self"}
