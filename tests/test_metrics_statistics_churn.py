"""Table 2 against counting pair by pair, and what its buckets must add up to."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.statistics.churn import BUCKETS, bucket_churn, differing_in_buckets, differing_pairs
from metrics.statistics.switcher import deferral_order

SHARES = np.array([0.5, 0.25, 0.15, 0.09, 0.01])


@st.composite
def cases(draw, most=30, levels=5):
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    prediction = rng.integers(0, 3, (draw(st.integers(2, 5)), n))
    return prediction, rng.integers(0, levels, (draw(st.integers(1, 3)), n)).astype(float)


def table2(prediction, margins):
    """Churn of runs [R, n] in the buckets of each of U runs' margins [U, n]."""
    differing = differing_pairs(prediction)
    in_buckets = np.array([differing_in_buckets(deferral_order(margin), differing) for margin in margins])
    return bucket_churn(in_buckets, *prediction.shape)


def slow(prediction, margins):
    """The mean over every order inside tie blocks; an example that a cut runs through counts by its parts."""
    n = prediction.shape[1]
    pairs = list(combinations(range(len(prediction)), 2))
    totals = np.zeros(5)
    for margin in margins:
        blocks = [np.flatnonzero(margin == v) for v in sorted(set(margin.tolist()))]
        orders = list(product(*(list(permutations(block)) for block in blocks)))
        for parts in orders:
            order = [x for part in parts for x in part]
            for q, (_, lower, upper) in enumerate(BUCKETS):
                for rank, x in enumerate(order):
                    inside = max(0.0, min(rank + 1, upper * n) - max(rank, lower * n))
                    differ = sum(prediction[k, x] != prediction[m, x] for k, m in pairs)
                    totals[q] += inside * differ / len(orders)
    return totals / (SHARES * n * len(pairs) * len(margins))


@given(cases(most=6, levels=3))
@settings(max_examples=20, deadline=None)
def test_buckets_by_counting(case):
    np.testing.assert_allclose(table2(*case).churn, slow(*case), atol=1e-10)


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_buckets_weigh_up_to_the_overall_churn(case, seed):
    prediction, margins = case
    overall = np.mean([(a != b).mean() for a, b in combinations(prediction, 2)])
    by_these = table2(prediction, margins)
    by_others = table2(prediction, np.random.default_rng(seed).random(margins.shape))
    for result in (by_these, by_others):
        assert SHARES @ result.churn == pytest.approx(overall, abs=1e-12)
    np.testing.assert_allclose(by_these.examples, SHARES * prediction.shape[1])
    order = np.random.default_rng(seed).permutation(prediction.shape[1])
    np.testing.assert_array_equal(table2(prediction[:, order], margins[:, order]).churn, by_these.churn)


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_mean_error_is_at_least_half_the_churn(case, seed):
    prediction, _ = case
    target = np.random.default_rng(seed).integers(0, 3, prediction.shape[1])
    churn = differing_pairs(prediction).sum() / (prediction.shape[1] * len(prediction) * (len(prediction) - 1) / 2)
    assert (prediction != target).mean() >= churn / 2 - 1e-12


def test_standard_error_is_the_published_one():
    rng = np.random.default_rng(0)
    result = table2(rng.integers(0, 2, (10, 1000)), rng.random((10, 1000)))
    p, k = result.churn, 45 * 9
    np.testing.assert_allclose(result.se, np.sqrt(p * (1 - p) / (SHARES * 1000 * k)))
    assert result.pairs == 45
    assert np.isfinite(table2(rng.integers(0, 2, (2, 50)), rng.random((1, 50))).se).all()


def test_certain_examples_of_probability_one_tie():
    prediction = np.array([[0, 1, 0, 1], [0, 0, 0, 0]])
    result = table2(prediction, np.full((1, 4), -np.inf))
    np.testing.assert_allclose(result.churn, 0.5)
