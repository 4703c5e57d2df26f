"""Thresholds certified among those kept, and reused on other runs: against slow searches, and by simulation."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from metrics.beyond import retrained
from metrics.beyond.retrained import retrained_entries, thresholds_of_shares
from metrics.grid.collect import collect_grids
from metrics.statistics.certificates import rejected_by_limits
from metrics.statistics.switcher import deferral_order
from metrics.statistics.thresholds import Candidates, SplitScores, fewest_kept, losses_of_reuse
from tests.synthetic_scores import synthetic_grid


def world(n, rng):
    """A score, and d that is 1 or -1 more often where the score is high or low: the loss among score < t is known."""
    score, draw = rng.random(n), rng.random(n)
    return score, np.where(draw < 0.25 * score, 1, np.where(draw > 1 - 0.1 * (1 - score), -1, 0))


def loss_among(t):
    """E(d | score < t) = (1/t) ∫₀ᵗ .25 u - .1 (1 - u) du, which grows with t."""
    return 0.175 * min(t, 1.0) - 0.1


def test_no_loss_among_those_kept_is_above_epsilon_in_simulation():
    rng = np.random.default_rng(0)
    epsilon, delta, trials, n = 0.01, 0.2, 300, 1500
    violations, saved = 0, []
    for _ in range(trials):
        score, d = world(2 * n, rng)
        found = Candidates.of_run(score, d == -1, (d == 1)[None], np.arange(2 * n) < n)
        certified = found.certified_among_kept(epsilon, delta)
        # as the loss grows with the threshold, it is above epsilon at one up to the chosen if it is there
        violations += certified.threshold[0] > 0 and loss_among(certified.threshold[0]) > epsilon
        saved.append(1 - certified.deferred[0])
        # among fewer examples than all a wrong answer weighs more
        assert certified.deferred[0] >= found.certified(epsilon, delta).deferred[0] - 0.03
    assert violations <= delta * trials + 3 * math.sqrt(trials * delta * (1 - delta))
    assert np.mean(saved) > 0.3


def test_an_order_at_hand_gives_the_same_thresholds_and_counts():
    rng = np.random.default_rng(3)
    score, d = np.round(rng.random(300), 2), rng.integers(-1, 2, (4, 300)).astype(np.int8)
    half = rng.random(300) < 0.5
    one, other = (
        SplitScores.of_halves(score, half, None, order).candidates(d, np.abs(d))
        for order in (None, deferral_order(score))
    )
    for name in ("thresholds", "ranked", "kept", "wins", "losses"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    at = [(score[half] < threshold).sum() for threshold in one.thresholds]
    np.testing.assert_array_equal(one.kept, at)
    np.testing.assert_array_equal(
        one.losses, [[(own[half][score[half] < t] == -1).sum() for t in one.thresholds] for own in d]
    )


def slow(score, d, calibration, epsilon, delta):
    """Threshold by threshold, from the first that keeps enough, each among those it keeps, until one fails."""
    check = np.sort(score[~calibration])[::-1]
    thresholds = sorted({check[math.ceil(f * len(check) / 100) - 1] for f in range(100, 0, -1)})
    best = -math.inf
    for t in [*thresholds, math.inf]:
        kept = calibration & (score < t)
        if kept.sum() < fewest_kept(epsilon, delta):
            continue
        if not rejected_by_limits((d[kept] == 1).sum(), (d[kept] == -1).sum(), kept.sum(), epsilon, delta):
            break
        best = t
    return best


@pytest.mark.parametrize("values", [6, 10_000])
def test_the_search_among_those_kept_against_a_slow_one(values):
    rng = np.random.default_rng(1)
    for epsilon in (0.02, 0.1, 0.5):
        score = rng.integers(0, values, 801)
        small, large = rng.random(801) < 0.9 - 0.5 * score / values, rng.random((3, 801)) < 0.85
        calibration = rng.permutation(801) < 400
        found = Candidates.of_run(score, small, large, calibration).certified_among_kept(epsilon, 0.1)
        for j in range(3):
            d = large[j].astype(int) - small
            assert found.threshold[j] == slow(score, d, calibration, epsilon, 0.1)
            kept = ~calibration & (score < found.threshold[j])
            if kept.any():
                assert found.loss_among_kept[j] == pytest.approx(d[kept].mean())
            else:
                assert math.isnan(found.loss_among_kept[j])


def test_nothing_is_certified_of_too_few():
    score, d = world(60, np.random.default_rng(2))
    found = Candidates.of_run(score, d == -1, (d == 1)[None], np.arange(60) < 30).certified_among_kept(0.01, 0.1)
    assert found.threshold[0] == -math.inf and found.deferred[0] == 1 and math.isnan(found.loss_among_kept[0])


def test_losses_of_reuse_one_by_one():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 8, (3, 70)).astype(float)
    small, large = rng.random((3, 70)) < 0.6, rng.random((2, 70)) < 0.7
    thresholds = np.array([[3.0, -np.inf], [np.inf, 0.0], [5.5, 7.0]])
    of_each_run = thresholds_of_shares(scores, np.array([[0.0, 0.3], [1.0, 0.5]]))
    for found, used in (
        (losses_of_reuse(scores, small, large, thresholds), [thresholds] * 3),
        (losses_of_reuse(scores, small, large, of_each_run), of_each_run),
    ):
        for k in range(3):
            for other in range(2):
                for place, t in np.ndenumerate(used[k]):
                    answers = np.where(scores[k] >= t, large[other], small[k])
                    assert found[(k, other, *place)] == pytest.approx(large[other].mean() - answers.mean())


def test_thresholds_of_shares():
    scores = np.random.default_rng(4).random((2, 50))
    found = thresholds_of_shares(scores, np.array([[0.0, 0.21, 1.0]]))
    deferred = (scores[:, None, None] >= found[..., None]).sum(axis=-1)
    assert deferred.tolist() == [[[0, 11, 50]]] * 2


def test_how_often_reused_thresholds_lose_too_much():
    (grid,) = collect_grids(synthetic_grid(seeds={"small": [0, 1, 2], "base": [0, 1]}, examples=120))
    small, large = grid.sizes
    rng = np.random.default_rng(5)
    scores, rows = rng.random((3, 120)), np.arange(40, 120)
    thresholds = np.array([[0.2, 0.7], [-np.inf, 0.9], [0.5, np.inf]])
    shares = np.array([[0.8, 0.3], [1.0, 0.1], [0.5, 0.0]])
    epsilon = 0.03
    found = retrained_entries(scores, small, large, thresholds, shares, shares < 1, rows, epsilon, seed=0)
    over = {"own": [], "new_large": [], "new_small": [], "both_new": []}
    both = []
    for i, j in np.ndindex(3, 2):
        for k, other in np.ndindex(3, 2):
            if thresholds[i, j] == -np.inf:
                continue
            kept = rows[scores[k, rows] < thresholds[i, j]]
            loss = (large.correct[other, kept].astype(int) - small.correct[k, kept]).sum() / 80
            kind = {(True, True): "own", (True, False): "new_large", (False, True): "new_small"}.get(
                (k == i, other == j), "both_new"
            )
            over[kind].append(loss > epsilon)
            both += [loss] if kind == "both_new" else []
    assert found["thresholds"] == 5
    for kind, values in over.items():
        assert found[f"{kind}_over"] == pytest.approx(100 * np.mean(values))
    assert (found["both_new_loss"], found["both_new_worst"]) == pytest.approx((100 * np.mean(both), 100 * max(both)))
    one_seed = retrained_entries(
        scores[:1],
        *(collect_grids(synthetic_grid(seeds=1, examples=120))[0].sizes),
        thresholds[:1, :1],
        shares[:1, :1],
        shares[:1, :1] < 1,
        rows,
        epsilon,
        seed=0,
    )
    assert math.isnan(one_seed["both_new_over"]) and not math.isnan(one_seed["own_over"])
    none = retrained_entries(
        scores, small, large, np.full((3, 2), -np.inf), np.ones((3, 2)), shares > 1, rows, epsilon, 0
    )
    assert none["thresholds"] == 0 and math.isnan(none["own_over"])


@pytest.mark.parametrize("in_clusters", [False, True])
def test_of_many_examples_those_that_are_looked_at_are_drawn(monkeypatch, in_clusters):
    monkeypatch.setattr(retrained, "MOST_EVALUATED", 1000)
    late = np.arange(4000) >= 2000  # all losses are in the second half of the file
    small, large = SimpleNamespace(correct=np.stack([~late] * 2)), SimpleNamespace(correct=np.ones((2, 4000), bool))
    thresholds, shares = np.ones((2, 2)), np.zeros((2, 2))  # nothing is deferred
    found = retrained_entries(
        np.zeros((2, 4000)),
        small,
        large,
        thresholds,
        shares,
        shares < 1,
        np.arange(4000),
        0.01,
        seed=3,
        clusters=np.arange(4000) // 4 if in_clusters else None,
    )
    assert found["own_over"] == 100 and found["both_new_loss"] == pytest.approx(50, abs=6)
