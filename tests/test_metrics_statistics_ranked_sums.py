"""Sums in order of rank against NumPy's running sums, whatever the number of ranks."""

import numpy as np
import pytest

from metrics.statistics.ranked_sums import RankedSums


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 128, 1000])
def test_sums_equal_running_sums(n):
    rng = np.random.default_rng(n)
    order, values = rng.permutation(n), rng.integers(-1, 2, (3, n)).astype(np.int8)
    expected = np.concatenate([np.zeros((3, 1), int), values[:, order].cumsum(axis=1, dtype=int)], axis=1)
    sums = RankedSums.of_order(order, values)
    ranks = rng.integers(0, n + 1, 50)
    np.testing.assert_array_equal(sums.before(ranks), expected[:, ranks])
    np.testing.assert_array_equal(sums.total, expected[:, -1])
    np.testing.assert_array_equal(sums.highest(), expected.max(axis=1))
    np.testing.assert_array_equal(sums.sum_of_all(), expected.sum(axis=1))
    weights = rng.integers(0, 5, n)
    np.testing.assert_array_equal(sums.weighted_sum(weights.astype(float)), expected[:, 1:] @ weights)


@pytest.mark.parametrize("n", [2, 64, 129, 700])
def test_ranks_that_are_skipped_are_not_the_highest(n):
    rng = np.random.default_rng(n)
    order, values = rng.permutation(n), rng.integers(-1, 2, (4, n)).astype(np.int8)
    skipped = 1 + np.flatnonzero(rng.random(n - 1) < 0.4)
    expected = np.concatenate([np.zeros((4, 1), int), values[:, order].cumsum(axis=1, dtype=int)], axis=1)
    found = RankedSums.of_order(order, values).highest(skipped)
    np.testing.assert_array_equal(found, np.delete(expected, skipped, axis=1).max(axis=1))


def test_whole_blocks_that_are_skipped_are_not_the_highest_however_high_their_sums():
    values = np.concatenate([np.ones(400), -np.ones(400), np.ones(10)]).astype(np.int8)[None]
    skipped = np.arange(1, 800)
    assert RankedSums.of_order(np.arange(810), values).highest(skipped)[0] == 10


def test_an_order_of_a_part_sums_its_examples_alone():
    rng = np.random.default_rng(0)
    order, values, part = rng.permutation(200), rng.integers(-1, 2, (2, 200)).astype(np.int8), rng.random(200) < 0.5
    inside = RankedSums.of_order(order[part[order]], values).before(np.arange(part.sum() + 1))
    alone = RankedSums.of_order(order, (values * part).astype(np.int8)).before(np.arange(201))
    np.testing.assert_array_equal(inside, alone[:, np.append(True, part[order])])


def test_long_runs_of_gains_do_not_overflow():
    values = np.ones((1, 1000), dtype=np.int8)
    sums = RankedSums.of_order(np.arange(1000), values)
    np.testing.assert_array_equal(sums.before(np.arange(1001))[0], np.arange(1001))
    assert sums.highest()[0] == 1000
