"""Switcher curves against every order of every tie block, and the identities of the definitions."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.statistics.switcher import (
    FRACTIONS,
    bounds,
    deferral_order,
    disagreement,
    pair_statistics,
    percentiles,
    sums_at,
    sums_at_knots,
    switcher_statistics,
)


@st.composite
def cases(draw, most=40, levels=8):
    """(score [n], s [n], l [n, J]) with many ties."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, levels, n), rng.random(n) < 0.6, rng.random((n, 2)) < 0.7


def statistics(score, small, large):
    return switcher_statistics(deferral_order(score), small, large.T)


def slow_curve(score, small, large, fractions):
    """The mean over every order inside tie blocks of the piecewise-linear curve, one large run."""
    n = len(score)
    blocks = [np.flatnonzero(score == value) for value in sorted(set(score.tolist()), reverse=True)]
    curves = []
    for orders in product(*(list(permutations(block)) for block in blocks)):
        order = [x for block in orders for x in block]
        points = [np.where(np.isin(np.arange(n), order[:k]), large, small).mean() for k in range(n + 1)]
        curves.append(np.interp(fractions, np.arange(n + 1) / n, points))
    return np.mean(curves, axis=0)


@given(cases(most=6, levels=3))
@settings(max_examples=25, deadline=None)
def test_curve_is_the_mean_over_orders(case):
    score, small, large = case
    fast = statistics(score, small, large).curve
    for j in range(2):
        np.testing.assert_allclose(fast[j], slow_curve(score, small, large[:, j], FRACTIONS), atol=1e-12)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_statistics_from_the_curve(case):
    """Each statistic from its definition, on a curve read off at every knot and grid point."""
    score, small, large = case
    n, fast = len(score), statistics(score, small, large)
    values = np.unique(score)[::-1]
    for j in range(2):
        knots = np.array([0.0] + [(score >= v).sum() / n for v in values])
        heights = np.array([np.where(score >= v, large[:, j], small).mean() for v in [values[0] + 1, *values]])
        a, b = small.mean(), large[:, j].mean()
        grid = np.arange(1, 100) / 100
        on_grid, chord = np.interp(grid, knots, heights), a + grid * (b - a)
        area = np.trapezoid(heights - (a + knots * (b - a)), knots)
        assert fast.peak_gain[j] == pytest.approx(on_grid.max() - max(a, b), abs=1e-12)
        assert fast.area[j] == pytest.approx(area, abs=1e-12)
        assert fast.hump[j] == pytest.approx(max(0, heights.max() - max(a, b)), abs=1e-12)
        assert fast.curve[j, 0] == a and fast.curve[j, 100] == pytest.approx(b, abs=1e-15)
        if max(a, b) > 0:
            assert fast.relative_peak_gain[j] == pytest.approx((on_grid.max() - max(a, b)) / max(a, b), abs=1e-12)
        else:
            assert np.isnan(fast.relative_peak_gain[j])
        if (chord > 0).all():
            assert fast.relative_area[j] == pytest.approx(((on_grid - chord) / chord).mean(), abs=1e-12)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_area_is_minus_the_covariance_with_the_rank(case):
    """Ranks 0-1 in order of deferral; a tie block shares its mean rank."""
    score, small, large = case
    n = len(score)
    before = (score[None, :] > score[:, None]).sum(axis=1)
    rank = (before + (score[None, :] == score[:, None]).sum(axis=1) / 2) / n
    for j in range(2):
        d = large[:, j].astype(float) - small
        covariance = (d * rank).mean() - d.mean() * rank.mean()
        assert statistics(score, small, large).area[j] == pytest.approx(-covariance, abs=1e-12)


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_neither_order_nor_scale_matters(case, seed):
    score, small, large = case
    order = np.random.default_rng(seed).permutation(len(score))
    plain = statistics(score, small, large)
    for other in (
        statistics(score[order], small[order], large[order]),
        statistics(np.exp(score.astype(float)) - 5, small, large),
        statistics(score**3, small, large),
    ):
        for name, value in vars(plain).items():
            np.testing.assert_array_equal(value, getattr(other, name))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_identities(case):
    score, small, large = case
    fast, limits = statistics(score, small, large), bounds(small[None], large.T)
    a, b = small.mean(), large.mean(axis=0)
    np.testing.assert_array_equal(statistics(-score, small, large).area, -fast.area)
    assert (fast.hump <= limits.perfect_hump[0] + 1e-12).all()
    assert (fast.area <= limits.perfect_area[0] + 1e-12).all()
    # both sides on the same 101 points: the peak between two of them may be higher by half a step of the curve
    assert (fast.area <= np.maximum(fast.hump, fast.peak_gain) + np.abs(b - a) / 2 + 1e-12).all()
    flat = statistics(np.zeros(len(score)), small, large)
    np.testing.assert_array_equal(flat.area, 0)
    np.testing.assert_allclose(flat.curve, a + FRACTIONS * (b - a)[:, None], atol=1e-12)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_perfect_router(case):
    _, small, large = case
    for j in range(2):
        d = large[:, j].astype(int) - small
        perfect = statistics(d, small, large[:, j : j + 1])
        limits = bounds(small[None], large[:, j][None])
        w, lost = (d > 0).mean(), (d < 0).mean()
        assert limits.only_large[0, 0] == pytest.approx(w) and limits.only_small[0, 0] == pytest.approx(lost)
        assert perfect.hump[0] == pytest.approx(min(w, lost), abs=1e-12)
        assert perfect.area[0] == pytest.approx((w * (1 - w) + lost * (1 - lost)) / 2, abs=1e-12)
        assert perfect.area[0] == pytest.approx(limits.perfect_area[0, 0], abs=1e-12)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_gap_is_at_most_disagreement(target, seed):
    rng, target = np.random.default_rng(seed), np.array(target)
    small, large = rng.integers(0, 4, (2, len(target))), rng.integers(0, 4, (3, len(target)))
    apart = disagreement(small, large)
    gap = (large == target).mean(axis=1)[None, :] - (small == target).mean(axis=1)[:, None]
    assert (np.abs(gap) <= apart + 1e-12).all()
    assert apart[1, 2] == (small[1] != large[2]).mean()


@given(cases())
@settings(max_examples=60, deadline=None)
def test_concave_curve_has_half_its_peak_as_area(case):
    """A score that goes down with d, ties included, makes its curve concave; so does one that leaves some d alone."""
    _, small, large = case
    d = large[:, 0].astype(int) - small
    for score in (d, np.maximum(d, 0), np.minimum(d, 0)):
        fast = statistics(score, small, large[:, :1])
        assert (np.diff(fast.curve[0], 2) <= 1e-12).all()
        assert fast.area[0] >= fast.peak_gain[0] / 2 - 1e-12


def test_random_scores_are_the_chord_on_average():
    """Table 3 has mean 0 and sd √(Var d / (12 n)); at a = b the hump is near the printed floor."""
    rng = np.random.default_rng(1)
    n, repeats = 1000, 2000
    small, large = np.zeros(n, bool), np.zeros(n, bool)
    small[:150], large[150:300] = True, True  # a = b
    runs = [statistics(rng.random(n), small, large[:, None]) for _ in range(repeats)]
    areas, humps = np.array([run.area[0] for run in runs]), np.array([run.hump[0] for run in runs])
    d = large.astype(float) - small
    expected = np.sqrt(d.var() / (12 * n))
    assert abs(areas.mean()) < 4 * expected / np.sqrt(repeats)
    assert areas.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * repeats))
    # the discrete walk's maximum falls short of the Brownian bridge's by about 0.58 of a step
    assert humps.mean() == pytest.approx(bounds(small[None], large[None]).random_hump[0, 0], rel=0.06)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_sums_between_knots(case):
    score, small, _ = case
    deferral, n = deferral_order(score), len(score)
    at = sums_at(deferral, sums_at_knots(deferral, small[None].astype(int)), np.array([0.0, n / 3, n]))[0]
    assert at[0] == 0 and at[2] == small.sum()
    assert 0 <= at[1] <= small.sum() + 1e-12


@given(cases(levels=60))
@settings(max_examples=50, deadline=None)
def test_percentiles_of_some_examples_are_those_of_all(case):
    deferral = deferral_order(case[0])
    rows = np.arange(len(case[0]))[::-2]
    whole = percentiles(deferral)
    np.testing.assert_array_equal(percentiles(deferral, rows), whole[rows])
    expected = [100 * ((case[0] < own).mean() + (case[0] == own).mean() / 2) for own in case[0]]
    np.testing.assert_allclose(whole, expected, atol=1e-12)


def test_pairs_are_small_by_large():
    rng = np.random.default_rng(2)
    scores, small, large = rng.random((3, 50)), rng.random((3, 50)) < 0.5, rng.random((2, 50)) < 0.7
    runs = [switcher_statistics(deferral_order(score), own, large) for score, own in zip(scores, small)]
    pairs = pair_statistics("s", "l", "margin", runs)
    assert pairs.curve.shape == (3, 2, 101) and pairs.area.shape == (3, 2)
    assert pairs.area[2, 1] == statistics(scores[2], small[2], large[1][:, None]).area[0]


def test_statistics_of_several_sizes_at_once_are_those_of_each():
    rng = np.random.default_rng(0)
    order, small, large = deferral_order(rng.integers(0, 30, 120)), rng.random(120) < 0.6, rng.random((5, 120)) < 0.7
    parts = switcher_statistics(order, small, large).parts([2, 3])
    for found, runs in zip(parts, (large[:2], large[2:]), strict=True):
        for name, values in vars(switcher_statistics(order, small, runs)).items():
            np.testing.assert_array_equal(vars(found)[name], values, err_msg=name)
