"""Held-out peaks: by hand, by splits of a null world, and the exact floor of a random score by enumeration."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import Metrics
from metrics.analysis.intervals import InfluentialExamples
from metrics.beyond.peak import (
    halves_of,
    held_out_gains,
    held_out_gains_of_sizes,
    random_peak,
    resampled_means,
    splits,
)
from metrics.bootstrap.resampling import Resampling
from metrics.grid.collect import collect_grids
from metrics.statistics.switcher import INTERIOR, deferral_order, switcher_statistics
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


def by_hand(scores, small, large, halves):
    """One split and direction at a time, on the halves' own curves."""
    shape = (len(scores), len(large))
    gain, chosen_on = np.zeros(shape), np.zeros(shape)
    for i, score in enumerate(scores):
        for j in range(len(large)):
            for half in halves:
                for chooses in (half, ~half):
                    one, other = (
                        switcher_statistics(deferral_order(score[some]), small[i][some], large[j][some][None])
                        for some in (chooses, ~chooses)
                    )
                    best = 1 + int(one.curve[0, INTERIOR].argmax())
                    end = 100 if one.curve[0, 100] > one.curve[0, 0] else 0
                    gain[i, j] += (other.curve[0, best] - other.curve[0, end]) / (2 * len(halves))
                    chosen_on[i, j] += (one.curve[0, best] - one.curve[0, end]) / (2 * len(halves))
    return gain, chosen_on


@given(st.integers(4, 60), st.integers(0, 10_000), st.sampled_from([1, 3, 1000]))
@settings(deadline=None)
def test_against_the_halves_own_curves(n, seed, values):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (2, n))
    small, large = rng.random((2, n)) < 0.6, rng.random((3, n)) < 0.7
    halves = np.stack([rng.permutation(n) < n // 2 for _ in range(3)])
    found = held_out_gains([deferral_order(score) for score in scores], small, large, halves)
    gain, chosen_on = by_hand(scores, small, large, halves)
    # argmax may pick another of two fractions that are equal but for rounding; then the other half may differ
    if values != 1000 or n % 4 == 0:
        np.testing.assert_allclose(found.chosen_on, chosen_on, atol=1e-6)
    close = np.isclose(found.gain, gain, atol=1e-5)
    assert close.all() or _near_ties(scores, small, large, halves)


def _near_ties(scores, small, large, halves):
    """Whether some half's curve has its peak at two fractions, so that rounding decides between them."""
    for i, score in enumerate(scores):
        for j in range(len(large)):
            for half in halves:
                for some in (half, ~half):
                    curve = switcher_statistics(
                        deferral_order(score[some]), small[i][some], large[j][some][None]
                    ).curve[0, INTERIOR]
                    if np.isclose(curve, curve.max(), rtol=0, atol=1e-12).sum() > 1:
                        return True
    return False


@pytest.mark.parametrize(("wins", "losses"), [(3, 2), (2, 3), (4, 4), (0, 3), (5, 0), (1, 6), (0, 0)])
def test_floor_by_enumerating_every_order(wins, losses):
    n = 12
    orders = set(permutations([1] * wins + [-1] * losses))
    peaks = [max(0, *np.cumsum(order)) - max(0, wins - losses) if order else 0 for order in orders]
    assert random_peak(wins / n, losses / n, n) == pytest.approx(np.mean(peaks) / n, abs=1e-15)


def test_floor_by_simulation_and_in_the_limit():
    rng = np.random.default_rng(0)
    d = np.repeat([1, -1, 0], [60, 40, 400])
    walks = np.cumsum(rng.permuted(np.tile(d, (4000, 1)), axis=1), axis=1)
    simulated = (np.maximum(walks.max(axis=1), 0) - 20) / 500
    assert random_peak(0.12, 0.08, 500) == pytest.approx(simulated.mean(), abs=4 * simulated.std() / 4000**0.5)
    n = 10**7
    # at a = b: the 0.627 √(Var d / n) of a Brownian bridge, less half a step of the walk
    brownian = np.sqrt(np.pi / 8) * np.sqrt(0.02 / n)
    assert random_peak(0.01, 0.01, n) == pytest.approx(brownian - 0.5 / n, rel=1e-4)
    assert random_peak(np.array([[0.2, 0.1]]), np.array([[0.1, 0.1]]), 1000).shape == (1, 2)


def test_a_score_that_knows_nothing_gains_nothing_held_out():
    """Table 1 promises something where there is nothing; the held-out peak doesn't."""
    rng = np.random.default_rng(1)
    n = 400
    d = rng.choice([1, -1, 0], p=[0.15, 0.15, 0.7], size=(60, n))
    small, large = d == -1, d == 1
    halves = np.stack([rng.permutation(n) < n // 2 for _ in range(10)])
    gain, promised = [], []
    for s, b in zip(small, large):
        found = held_out_gains([deferral_order(rng.random(n))], s[None], b[None], halves)
        gain.append(found.gain[0, 0])
        promised.append(found.chosen_on[0, 0])
    floor = float(random_peak(0.15, 0.15, n))
    assert np.mean(promised) > floor / 2
    assert abs(np.mean(gain)) < 3 * np.std(gain) / 60**0.5


def test_the_interval_is_the_multi_bootstrap_of_what_examples_contribute():
    rng = np.random.default_rng(2)
    small, large = collect_grids(synthetic_grid(seeds=3, examples=300, classes=3))[0].sizes
    halves = np.stack([rng.permutation(300) < 150 for _ in range(4)])
    scores = rng.random((3, 300))
    found = held_out_gains([deferral_order(s) for s in scores], small.correct, large.correct, halves)
    resampling = Resampling({"small": 3, "base": 3}, 300, 4000, seed=0)
    normal = resampled_means(found, resampling, small, large, (0, 0))
    # the same contributions, resampled example by example: recover them from the covariance of unit gains
    contributed = _contributions(scores, small.correct, large.correct, halves)
    sums = resampling.everything.weights[:-1].T.astype(float) @ contributed.reshape(9, 300).T
    seeds = resampling.seeds["small"] / 3, resampling.seeds["base"] / 3
    exact = np.einsum("bij,bi,bj->b", sums.reshape(-1, 3, 3), *seeds)
    assert contributed.sum(axis=2) == pytest.approx(found.gain, abs=1e-6)
    assert normal.std() == pytest.approx(exact.std(), rel=0.06)
    np.testing.assert_allclose(np.quantile(normal, [0.025, 0.975]), np.quantile(exact, [0.025, 0.975]), atol=0.0015)


def test_clusters_stay_on_one_side_and_their_contributions_are_summed():
    rng = np.random.default_rng(5)
    clusters = rng.permutation(300) // 10
    halves = halves_of(300, 0, clusters)
    assert all(len(set(half[clusters == k])) == 1 for half in halves for k in range(30))
    assert (halves.sum(axis=1) == 150).all()
    small, large = collect_grids(synthetic_grid(seeds=2, examples=300, classes=3))[0].sizes
    scores = rng.random((2, 300))
    orders = [deferral_order(score) for score in scores]
    found = held_out_gains(orders, small.correct, large.correct, halves[:4], clusters)
    contributed = _contributions(scores, small.correct, large.correct, halves[:4]).reshape(4, 300)
    sums = np.stack([contributed[:, clusters == k].sum(axis=1) for k in range(30)], axis=1)
    np.testing.assert_allclose(found.covariance, 29 * np.cov(sums), atol=1e-8)


def test_some_of_the_examples_stand_for_all_in_the_covariance():
    rng = np.random.default_rng(6)
    small, large = collect_grids(synthetic_grid(seeds=2, examples=300, classes=3))[0].sizes
    scores, rows = rng.random((2, 300)), np.sort(rng.choice(300, 120, replace=False))
    orders = [deferral_order(score) for score in scores]
    halves = np.stack([rng.permutation(300) < 150 for _ in range(2)])
    some = held_out_gains(orders, small.correct, large.correct, halves, influential=InfluentialExamples(rows))
    every = held_out_gains(orders, small.correct, large.correct, halves)
    np.testing.assert_array_equal(some.gain, every.gain)
    contributed = _contributions(scores, small.correct, large.correct, halves).reshape(4, 300)[:, rows]
    np.testing.assert_allclose(some.covariance, 300 / 120 * 119 * np.cov(contributed), atol=1e-8)


def _contributions(scores, small, large, halves):
    """[R_small, R_large, n], without ties: what each example adds to a pair's held-out gain."""
    result = np.zeros((len(scores), len(large), scores.shape[1]))
    for i, score in enumerate(scores):
        for j in range(len(large)):
            d = large[j].astype(int) - small[i].astype(int)
            for half in halves:
                for chooses in (half, ~half):
                    one = switcher_statistics(
                        deferral_order(score[chooses]), small[i][chooses], large[j][chooses][None]
                    )
                    best, larger = 0.01 * (1 + int(one.curve[0, INTERIOR].argmax())), d[chooses].sum() > 0
                    other = np.flatnonzero(~chooses)
                    ranked = other[np.argsort(-score[other])]
                    share = np.clip(best * len(other) - np.arange(len(other)), 0, 1)
                    result[i, j, ranked] += (share - larger) * d[ranked] / len(other) / (2 * len(halves))
    return result


def rows_of(scores, seed=0):
    analysis, tables = tables_of(scores, Metrics(resamples=50, seed=seed))
    return analysis, tables["held_out_peak"].rows


def test_rows():
    scores = synthetic_grid(seeds=3, examples=90, classes=3)
    analysis, rows = rows_of(scores)
    assert [row["score"] for row in rows] == list(analysis.pairs[0].scores)
    for row in rows:
        assert row["held_out_ci_low"] < row["held_out"] < row["held_out_ci_high"]
        assert 0 <= row["floor"] <= row["floor_equal"] and row["halves"] == 20
        assert 1 <= row["fraction"] <= 99
    assert rows == rows_of(scores)[1] and rows != rows_of(scores, seed=1)[1]
    assert rows_of(synthetic_grid(seeds=2, examples=3))[1] == []
    assert (splits(100), splits(25_000), splits(10**6)) == (20, 4, 2)


def test_several_larger_sizes_at_once_give_what_each_gives_alone():
    rng = np.random.default_rng(7)
    small, base, large = rng.random((2, 200)) < 0.6, rng.random((3, 200)) < 0.7, rng.random((1, 200)) < 0.8
    orders = [deferral_order(rng.integers(0, 50, 200)) for _ in small]  # with ties
    halves = np.stack([rng.permutation(200) < 100 for _ in range(3)])
    gains = [np.concatenate([base, large]).view(np.int8) - own.view(np.int8) for own in small]
    together = held_out_gains_of_sizes(orders, gains, [3, 1], halves)
    for found, correct in zip(together, (base, large), strict=True):
        alone = held_out_gains(orders, small, correct, halves)
        for name, values in vars(found).items():
            np.testing.assert_array_equal(values, vars(alone)[name], err_msg=name)
