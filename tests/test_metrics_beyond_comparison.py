"""Paired tests: error rates on made-up nulls, Holm against the definition, rows against the cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.error_rates import error_rates
from bench.populations import REGIMES
from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.beyond.comparison import ScoreComparison, holm
from metrics.grid.collect import collect_grids
from metrics.statistics.components import variance_of_resamples
from tests.synthetic_scores import synthetic_grid


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_the_definition(p):
    """Reject the k smallest at level α while the k-th of m is at most α / (m - k + 1); Holm's p is the least such α."""
    adjusted = holm(p)
    for alpha in (0.001, 0.01, 0.05, 0.2, 0.7):
        rejected = set()
        for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[i] * (len(p) - k) > alpha:
                break
            rejected.add(i)
        found = {i for i, value in enumerate(adjusted) if value <= alpha}
        # equal p are rejected together or not at all by the adjusted values
        assert {p[i] for i in found} >= {p[i] for i in rejected} - {p[i] for i in set(range(len(p))) - rejected}
        assert found <= rejected
    assert all(one >= other for one, other in zip(adjusted, p))


def test_holm_leaves_out_what_has_no_p():
    assert holm([0.01, float("nan"), 0.02]) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def compared(scores, resamples):
    """The analysis, the observer that has seen its sizes, and the rows."""
    (grid,), config = collect_grids(scores), Metrics(resamples=resamples)
    observer = ScoreComparison(grid, config)
    analysis = analyse(grid, config, watch=observer.observe)
    return analysis, observer, observer.rows(analysis)


def test_rows():
    analysis, observer, rows = compared(synthetic_grid(seeds=3, examples=300, classes=3), 60)
    samples = observer.samples[None, "small"]
    assert len(rows) == 2 * 15
    (pair,) = analysis.pairs
    for row in rows:
        table1 = row["table"] == "table1"
        cells = pair.peak_gain if table1 else pair.area
        value = cells[row["score"]].value - cells[row["other"]].value
        assert row["difference"] == pytest.approx(100 * value)
        assert row["p"] <= row["p_holm"] <= 1 and row["comparisons"] == 15
        assert (row["p"] < 0.05) == (row["difference_ci_low"] > 0 or row["difference_ci_high"] < 0)
        if table1:
            one, other = (pair.scores[name].peak_gain for name in (row["score"], row["other"]))
            drawn = samples.peak_gain["base", row["score"]] - samples.peak_gain["base", row["other"]]
            expected = variance_of_resamples(one - other, drawn)
            assert row["p"] == expected.p_value(value)
    over_margin = {row["other"]: row for row in rows if row["table"] == "table3" and row["score"] == "margin"}
    for score, row in over_margin.items():  # the same difference stands in Table 3's own results, the other way round
        assert row["difference_ci_low"] == pytest.approx(-100 * pair.area_over_margin[score].high)
    assert compared(synthetic_grid(seeds=3, examples=50), 0)[2] == []


def test_one_run_is_not_tested():
    seeds = {"small": [0, 1, 2], "base": [0]}
    _, observer, rows = compared(synthetic_grid(seeds=seeds, examples=120), 40)
    assert rows and all(np.isnan(row["p"]) and np.isnan(row["p_holm"]) and row["comparisons"] == 0 for row in rows)
    assert not any(np.isnan(row["difference_ci_low"]) for row in rows)
    assert observer.notes() == ["base has one seed: no tests of it, and intervals are of its examples alone."]


def test_translation_is_tested_by_its_resamples():
    rows = compared(synthetic_grid(seeds=2, examples=60, task="translation"), 30)[2]
    assert rows and all(0 < row["p"] <= 1 for row in rows)


def test_scores_that_order_alike_are_compared_once():
    rows = compared(synthetic_grid(seeds=3, examples=100, classes=2), 10)[2]
    assert len(rows) == 2 * 10 and not any("entropy" in (row["score"], row["other"]) for row in rows)


@pytest.mark.parametrize("regime", REGIMES, ids=[regime.name for regime in REGIMES])
def test_scores_of_one_quality_are_seldom_told_apart(regime):
    """A small form of `just calibrate`: p < 0.05 in one world in twenty, give or take three standard errors."""
    worlds = 120
    rejected = error_rates(regime, runs=3, examples=500, worlds=worlds, seed=5)["table3"]
    assert rejected <= 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5
