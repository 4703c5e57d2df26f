"""Certificates of examples in clusters hold in simulation, where counting examples breaks them."""

import math

import numpy as np
import pytest

from metrics.statistics.certificates import loses_no_more
from metrics.statistics.cluster_certificates import Clusters
from metrics.statistics.thresholds import Candidates

DELTA = 0.1


def gains(chance, rng):
    """Draws d: 1 and -1 with chances 0.1 ± half of `chance` [m], which is the mean of d."""
    draw = rng.random(len(chance))
    return np.where(draw < 0.1 + chance / 2, 1, np.where(draw > 0.9 + chance / 2, -1, 0))


@pytest.mark.parametrize("sizes", [np.full(50, 50), np.tile([5, 20, 125], 20)], ids=["alike", "unlike"])
def test_a_true_loss_is_certified_away_no_more_often_than_promised(sizes):
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    by_clusters = by_examples = 0
    trials = 200
    for trial in range(trials):
        chance = (0.02 + 0.08 * rng.choice([-1, 1], len(sizes)))[cluster]  # the loss is 2 points, in every size
        d = gains(chance, rng)
        clusters = Clusters.of_examples(cluster, np.arange(len(cluster)), trial)
        by_clusters += bool(clusters.rejects(clusters.sums(d), clusters.sizes, 0.02, DELTA))
        by_examples += bool(loses_no_more((d == 1).sum(), (d == -1).sum(), len(d), 0.02, DELTA))
    most = DELTA * trials + 3 * math.sqrt(trials * DELTA * (1 - DELTA))
    assert by_clusters <= most < by_examples


def test_much_less_than_the_limit_is_certified():
    rng = np.random.default_rng(1)
    cluster = np.arange(10_000) // 20
    certified = 0
    for trial in range(30):
        d = gains(0.08 * rng.choice([-1, 1], 500)[cluster], rng)
        clusters = Clusters.of_examples(cluster, np.arange(10_000), trial)
        certified += bool(clusters.rejects(clusters.sums(d), clusters.sizes, 0.02, DELTA))
    assert certified > 25


def test_a_limit_is_above_what_was_seen_and_falls_with_more_clusters():
    limits = []
    for count in (50, 500):
        cluster = np.arange(10 * count) // 10
        clusters = Clusters.of_examples(cluster, np.arange(10 * count), 0)
        ones = np.random.default_rng(2).random(10 * count) < 0.2
        limits.append(clusters.upper_limit(clusters.sums(ones), clusters.sizes, DELTA))
    assert 1 > limits[0] > limits[1] > 0.2
    assert limits[1] < 0.25


def test_the_least_limit_is_what_clusters_without_a_loss_certify():
    clusters = Clusters.of_examples(np.arange(600) // 6, np.arange(600), 0)
    least = clusters.least_limit(DELTA)
    nothing = np.zeros(100)
    assert clusters.rejects(nothing, clusters.sizes, least, DELTA)
    assert not clusters.rejects(nothing, clusters.sizes, 0.99 * least, DELTA)
    # a bet that knew that there is no loss needs ln(1 / δ) / 100
    assert math.log(1 / DELTA) / 100 < least < 1.3 * math.log(1 / DELTA) / 100


def test_very_many_clusters_are_put_together_in_equal_numbers():
    clusters = Clusters.of_examples(np.arange(9000) // 3, np.arange(9000), 0)
    assert clusters.count == 1000 and clusters.largest == 9
    np.testing.assert_array_equal(clusters.sizes, 9)


def test_sums_below_each_threshold_are_those_of_the_examples_below_it():
    rng = np.random.default_rng(3)
    score, cluster = rng.random(200).round(2), rng.integers(0, 7, 200)
    small, large = rng.random(200) < 0.6, rng.random((2, 200)) < 0.7
    half = np.isin(cluster, [0, 2, 5])
    clusters = Clusters.of_examples(cluster, np.flatnonzero(half), 0)
    found = Candidates.of_run(score, small, large, half, clusters)
    assert found.in_clusters is not None
    d = large.astype(int) - small
    for t, threshold in enumerate(found.thresholds):
        kept = [[(half & (cluster == c) & (score < threshold)) for c in (0, 2, 5)]]
        sums = found.in_clusters.clusters.sums_below(found.in_clusters.place, len(found.thresholds), d[1][half])
        np.testing.assert_array_equal(sums[t], [d[1][one].sum() for one in kept[0]])
        counts = found.in_clusters.clusters.sums_below(found.in_clusters.place, len(found.thresholds))
        np.testing.assert_array_equal(counts[t], [one.sum() for one in kept[0]])


def test_no_certified_threshold_loses_more_than_epsilon_where_examples_come_in_clusters():
    """Whole clusters are good or bad; the loss at a threshold t is the integral of 0.14 u - 0.03 from 0 to t."""
    rng = np.random.default_rng(4)
    cluster = np.arange(9000) // 30
    epsilon, trials, violations, saved = 0.03, 60, 0, []
    for trial in range(trials):
        score = rng.random(9000)
        shift = 0.03 * rng.choice([-1, 1], 300)[cluster]
        d = gains(0.14 * score - 0.03 + shift, rng)
        half = np.isin(cluster, rng.choice(300, 150, replace=False))
        clusters = Clusters.of_examples(cluster, np.flatnonzero(half), trial)
        found = Candidates.of_run(score, d == -1, (d == 1)[None], half, clusters).certified(epsilon, DELTA)
        t = min(float(found.threshold[0]), 1.0)
        violations += t > 0 and 0.07 * t * t - 0.03 * t > epsilon
        saved.append(1 - float(found.deferred[0]))
    assert violations <= DELTA * trials + 3 * math.sqrt(trials * DELTA * (1 - DELTA))
    assert np.mean(saved) > 0.3
