"""Costs, and ensembles at equal cost, against sums by hand and votes one by one."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import SCORES, Metrics
from metrics.analysis.prices import prices_of
from metrics.beyond.cost import BUDGETS, at_fraction, passes, relative_cost, unknown_flops
from metrics.beyond.ensemble import (
    MAJORITY,
    MEAN_PROBABILITY,
    ensembles_of,
    majority_vote,
    mean_probability,
    member_counts,
)
from metrics.bootstrap.resampling import Resampling
from metrics.grid.collect import collect_grids
from tests.metrics_runs import tables_of
from tests.resamples import draws
from tests.synthetic_scores import synthetic_grid

B = 10


@pytest.fixture(scope="module")
def analysis():
    sizes = {"small": (10, 1.3), "base": (25, 1.9), "large": (100, 2.3)}
    return tables_of(synthetic_grid(sizes, seeds=3, examples=90, classes=3, seed_noise=1.2), Metrics(resamples=B))


def test_passes_charge_the_committee():
    assert [passes(score, 10) for score in SCORES] == [1, 10, 1, 10, 10, 10]


def test_every_table_charges_the_committee_that_was_asked():
    config = Metrics(resamples=B, committee_size=2)
    _, tables = tables_of(synthetic_grid({"small": (10, 1.3), "large": (100, 2.3)}, seeds=4, examples=60), config)
    by_cost, by_aiq = ({row["score"]: row["score_cost"] for row in tables[name].rows} for name in ("cost", "aiq"))
    assert by_cost["churn"] == pytest.approx(20) and by_cost["margin"] == pytest.approx(10)
    assert {score: by_cost[score] for score in by_aiq} == pytest.approx(by_aiq)


def test_costs(analysis):
    analysis, tables = analysis
    rows = tables["cost"].rows
    assert len(rows) == 3 * 6
    ratios = {("small", "base"): 0.4, ("small", "large"): 0.1, ("base", "large"): 0.25}
    for row in rows:
        pair = next(p for p in analysis.pairs if (p.small, p.large) == (row["small"], row["large"]))
        ratio, k = ratios[pair.small, pair.large], row["passes"]
        assert row["score_cost"] == pytest.approx(100 * k * ratio)
        curve = pair.curve[row["score"]]
        for share in BUDGETS:
            accuracy = row[f"at_{100 * share:g}"]
            left = share - k * ratio
            if left < -1e-9:
                assert np.isnan(accuracy)
            else:
                assert accuracy == pytest.approx(100 * np.interp(left, np.arange(101) / 100, curve))
                assert row[f"at_{100 * share:g}_ci_low"] <= row[f"at_{100 * share:g}_ci_high"]
        shares = pair.least_share[row["score"]]
        for part, share in shares.reaching.items():
            assert row[f"cost_{100 * part:g}"] == pytest.approx(100 * (k * ratio + share.value), nan_ok=True)
        assert row["cost_50"] <= row["cost_99"] or np.isnan(row["cost_99"])
        assert row["cost_within_epsilon"] == pytest.approx(100 * (k * ratio + shares.within_epsilon))
    margin = next(r for r in rows if (r["small"], r["large"], r["score"]) == ("small", "large", "margin"))
    # a budget of 25 % is one small pass and 15 % deferred
    assert margin["at_25"] == pytest.approx(100 * analysis.widest.curve["margin"][15])


def test_at_fraction_ends():
    curves = np.linspace(0, 1, 101)[:, None] ** 2
    assert at_fraction(curves, 0.0) == 0 and at_fraction(curves, 1.0) == 1
    assert at_fraction(curves, 0.005)[0] == pytest.approx(0.00005)
    assert at_fraction(curves, -1e-13) == 0


def test_without_flops_parameters_are_the_cost():
    grid = collect_grids(synthetic_grid({"small": (10, 1.3), "base": (40, 1.9)}, seeds=2, examples=40))[0]
    assert unknown_flops(grid) == [] and relative_cost(grid, "small", "base") == pytest.approx(0.25)
    grid.sizes[0].flops_per_example = 0.0
    assert relative_cost(grid, "small", "base") == pytest.approx(0.25)
    assert "No FLOPs are known of small" in unknown_flops(grid)[0]


def test_member_counts():
    assert [member_counts(runs) for runs in (1, 2, 3, 10)] == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 5, 10]]
    assert all(one < other for runs in range(1, 60) for one, other in pairwise(member_counts(runs)))


def test_votes_one_by_one():
    rng = np.random.default_rng(0)
    prediction = rng.integers(0, 4, (5, 80))
    target = rng.integers(0, 4, 80)
    found = majority_vote(prediction, prediction == target, [1, 2, 3, 5])
    for row, k in enumerate([1, 2, 3, 5]):
        for first in range(5):
            for x in range(80):
                votes = Counter(prediction[(first + step) % 5, x] for step in range(k))
                top = [answer for answer, count in votes.items() if count == max(votes.values())]
                assert found[row, first, x] == pytest.approx((target[x] in top) / len(top))


def test_mean_probability_by_hand():
    rng = np.random.default_rng(1)
    likelihoods = rng.normal(0, 2, (4, 60, 3)) - 5
    target = rng.integers(0, 3, 60)
    found = mean_probability(likelihoods, target, [1, 3])
    p = np.exp(likelihoods) / np.exp(likelihoods).sum(axis=2, keepdims=True)
    for first in range(4):
        np.testing.assert_array_equal(found[0, first], likelihoods[first].argmax(axis=1) == target)
        three = p[[first, (first + 1) % 4, (first + 2) % 4]].mean(axis=0)
        np.testing.assert_array_equal(found[1, first], three.argmax(axis=1) == target)
    # two classes that tie share the chance; a class that no run likes best may win
    tied = np.log(np.array([[[0.5, 0.5, 0.0 + 1e-300]]]))
    assert mean_probability(tied, np.array([0]), [1])[0, 0, 0] == 0.5
    compromise = np.log(np.array([[[0.5, 0.1, 0.4]], [[0.1, 0.5, 0.4]]]))
    assert mean_probability(compromise, np.array([2]), [2])[0, 0, 0] == 1


def test_mean_probability_divides_by_the_labels_tokens_where_uncertainty_does():
    likelihoods = np.array([[[-1.0, -6.0]], [[-9.0, -6.0]]])  # by tokens: -1 and -1, then -9 and -1
    target = np.array([1])
    assert mean_probability(likelihoods, target, [2])[0, 0, 0] == 0
    assert mean_probability(likelihoods, target, [2], np.array([1.0, 6.0]))[0, 0, 0] == 1
    grid = synthetic_grid(seeds=3, examples=400, classes=3, label_tokens=[1, 2, 6], seed_noise=1.2)
    of_tokens = tables_of(grid, Metrics(resamples=0, length_normalized=True))[1]["ensembles"].rows
    plain = tables_of(grid, Metrics(resamples=0))[1]["ensembles"].rows
    pairs = list(zip(of_tokens, plain, strict=True))
    assert {one["combination"] for one, other in pairs if one["ensemble"] != other["ensemble"]} == {MEAN_PROBABILITY}


def test_ensembles(analysis):
    analysis, tables = analysis
    small = analysis.grid.sizes[0]
    resampling = Resampling({size.name: 3 for size in analysis.grid.sizes}, 90, B, seed=5)
    samples = ensembles_of(analysis.grid, small, resampling, None).samples
    codes = {name: k for k, name in enumerate(analysis.grid.classes)}
    target = np.array([codes[t] for t in analysis.grid.target.decoded()])
    right = {
        MEAN_PROBABILITY: mean_probability(small.log_likelihoods, target, [1, 2, 3]),
        MAJORITY: majority_vote(small.prediction, small.correct, [1, 2, 3]),
    }
    for b, examples, runs, _ in draws(resampling):
        for name, values in right.items():
            drawn = values[:, :, examples].mean(axis=2)  # [k, R]; of k = 1 it is the runs' own accuracy
            moved = drawn[0, runs["small"]].mean() - drawn[0].mean()
            np.testing.assert_allclose(samples[name][:, b], drawn.mean(axis=1) + moved, atol=1e-6)
    rows = tables["ensembles"].rows
    assert len(rows) == 3 * 2 * 3
    for row in rows:
        pair = next(p for p in analysis.pairs if (p.small, p.large) == (row["small"], row["large"]))
        ratio = relative_cost(analysis.grid, pair.small, pair.large)
        assert row["cost"] == pytest.approx(100 * row["members"] * ratio)
        if row["members"] == 1:  # an ensemble of one is the small model
            accuracy = analysis.quality[pair.small]
            assert row["ensemble"] == pytest.approx(100 * accuracy.value)
            assert row["ensemble_ci_low"] == pytest.approx(100 * accuracy.low, abs=1e-4)
            assert row["deferred"] == 0 and row["difference"] == pytest.approx(0, abs=1e-9)
        assert row["difference"] == pytest.approx(row["switcher"] - row["ensemble"])
        # the same FLOPs: one pass of the small model and the deferred fraction, unless all are deferred
        spent = 100 * ratio + row["deferred"]
        assert spent == pytest.approx(row["cost"]) or (row["deferred"] == 100 and spent < row["cost"])


def test_translation_has_costs_and_no_ensembles_and_answers_have_votes():
    for task, names in (("translation", {"cost"}), ("span_qa", {"cost", "ensembles"})):
        _, tables = tables_of(synthetic_grid(seeds=2, examples=50, task=task), Metrics(resamples=4))
        assert {name for name in ("cost", "ensembles") if tables[name].rows} == names
        # the gold answer is not known where a score is to be paid for
        assert {row["context"] for name in names for row in tables[name].rows} == {"self"}
        assert {row["combination"] for row in tables["ensembles"].rows} <= {MAJORITY}


def test_prices_are_those_of_the_passes():
    sizes = {"small": (10, 1.3), "large": (100, 2.3)}
    scores = synthetic_grid(sizes, seeds=3, examples=200)
    config = Metrics(resamples=B, price={"small": 0.5, "large": 4.0}, price_unit="ms")
    config.check()
    result, tables = tables_of(scores, config)
    [pair] = result.pairs
    for row in tables["cost"].rows:
        passes_of_small = 1 if row["score"] in ("margin", "entropy") else 3
        shares = pair.least_share[row["score"]]
        assert row["price_unit"] == "ms" and row["price_large"] == 4.0
        assert row["price_score"] == 0.5 * passes_of_small
        assert row["price_50"] == pytest.approx(0.5 * passes_of_small + shares.half.value * 4.0)
        assert row["price_50_ci_high"] == pytest.approx(0.5 * passes_of_small + shares.half.high * 4.0)
        assert row["price_within_epsilon"] == pytest.approx(0.5 * passes_of_small + shares.within_epsilon * 4.0)
    assert "price_unit" in {column.key for column in tables["cost"].shown}
    _, without = tables_of(scores, Metrics(resamples=B))
    assert not [column.key for column in without["cost"].shown if column.key.startswith("price")]
    assert all(np.isnan(row["price_large"]) for row in without["cost"].rows)


def test_prices_that_can_t_be_used_are_refused():
    for price in ({}, [1, 2], {"small": -1}, {"small": "dear"}, {"small": True}, {"small": float("inf")}):
        with pytest.raises(
            EdgewiseError, match=r"metrics\.price=.*expected a mapping of each size to a number of 0 or"
        ):
            Metrics(price=price).check()
    grid = collect_grids(synthetic_grid(seeds=1, examples=20))[0]
    with pytest.raises(EdgewiseError, match=r"has no price of base; expected one for each size of synthetic"):
        prices_of(Metrics(price={"small": 1.0}), grid)
    assert prices_of(Metrics(), grid) is None
    prices = prices_of(Metrics(price={"small": 1.0, "base": 4.0}, price_unit="ms"), grid)
    assert prices.of_mixture("small", "base", 0.25) == 2.0 and prices.saving("small", "base", 0.25) == 0.5
    assert prices.written(1.23456) == "1.23 ms"
