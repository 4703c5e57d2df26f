"""Paired tests: p against its definition and on made-up nulls, Holm against the definition, rows against the cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.beyond.comparison import ScoreComparison, holm, two_sided_p
from metrics.grid.collect import collect_grids
from tests.synthetic_scores import synthetic_grid


def test_p_by_hand():
    assert two_sided_p(np.arange(1.0, 100)) == pytest.approx(2 * 1 / 100)
    assert two_sided_p(-np.arange(1.0, 100)) == pytest.approx(2 * 1 / 100)
    assert two_sided_p(np.array([-1.0, 1, 2, 3, np.nan])) == pytest.approx(2 * 2 / 5)
    assert two_sided_p(np.zeros(50)) == 1
    assert np.isnan(two_sided_p(np.array([np.nan])))


def test_p_is_below_alpha_just_where_the_interval_leaves_zero():
    rng = np.random.default_rng(0)
    for shift in np.linspace(-4, 4, 81):
        samples = rng.normal(shift, 1, 999)
        low, high = np.quantile(samples, [0.025, 0.975])
        if min(abs(low), abs(high)) > 0.02:
            assert (two_sided_p(samples) < 0.05) == (low > 0 or high < 0)


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
    """The analysis, its samples of the small size, and the rows."""
    (grid,), config = collect_grids(scores), Metrics(resamples=resamples)
    observer = ScoreComparison(grid, config)
    analysis = analyse(grid, config, watch=observer.observe)
    return analysis, observer.samples[None, "small"], observer.rows(analysis)


def test_rows():
    analysis, samples, rows = compared(synthetic_grid(seeds=3, examples=300, classes=3), 60)
    assert len(rows) == 2 * 15
    (pair,) = analysis.pairs
    for row in rows:
        cells = pair.peak_gain if row["table"] == "table1" else pair.area
        assert row["difference"] == pytest.approx(100 * (cells[row["score"]].value - cells[row["other"]].value))
        assert row["p"] <= row["p_holm"] <= 1 and row["comparisons"] == 15
        drawn = samples.peak_gain if row["table"] == "table1" else samples.area
        differences = 100 * (drawn["base", row["score"]] - drawn["base", row["other"]])
        assert row["difference_ci_low"] == pytest.approx(np.quantile(differences, 0.025))
        assert row["p"] == two_sided_p(differences)
    assert compared(synthetic_grid(seeds=3, examples=50), 0)[2] == []


def test_scores_that_order_alike_are_compared_once():
    rows = compared(synthetic_grid(seeds=3, examples=100, classes=2), 10)[2]
    assert len(rows) == 2 * 10 and not any("entropy" in (row["score"], row["other"]) for row in rows)


def test_scores_of_one_quality_are_seldom_told_apart():
    """The null: two scores that are margins with noise of the same size; p < 0.05 in about one world in twenty."""
    from metrics.bootstrap import switcher_samples
    from metrics.bootstrap.resampling import Resampling
    from metrics.statistics.switcher import deferral_order
    from metrics.statistics.uncertainty import uncertainties

    rejected, worlds = 0, 60
    for world in range(worlds):
        small, large = collect_grids(synthetic_grid(seeds=2, examples=200, seed=world, slices=False))[0].sizes
        rng = np.random.default_rng(world)
        margins = uncertainties(small, Metrics())["margin"]
        orders = {
            name: [deferral_order(run + rng.normal(0, 1, len(run))) for run in margins] for name in ("one", "other")
        }
        samples = switcher_samples(small, [large], Resampling({"small": 2, "base": 2}, 200, 199, seed=0))
        for run in range(2):
            drawn = samples.run(run)
            for name, of_runs in orders.items():
                drawn.add(name, of_runs[run])
        rejected += two_sided_p(samples.area["base", "one"] - samples.area["base", "other"]) < 0.05
    # 3 expected of 60; P(more than 9) is below 0.1 % even at a true rate of 6 %
    assert rejected <= 9
