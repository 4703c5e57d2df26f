"""Least shares to defer: crossings by hand, variances against their other forms, and how often intervals cover."""

import numpy as np
import pytest

from bench.populations import REGIMES, draw
from metrics.statistics.components import ExampleInfluence, example_variance, variance_of_pairs
from metrics.statistics.least_share import (
    PLACES,
    CurveMoments,
    Goal,
    curve_influence,
    deferred_at_places,
    excess_variance,
    first_reaching_zero,
    last_below_zero,
    least_share_interval,
    percentile_limits,
    t_limits,
)
from metrics.statistics.switcher import FRACTIONS, deferral_order, switcher_statistics


def curves_and_moments(correct, uncertainty, clusters=None):
    """The curves [R_S, R_L, 101] of every pair of runs, and the moments of all examples' influences."""
    small, large = correct["small"], correct["large"]
    rows = np.arange(small.shape[1])
    moments, curves = CurveMoments(len(rows), clusters), []
    for own, scores in zip(small, uncertainty["small"], strict=True):
        order = deferral_order(scores)
        curve = switcher_statistics(order, own, large).curve
        gains = large.astype(np.int8) - own.astype(np.int8)
        moments.add(
            curve_influence(order, gains, curve, deferred_at_places(order, rows)),
            own - own.mean(),
            large - large.mean(axis=1, keepdims=True),
        )
        curves.append(curve)
    return np.array(curves), moments


def influences(correct, uncertainty, goal):
    """The influences of every pair of runs and example on the excess over a goal at PLACES: [R_S, R_L, F, n]."""
    small, large = correct["small"], correct["large"]
    rows = np.arange(small.shape[1])
    result = []
    for own, scores in zip(small, uncertainty["small"], strict=True):
        order = deferral_order(scores)
        curve = switcher_statistics(order, own, large).curve
        gained = curve_influence(
            order, large.astype(np.int8) - own.astype(np.int8), curve, deferred_at_places(order, rows)
        )
        a, b = own - own.mean(), large - large.mean(axis=1, keepdims=True)
        result.append(gained + (1 - goal.small) * a - goal.large * b[:, None])
    return np.array(result)


def test_goals_by_hand():
    curve = np.interp(FRACTIONS, [0, 0.5, 1], [0.5, 0.7, 0.6])
    np.testing.assert_allclose(Goal.part_of_gain(0.8).excess(curve), curve - (0.5 + 0.8 * 0.1), atol=1e-12)
    np.testing.assert_allclose(Goal.within(0.01).excess(curve), curve - 0.6 + 0.01, atol=1e-12)


def test_crossings_by_hand():
    """The first and the last, between grid points; a curve that touches its goal by rounding alone has reached it."""
    up_down = np.interp(FRACTIONS, [0, 0.3, 0.5, 1], [-0.3, 0.3, -0.1, 0.1])
    assert first_reaching_zero(up_down) == pytest.approx(0.15)
    assert last_below_zero(up_down) == pytest.approx(0.75)
    assert (first_reaching_zero(np.full(101, -0.1)), last_below_zero(np.full(101, -0.1))) == (1, 1)
    assert (first_reaching_zero(np.full(101, 0.1)), last_below_zero(np.full(101, 0.1))) == (0, 0)
    assert last_below_zero(np.full(101, -1e-14)) == 0
    low, high = least_share_interval(up_down - 0.05, up_down + 0.05)
    assert low == pytest.approx(0.125) and high == pytest.approx(0.875)
    missing = np.full(101, np.nan)
    assert np.isnan(least_share_interval(missing, missing)).all()


def test_the_first_crossing_of_parts_of_the_gain():
    rise = np.interp(FRACTIONS, [0, 0.3, 1], [0.5, 0.8, 0.705])
    flat_end = np.interp(FRACTIONS, [0, 0.5, 1], [0.5, 0.7, 0.7])
    for curve, part, share in ((rise, 1.0, 0.205), (rise, 0.5, 0.1025), (flat_end, 1.0, 0.5), (flat_end, 0.5, 0.25)):
        assert first_reaching_zero(Goal.part_of_gain(part).excess(curve)) == pytest.approx(share)


def test_influence_is_what_leaving_an_example_out_changes():
    """Of a score with few values, whose curve is smooth: S less S without the example is its influence over n."""
    rng = np.random.default_rng(0)
    n = 4000
    uncertainty = rng.integers(0, 4, n)
    small, large = rng.random(n) < 0.6, rng.random((2, n)) < 0.7
    order = deferral_order(uncertainty)
    curve = switcher_statistics(order, small, large).curve
    rows = rng.choice(n, 60, replace=False)
    found = curve_influence(
        order, (large.astype(np.int8) - small.astype(np.int8))[:, rows], curve, deferred_at_places(order, rows)
    )
    assert found.shape == (2, len(PLACES), 60)
    for k, row in enumerate(rows):
        kept = np.arange(n) != row
        without = switcher_statistics(deferral_order(uncertainty[kept]), small[kept], large[:, kept]).curve
        change = (curve - curve[:, :1]) - (without - without[:, :1])
        np.testing.assert_allclose(found[:, :, k], (n - 1) * change[:, PLACES], atol=0.01)  # second order: about 1/n


def test_influence_has_mean_zero_and_the_spread_of_resamples():
    """Without ties, where single examples left out change the curve in steps: against 400 resamples of examples."""
    one = draw(REGIMES[0], 1, 2000, np.random.default_rng(1))
    small, large, scores = one.correct["small"][0], one.correct["large"], one.uncertainty["small"][0]
    order = deferral_order(scores)
    curve = switcher_statistics(order, small, large).curve
    found = curve_influence(
        order, large.astype(np.int8) - small.astype(np.int8), curve, deferred_at_places(order, np.arange(2000))
    )[0]
    assert np.abs(found.mean(axis=1)).max() < 0.005  # cuts between two examples: half of one of 2,000
    rng, resampled = np.random.default_rng(2), []
    for _ in range(400):
        drawn = rng.integers(0, 2000, 2000)
        values = switcher_statistics(deferral_order(scores[drawn]), small[drawn], large[:, drawn]).curve[0]
        resampled.append((values - values[0])[PLACES])
    spread = np.std(resampled, axis=0)[1:]
    # 400 resamples know a standard deviation to 1 / √800, 3.5 %; within three times that, and a slope's noise
    np.testing.assert_allclose(found.std(axis=1)[1:] / np.sqrt(2000), spread, rtol=0.13)


@pytest.mark.parametrize(("small_runs", "large_runs"), [(3, 4), (1, 3), (2, 1), (1, 1)])
def test_variance_at_every_place_is_that_of_the_components(small_runs, large_runs):
    one = draw(REGIMES[1], {"small": small_runs, "large": large_runs}, 300, np.random.default_rng(3))
    curves, moments = curves_and_moments(one.correct, one.uncertainty)
    for goal in (Goal.part_of_gain(0.8), Goal.within(0.01)):
        excess = goal.excess(curves)
        variance, freedom = excess_variance(excess, goal, moments)
        every = influences(one.correct, one.uncertainty, goal)
        for k, place in enumerate(PLACES):
            influence = ExampleInfluence(every[:, :, k].mean(axis=1), every[:, :, k].mean(axis=0), 300)
            expected = variance_of_pairs(excess[:, :, place], influence)
            assert variance[place] == pytest.approx(expected.variance, rel=1e-4, abs=1e-12)  # influences are float32
            if expected.variance > 1e-9:
                assert freedom[place] == pytest.approx(expected.freedom, rel=1e-3)


def test_an_excess_that_does_not_vary_has_no_limits_beside_it():
    """At f = 1 the excess over b is the allowance, whatever the runs: rounding errors make no interval of it."""
    rng = np.random.default_rng(8)
    goal = Goal.within(0.01)
    for _ in range(20):
        one = draw(REGIMES[2], 10, 400, rng)
        curves, moments = curves_and_moments(one.correct, one.uncertainty)
        excess = goal.excess(curves)
        low, high = t_limits(excess.mean(axis=(0, 1)), *excess_variance(excess, goal, moments), 0.05)
        assert low[-1] == pytest.approx(0.01, abs=1e-9) and high[-1] == pytest.approx(0.01, abs=1e-9)
        assert last_below_zero(low) < 1


def test_clusters_are_drawn_together():
    one = draw(REGIMES[0], 2, 200, np.random.default_rng(4), per_cluster=10, cluster_sd=1.0)
    clusters = np.repeat(np.arange(20), 10)
    _, moments = curves_and_moments(one.correct, one.uncertainty, clusters)
    of_all, _, _, units = moments.covariances
    assert units == 20
    every = influences(one.correct, one.uncertainty, Goal(1.0, 0.0)).mean(axis=(0, 1))  # of S(f) − a
    for k in range(len(PLACES)):
        assert of_all[k, 0, 0] == pytest.approx(example_variance(every[k], 200, clusters), rel=1e-4, abs=1e-12)


def test_percentile_limits():
    samples = np.tile(np.arange(1001.0), (101, 1))
    low, high = percentile_limits(samples, 0.1)
    assert (low == 100).all() and (high == 900).all()
    assert np.isnan(percentile_limits(np.zeros((101, 0)), 0.1)).all()


def test_intervals_cover_where_runs_differ_as_a_whole():
    """The regime that the former interval failed in: a gap of 9 points, no hump. The truth is of 1.6 million rows."""
    rng = np.random.default_rng(5)
    truth = np.zeros(101)
    for _ in range(20):
        one = draw(REGIMES[2], 4, 20_000, rng)
        for own, scores in zip(one.correct["small"], one.uncertainty["small"], strict=True):
            truth += switcher_statistics(deferral_order(scores), own, one.correct["large"]).curve.mean(axis=0) / 80
    goals = {part: Goal.part_of_gain(part) for part in (0.5, 0.8, 0.95, 0.99)}
    shares = {part: first_reaching_zero(goal.excess(truth)) for part, goal in goals.items()}
    held = dict.fromkeys(goals, 0)
    kept = 0
    for _ in range(60):
        one = draw(REGIMES[2], 3, 1000, rng)
        curves, moments = curves_and_moments(one.correct, one.uncertainty)
        for part, goal in goals.items():
            excess = goal.excess(curves)
            mean = excess.mean(axis=(0, 1))
            low, high = least_share_interval(*t_limits(mean, *excess_variance(excess, goal, moments), 0.025))
            held[part] += low <= shares[part] <= high
        goal = Goal.within(0.02)
        excess = goal.excess(curves)
        lower, _ = t_limits(excess.mean(axis=(0, 1)), *excess_variance(excess, goal, moments), 0.05)
        kept += last_below_zero(lower) >= first_reaching_zero(goal.excess(truth))
    # at 95 % fewer than 51 of 60 hold in 1 of 500 studies
    assert min(held.values()) >= 51 and kept >= 51
