"""Certified thresholds: the guarantee by simulation, the search against a slow one, what can't be certified."""

import math

import numpy as np
import pytest

from conf.schema import SCORES, Metrics
from metrics.beyond import Collector
from metrics.beyond.certifiable import epsilon_warning
from metrics.beyond.certified_entries import CLUSTER_TEST, calibration_half, natural_units
from metrics.grid.collect import collect_grids
from metrics.statistics.certificates import loses_no_more
from metrics.statistics.thresholds import Candidates
from metrics.statistics.uncertainty import uncertainties
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


def certify(score, small, large, calibration, epsilon, delta):
    return Candidates.of_run(score, small, large, calibration).certified(epsilon, delta)


def world(n, rng):
    """A score, and d that is 1 or -1 more often where the score is high: R(t) is known for every t."""
    score = rng.random(n)
    draw = rng.random(n)
    d = np.where(draw < 0.25 * score, 1, np.where(draw > 1 - 0.1 * (1 - score), -1, 0))
    return score, d


def loss_below(t):
    """E d 1[score < t] = ∫₀ᵗ .25 u - .1 (1 - u) du."""
    t = np.clip(t, 0, 1)
    return 0.175 * t**2 - 0.1 * t


def test_the_guarantee_holds_in_simulation():
    rng = np.random.default_rng(1)
    epsilon, delta, trials, n = 0.01, 0.2, 600, 600
    violations, saved = 0, []
    for _ in range(trials):
        score, d = world(2 * n, rng)
        calibration = np.arange(2 * n) < n
        found = certify(score, d == -1, (d == 1)[None], calibration, epsilon, delta)
        violations += loss_below(found.threshold[0]) > epsilon
        saved.append(1 - found.deferred[0])
    assert violations <= delta * trials + 3 * math.sqrt(trials * delta * (1 - delta))
    assert np.mean(saved) > 0.3  # and it is not valid for want of certifying anything
    # without the test, the threshold with an empirical loss of at most ε breaks the promise about every other time
    broken = 0
    for _ in range(200):
        score, d = world(n, rng)
        order = np.argsort(score)
        losses = np.cumsum(d[order]) / n
        broken += loss_below(score[order][np.flatnonzero(losses <= epsilon)[-1]]) > epsilon
    assert broken / 200 > delta + 0.1


def slow(score, small, large, calibration, epsilon, delta):
    """Threshold by threshold from the safest, each on the calibration half, until one fails."""
    check = np.sort(score[~calibration])[::-1]
    thresholds = [check[math.ceil(f * len(check) / 100) - 1] for f in range(100, 0, -1)]
    best = -math.inf
    for t in [*sorted(set(thresholds)), math.inf]:
        kept = calibration & (score < t)
        d = large[kept].astype(int) - small[kept]
        if not loses_no_more((d == 1).sum(), (d == -1).sum(), calibration.sum(), epsilon, delta):
            break
        best = t
    return best


@pytest.mark.parametrize("values", [4, 10_000])
def test_search_against_a_slow_one(values):
    rng = np.random.default_rng(2)
    for epsilon in (0.0, 0.02, 0.1, 0.5):
        score = rng.integers(0, values, 301)
        small, large = rng.random(301) < 0.6, rng.random((3, 301)) < 0.65
        calibration = rng.permutation(301) < 150
        found = certify(score, small, large, calibration, epsilon, 0.1)
        for j in range(3):
            assert found.threshold[j] == slow(score, small, large[j], calibration, epsilon, 0.1)
            kept = ~calibration & (score < found.threshold[j])
            assert found.deferred[j] == pytest.approx(1 - kept.sum() / 151)
            d = large[j][kept].astype(int) - small[kept]
            assert found.loss[j] == pytest.approx(d.sum() / 151)


def test_more_tolerance_defers_no_more():
    rng = np.random.default_rng(3)
    score, d = world(2000, rng)
    calibration = np.arange(2000) < 1000
    deferred = [certify(score, d == -1, (d == 1)[None], calibration, e, 0.1).deferred[0] for e in (0, 0.01, 0.03, 0.2)]
    assert deferred == sorted(deferred, reverse=True) and deferred[-1] == 0


def rows_of(scores, config):
    analysis, tables = tables_of(scores, config)
    return analysis.grid, *((tables[name].rows, tables[name].notes) for name in ("certified", "certified_runs"))


def test_rows_and_units():
    config = Metrics(resamples=0, epsilon=0.06, delta=0.2)
    grid, (summed, _), (single, notes) = rows_of(synthetic_grid(seeds=3, examples=90, classes=2), config)
    assert len(summed) == 6 and len(single) == 6 * 3 and notes == []
    for row in summed:
        assert row["deferred_least"] <= row["deferred"] <= row["deferred_most"] <= 100
        assert (row["epsilon"], row["delta"], row["pairs"]) == (6, 0.2, 9)
        assert row["calibration"] + row["evaluation"] == 90
    values = uncertainties(grid.sizes[0], config)
    p = np.exp(grid.sizes[0].log_likelihoods.astype(float))
    p /= p.sum(axis=2, keepdims=True)
    margin, entropy = 1 - np.abs(p[:, :, 0] - p[:, :, 1]), -(p * np.log(p)).sum(axis=2)
    for score, natural in (
        ("margin", margin),
        ("entropy", entropy),
        ("committee_margin", (margin.sum(axis=0) - margin) / 2),
        ("committee_entropy", (entropy.sum(axis=0) - entropy) / 2),
    ):
        found = natural_units(score, float(values[score][1, 7]), values, config)
        assert found == pytest.approx(natural[1, 7], rel=1e-6)
    churn = values["churn"] / 2
    assert natural_units("churn", float(values["churn"][0, 3]), values, config) == churn[0, 3]
    others = (churn.sum(axis=0) - churn) / 2
    assert natural_units("committee_churn", float(values["committee_churn"][2, 5]), values, config) == others[2, 5]
    for score in SCORES:
        assert math.isnan(natural_units(score, -math.inf, values, config))
        assert natural_units(score, math.inf, values, config) == math.inf


def test_no_loss_at_all_may_be_asked_for():
    _, (summed, _), (single, _) = rows_of(synthetic_grid(seeds=2, examples=80), Metrics(resamples=0, epsilon=0.0))
    assert {row["epsilon"] for row in summed} == {0} and len(single) == 6 * 2


def test_churn_is_a_fraction_of_the_committee_that_was_asked():
    config = Metrics(resamples=0, committee_size=3)
    values = {name: np.arange(10.0).repeat(4).reshape(10, 4) for name in ("churn", "committee_churn")}
    assert natural_units("churn", 2.0, values, config) == 1
    assert natural_units("committee_churn", 4.0, values, config) == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_a_larger_model_that_is_no_better_need_not_be_asked(classes):
    sizes = {"small": (10, 2.0), "base": (20, 1.0)}
    _, (summed, _), (single, _) = rows_of(
        synthetic_grid(sizes, seeds=3, examples=1500, classes=classes), Metrics(resamples=0)
    )
    assert {row["score"] for row in single} == set(SCORES)
    for row in summed:
        assert row["deferred"] == row["deferred_chosen"] == 0 and row["saving"] == 100 and row["loss"] < 0
    assert {row["threshold"] for row in single} == {math.inf}


def test_a_threshold_in_natural_units_defers_what_it_says():
    config = Metrics(resamples=0, epsilon=0.03)
    grid, _, (single, _) = rows_of(synthetic_grid(seeds=2, examples=2000, classes=3), config)
    p = np.sort(np.exp(grid.sizes[0].log_likelihoods.astype(float)), axis=2)
    margin = 1 - (p[:, :, -1] - p[:, :, -2]) / p.sum(axis=2)
    for i, row in enumerate(row for row in single if row["score"] == "margin"):
        assert 0 < row["threshold"] < 1
        # it was chosen on one half, so over both it defers about the share that it defers on the other
        assert 100 * (margin[i] >= row["threshold"]).mean() == pytest.approx(row["deferred"], abs=4)


def test_an_epsilon_that_nothing_can_come_of_is_said_before_the_work():
    assert epsilon_warning(2000, Metrics(epsilon=0.01)) == ""
    assert epsilon_warning(2000, Metrics(epsilon=0.001)) == (
        "metrics.epsilon=0.001 is too small to certify anything: 1,000 examples to calibrate on, half of 2,000, "
        "certify 0.003 at best with metrics.delta=0.1. Set metrics.epsilon=0.003 or more, or score 5,990 examples."
    )
    assert epsilon_warning(5990, Metrics(epsilon=0.001)) == ""
    assert "No number of examples certifies a loss of 0" in epsilon_warning(2000, Metrics(epsilon=0.0))
    scores = synthetic_grid(seeds=2, examples=90)
    (grid,) = collect_grids(scores)
    (warning,) = Collector(grid, Metrics(epsilon=0.001)).warnings()
    assert warning.startswith("metrics.epsilon=0.001 is too small")
    assert Collector(grid, Metrics(epsilon=0.1)).warnings() == []
    _, (_, notes), _ = rows_of(scores, Metrics(resamples=0, epsilon=0.001))
    assert notes == [warning]


def test_clusters_calibrate_whole_and_certificates_bet_on_them():
    clusters = np.random.default_rng(4).permutation(300) // 10
    half = calibration_half(300, 0, clusters)
    assert half.sum() == 150 and all(len(set(half[clusters == k])) == 1 for k in range(30))
    (grid,) = collect_grids(synthetic_grid(seeds=2, examples=90))
    grid.clusters = np.arange(90) // 3
    (enough,) = Collector(grid, Metrics(epsilon=0.3)).warnings()
    assert "the sums of 15 clusters" in enough and "clusters of up to 3 examples" in enough and "set" not in enough
    (warning,) = Collector(grid, Metrics(epsilon=0.1)).warnings()
    assert warning.startswith(enough) and "score more clusters" in warning


def test_the_tables_name_the_test():
    scores = synthetic_grid(seeds=2, examples=400)
    _, (summed, _), _ = rows_of(scores, Metrics(resamples=0, epsilon=0.05))
    assert {row["test"] for row in summed} == {"trinomial"}
    _, (clustered, _), _ = rows_of(scores, Metrics(resamples=0, epsilon=0.05, cluster="slice_kind"))
    assert {row["test"] for row in clustered} == {CLUSTER_TEST}
    # three clusters certify nothing
    assert {row["deferred"] for row in clustered} == {100}


def test_too_few_examples():
    _, (summed, notes), (single, _) = rows_of(synthetic_grid(seeds=2, examples=19), Metrics(resamples=0))
    assert summed == single == [] and "19 examples are too few" in notes[0]


def test_answers_are_certified_in_self_context_alone():
    """A threshold on how sure a model is of the gold answer can't be used where there is none."""
    scores = synthetic_grid(seeds=2, examples=60, task="span_qa")
    for context in ("gold", "self"):
        _, (summed, notes), (single, _) = rows_of(scores, Metrics(resamples=0, context=context))
        assert {row["context"] for row in summed + single} == {"self"} and "can't be deployed" in notes[0]
    _, (summed, notes), _ = rows_of(synthetic_grid(seeds=2, examples=60, task="translation"), Metrics(resamples=0))
    assert summed == [] and "no sentence is right or wrong" in notes[0]
