"""Variance components: influences are what an example really changes, sums are the formula's, intervals cover."""

from itertools import combinations

import numpy as np
import pytest

from bench.calibrate import coverage
from bench.populations import REGIMES, draw
from metrics.statistics.churn import bucket_churn, differing_in_buckets, differing_pairs
from metrics.statistics.churn_variance import churn_variance, overall_churn_variance
from metrics.statistics.components import (
    Component,
    ExampleInfluence,
    Variance,
    area_influence,
    combined,
    example_variance,
    variance_of_ensembles,
    variance_of_gap,
    variance_of_pairs,
    variance_of_quality,
    variance_of_resamples,
)
from metrics.statistics.switcher import deferral_order, switcher_statistics


def areas(uncertainty, small, large):
    return switcher_statistics(deferral_order(uncertainty), small, large).area


@pytest.mark.parametrize("digits", [1, 8], ids=["ties", "no_ties"])
def test_an_influence_is_what_one_more_example_like_it_changes(digits):
    runs = draw(REGIMES[1], 2, 400, np.random.default_rng(3))
    small, large = runs.correct["small"][0], runs.correct["large"]
    uncertainty = runs.uncertainty["small"][0].round(digits)
    gains = large.view(np.int8) - small.view(np.int8)
    before = areas(uncertainty, small, large)
    influence = area_influence(deferral_order(uncertainty), gains, before, np.arange(400))
    for example in range(0, 400, 37):
        more = np.append(np.arange(400), example)
        changed = 401 * (areas(uncertainty[more], small[more], large[:, more]) - before)
        np.testing.assert_allclose(influence[:, example], changed, atol=0.01)  # what is left is of second order, 1 / n
    np.testing.assert_allclose(influence.mean(axis=1), 0, atol=1e-12)


def test_the_influence_of_some_examples_is_theirs_among_all():
    runs = draw(REGIMES[1], 3, 300, np.random.default_rng(4))
    order = deferral_order(runs.uncertainty["small"][0].round(1))
    gains = runs.correct["large"].view(np.int8) - runs.correct["small"][0].view(np.int8)
    rows = np.array([5, 0, 299, 17])
    area = areas(runs.uncertainty["small"][0].round(1), runs.correct["small"][0], runs.correct["large"])
    everything = area_influence(order, gains, area, np.arange(300))
    np.testing.assert_allclose(area_influence(order, gains, area, rows), everything[:, rows], atol=1e-15)


def test_the_variance_of_a_mean_over_pairs_is_the_sum_of_its_components():
    rng = np.random.default_rng(5)
    cells, raw = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 50))
    influence = ExampleInfluence.of_runs(raw, examples=50)
    a = cells.mean(axis=1).var(ddof=1) / 3
    b = cells.mean(axis=0).var(ddof=1) / 4
    residual = cells - cells.mean(axis=1)[:, None] - cells.mean(axis=0) + cells.mean()
    ab = (residual**2).sum() / 6 / 12
    e = raw.mean(axis=(0, 1)).var(ddof=1) / 50
    ae = (np.mean([raw[i].mean(axis=0).var(ddof=1) / 50 for i in range(3)]) - e) / 2
    be = (np.mean([raw[:, j].mean(axis=0).var(ddof=1) / 50 for j in range(4)]) - e) / 3
    expected = max(a + b - ab + e - ae - be, a, b, e)
    found = variance_of_pairs(cells, influence)
    assert found.variance == pytest.approx(expected, rel=1e-12)
    squares = a**2 / 2 + b**2 / 3 + ab**2 / 6 + e**2 / 49 + ae**2 / (2 * 49) + be**2 / (3 * 49)
    assert found.freedom == pytest.approx(expected**2 / squares, rel=1e-12)


def test_a_mean_is_never_surer_than_its_largest_component():
    found = combined([Component(2.0, 3)], Component(5.0, 6), Component(1.0, 99), [1.0])
    assert found.variance == 2.0


def test_one_run_tells_nothing_of_how_runs_differ():
    runs = draw(REGIMES[1], {"small": 1, "large": 3}, 200, np.random.default_rng(6))
    rows = np.arange(200)
    of_one = variance_of_quality(runs.correct["small"], rows)
    assert not of_one.runs and of_one.variance == pytest.approx(runs.correct["small"][0].var(ddof=1) / 200)
    assert not variance_of_gap(runs.correct["small"], runs.correct["large"], rows).runs
    assert variance_of_quality(runs.correct["large"], rows).runs


def test_an_ensemble_varies_with_its_examples_and_with_the_runs_though_all_runs_make_but_one():
    correct = draw(REGIMES[2], {"small": 4, "large": 1}, 2000, np.random.default_rng(7)).correct["small"]
    rows = np.arange(2000)
    one, own = variance_of_ensembles(correct, correct, rows), variance_of_quality(correct, rows)
    assert (one.variance, one.freedom) == pytest.approx((own.variance, own.freedom))
    together = np.repeat([correct.sum(axis=0) > 2], 4, axis=0)
    found = variance_of_ensembles(together, correct, rows)
    influence = correct - correct.mean(axis=1, keepdims=True)
    of_runs, noise = correct.mean(axis=1).var(ddof=1) / 4, influence.mean(axis=0).var(ddof=1) / 2000
    counted_twice = (influence.var(axis=1, ddof=1).mean() / 2000 - noise) / 3
    assert found.runs and found.variance == pytest.approx(of_runs - counted_twice + together[0].var(ddof=1) / 2000)


def test_p_is_that_of_the_t_interval_which_just_holds_zero():
    variance = Variance(0.04, 7.0)
    p = variance.p_value(0.5)
    assert variance.half_width(1 - p) == pytest.approx(0.5) and variance.p_value(-0.5) == p
    assert np.isnan(Variance(0.04, 7.0, runs=False).p_value(0.5))  # of other runs nothing is known
    assert Variance(0.0, 7.0).p_value(0.0) == 1 and np.isnan(Variance(0.0, 7.0).p_value(0.1))


def test_resamples_lack_a_part_of_the_spread_of_runs():
    """With cells that are a run of each size and no noise of examples, the sum is the variance of their mean."""
    rng = np.random.default_rng(2)
    small, large = rng.normal(size=4), rng.normal(size=3)
    cells = large[None, :] - small[:, None]
    drawn = [rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), 40_000) for runs in (small, large)]
    samples = drawn[1] @ large / 3 - drawn[0] @ small / 4
    found = variance_of_resamples(cells, np.append(samples, np.nan))
    assert found.variance == pytest.approx(small.var(ddof=1) / 4 + large.var(ddof=1) / 3, rel=0.03)
    assert found.runs and 2 < found.freedom < 6
    assert not variance_of_resamples(cells[:1], samples).runs
    assert np.isnan(variance_of_resamples(cells, np.zeros(0)).half_width(0.95))


def test_examples_of_one_cluster_count_as_one_draw():
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(40), 25)
    alike = np.repeat(rng.normal(size=40), 25)
    assert example_variance(alike, 1000, cluster) == pytest.approx(alike[::25].var(ddof=1) / 40)
    assert example_variance(alike, 1000) < example_variance(alike, 1000, cluster) / 20
    # half of the clusters, of a mean over all: as much as half of single examples tell of that
    half = np.arange(1000) < 500
    of_half = example_variance(alike[half], 1000, cluster[half])
    assert of_half == pytest.approx(alike[half][::25].var(ddof=1) / 40)


@pytest.mark.parametrize("ranks_itself", [True, False])
def test_the_variance_of_churn_is_that_of_leaving_out_runs_and_examples(ranks_itself):
    """Against a jackknife by brute force over runs, and one over blocks of examples."""
    n, count = 4000, 4
    runs = draw(REGIMES[2], count, n, np.random.default_rng(8))
    prediction = runs.answer["large"]
    uncertainty = runs.uncertainty["large" if ranks_itself else "small"]

    def churn(examples=slice(None), kept=range(count), ranking=range(count)):
        chosen = prediction[list(kept)][:, examples]
        orders = [deferral_order(uncertainty[run][examples]) for run in ranking]
        differing = differing_pairs(chosen)
        in_buckets = np.array([differing_in_buckets(order, differing) for order in orders])
        return bucket_churn(in_buckets, len(chosen), chosen.shape[1]).churn

    def jackknife(left):
        values = np.array(left)
        return (len(values) - 1) / len(values) * ((values - values.mean(axis=0)) ** 2).sum(axis=0)

    found = churn_variance(prediction, [deferral_order(one) for one in uncertainty], ranks_itself)
    blocks = np.arange(n) % 200
    examples = jackknife([churn(blocks != block) for block in range(200)])
    others = [[run for run in range(count) if run != left] for left in range(count)]
    of_runs = [jackknife([churn(kept=kept, ranking=kept if ranks_itself else range(count)) for kept in others])]
    if not ranks_itself:
        of_runs.append(np.array([churn(ranking=[run]) for run in range(count)]).var(axis=0, ddof=1) / count)
    for bucket in range(4):  # the last, 40 examples, is left to the coverage below
        least = max(examples[bucket], *(one[bucket] for one in of_runs))
        most = examples[bucket] + sum(one[bucket] for one in of_runs)
        assert 0.7 * least <= found[bucket].variance <= 1.3 * most
    assert all(one.runs for one in found)


def test_the_variance_of_overall_churn_is_that_of_its_weighted_buckets():
    """Against leaving out runs and blocks of examples by brute force."""
    n, count = 2000, 5
    prediction = draw(REGIMES[2], count, n, np.random.default_rng(12)).answer["large"]

    def churn(examples=slice(None), left=-1):
        kept = [run for run in range(count) if run != left]
        return np.mean([(prediction[a] != prediction[b])[examples].mean() for a, b in combinations(kept, 2)])

    found = overall_churn_variance(prediction)
    blocks = np.arange(n) % 200
    of_examples = np.array([churn(blocks != block) for block in range(200)])
    of_runs = np.array([churn(left=run) for run in range(count)])
    examples, runs = (
        (len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum() for left in (of_examples, of_runs)
    )
    assert 0.9 * max(examples, runs) <= found.variance <= 1.1 * (examples + runs)
    assert found.runs and not overall_churn_variance(prediction[:2]).runs
    same = overall_churn_variance(prediction, np.arange(n), np.arange(n))  # each example a cluster of its own
    assert same.variance == pytest.approx(found.variance)


def test_two_runs_are_one_pair_so_that_their_churn_is_of_the_examples_alone():
    runs = draw(REGIMES[2], 2, 500, np.random.default_rng(9))
    found = churn_variance(runs.answer["large"], [deferral_order(one) for one in runs.uncertainty["large"]], True)
    assert not any(one.runs for one in found)
    differing = differing_pairs(runs.answer["large"])
    assert differing.sum() == sum((a != b).sum() for a, b in combinations(runs.answer["large"], 2))


@pytest.mark.parametrize("regime", REGIMES, ids=[regime.name for regime in REGIMES])
def test_intervals_cover_the_truth_as_often_as_they_say(regime):
    """A small form of `just calibrate`: 95 % of 120 draws, give or take three standard errors of such a share."""
    rows = coverage(regime, runs=5, examples=1000, draws=120, truth_draws=150, seed=11)
    found = {row.quantity: row for row in rows}
    assert set(found) == {"accuracy", "gap", "table3", "table2_q1"}
    for row in rows:
        assert row.covered >= 0.95 - 3 * (0.95 * 0.05 / 120) ** 0.5, row
