"""Intervals of the tables: the reflected one by hand, and which examples an interval takes the influence of."""

import numpy as np
import pytest

from metrics.analysis.intervals import (
    LEAST_CLUSTERS,
    MOST_INFLUENTIAL,
    ExampleChoice,
    reflected_estimate,
    resamples_notes,
)


def test_of_one_run_the_interval_is_the_basic_one_and_lower_where_the_curve_may_be_flat():
    samples = np.random.default_rng(0).gamma(2.0, 1.0, 5000)
    low, high = np.quantile(samples, [0.05, 0.95])
    value = samples.mean() - 0.5
    found = reflected_estimate(np.array([[value]]), samples, 0.9)
    assert found.value == value
    # t of 4,999 degrees of freedom is 0.02 % wider than the normal
    np.testing.assert_allclose([found.low, found.high], [2 * value - high - 0.5**0.5, 2 * value - low], atol=2e-3)
    unbiased = reflected_estimate(np.array([[samples.mean() + 0.2]]), samples, 0.9)
    assert unbiased.low == pytest.approx(2 * samples.mean() + 0.4 - high, abs=2e-3)


def test_few_runs_stretch_the_interval_around_its_centre():
    rng = np.random.default_rng(1)
    cells = rng.normal(0, 1, (3, 1)) + rng.normal(0, 1, (1, 3))
    samples = rng.normal(cells.mean() - 0.5, 0.8, 4000)
    found = reflected_estimate(cells, samples, 0.95)
    assert (found.low + found.high) / 2 == pytest.approx(2 * cells.mean() - samples.mean(), abs=0.1)
    assert found.high - found.low > 1.2 * np.diff(np.quantile(samples, [0.025, 0.975]))[0]


def test_without_samples_there_is_no_interval():
    found = reflected_estimate(np.ones((2, 2)), np.zeros(0), 0.95)
    assert found.value == 1 and np.isnan([found.low, found.high]).all()
    assert reflected_estimate(np.ones((2, 2)), np.ones(5), 0.95).low == 1  # nothing varies


def test_influence_is_taken_of_all_examples_or_of_some_drawn():
    choice = ExampleChoice(seed=0)
    few = choice.among(np.array([3, 5, 9]))
    assert few.rows.tolist() == [3, 5, 9] and few.clusters is None
    many = choice.among(np.arange(3 * MOST_INFLUENTIAL))
    assert len(many.rows) == len(np.unique(many.rows)) == MOST_INFLUENTIAL and (np.diff(many.rows) > 0).all()
    assert (choice.among(np.arange(3 * MOST_INFLUENTIAL)).rows == many.rows).all()


@pytest.mark.parametrize("per_cluster", [2, 60])
def test_clusters_are_taken_whole(per_cluster):
    n = 60_000
    cluster = np.random.default_rng(0).permutation(n) // per_cluster
    found = ExampleChoice(0, cluster).among(np.arange(n))
    own = cluster[found.rows]
    assert np.isin(cluster, own).sum() == len(found.rows)  # no example of a chosen cluster is left out
    count = len(np.unique(own))
    assert count == found.clusters.max() + 1 == max(LEAST_CLUSTERS, MOST_INFLUENTIAL // per_cluster)
    assert len(np.unique(np.stack([own, found.clusters]), axis=1).T) == count


def test_too_few_resamples_for_an_interval_are_told():
    assert resamples_notes(0, 0.95) == ["metrics.resamples=0: no intervals."]
    assert resamples_notes(40, 0.95) == resamples_notes(20, 0.9) == []
    [note] = resamples_notes(39, 0.95)
    assert note.startswith("metrics.resamples=39 is too few for 95 % intervals") and "Expected 40 at least" in note
