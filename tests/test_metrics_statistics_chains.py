"""Chains at all combinations of thresholds: example by example; their choice on one half; the oracle by hand."""

from itertools import product

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.beyond.chains import costs_of, paired_difference, route
from metrics.beyond.cost import BUDGETS
from metrics.grid.collect import collect_grids
from metrics.statistics.chains import (
    ChainGrid,
    answering_model,
    best_within,
    bins_of,
    chain_grid,
    cheapest_correct,
    score_thresholds,
)
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid

SIZES = {"small": (10, 1.0), "base": (30, 1.7), "large": (100, 2.4)}


@pytest.mark.parametrize("models", [1, 2, 3, 4])
def test_every_combination_of_thresholds_one_by_one(models):
    rng = np.random.default_rng(0)
    m, levels, costs = 80, 4, [1.0, 3.0, 10.0, 30.0][:models]
    scores = np.round(rng.random((models - 1, m)), 1)  # with ties
    correct = rng.random((models, m)) < 0.6
    thresholds = [score_thresholds(own, levels) for own in scores]
    found = chain_grid([bins_of(*pair) for pair in zip(scores, thresholds, strict=True)], list(correct), costs, levels)
    assert found.quality.shape == (levels + 1,) * (models - 1)
    for place in product(range(levels + 1), repeat=models - 1):
        right, paid = 0, 0.0
        for x in range(m):
            k = 0
            while k < models - 1 and scores[k, x] >= thresholds[k][place[k]]:
                k += 1
            right += correct[k, x]
            paid += sum(costs[: k + 1])
        assert found.quality[place] == pytest.approx(right / m)
        assert found.cost[place] == pytest.approx(paid / m)
        model = answering_model(scores, [some[g] for some, g in zip(thresholds, place, strict=True)])
        assert correct[model, np.arange(m)].sum() == right


def test_thresholds_begin_with_all_and_end_with_none():
    scores = np.random.default_rng(1).random(200)
    thresholds = score_thresholds(scores, 4)
    assert [(scores >= t).mean() for t in thresholds] == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=0.006)


def test_the_best_that_a_budget_buys():
    grids = [
        ChainGrid(np.array([0.5, 0.7, 0.9]), np.array([0.1, 0.4, 1.0])),
        ChainGrid(np.array([[0.6, 0.7], [0.8, 0.85]]), np.array([[0.2, 0.3], [0.6, 0.9]])),
    ]
    assert best_within(grids, 0.05) is None
    assert best_within(grids, 0.1) == (0, (0,))
    assert best_within(grids, 0.5) == (1, (0, 1))  # as good as the pair's 0.7, and cheaper
    assert best_within(grids, 0.95) == (1, (1, 1))
    assert best_within(grids, 1.0) == (0, (2,))


def test_the_oracle_by_hand():
    correct = np.array([[True, False, False, False], [True, True, False, False], [True, True, True, False]])
    assert cheapest_correct(correct, [0.1, 0.5, 1.0]) == pytest.approx((0.75, (0.1 + 0.5 + 1.0 + 0.1) / 4))
    assert cheapest_correct(correct[::-1], [1.0, 0.5, 0.1]) == pytest.approx((0.75, (0.1 + 0.5 + 1.0 + 0.1) / 4))


def test_a_route_is_chosen_on_one_half_and_taken_on_the_other():
    """A score that says who is right on one half, and the opposite on the other, is of little use to either."""
    rng = np.random.default_rng(2)
    m = 2000
    half = np.arange(m) < m // 2
    correct = np.stack([rng.random(m) < 0.5, np.ones(m, dtype=bool)])[None]
    honest = np.where(correct[0, 0], -1.0, 1.0) + 0.1 * rng.random(m)
    margins = np.stack([honest, np.zeros(m)])[None]
    found = route(margins, correct, [0.1, 1.0], half, [(0,), (0, 1)], ["s", "l"])[BUDGETS.index(0.75)]
    assert found.quality > 0.98 and found.names == "s → l" and found.cost == pytest.approx(0.6, abs=0.03)
    misleading = np.where(half, honest, -honest)
    found = route(np.stack([misleading, np.zeros(m)])[None], correct, [0.1, 1.0], half, [(0, 1)], ["s", "l"])[2]
    assert found.quality < 0.8
    nothing = route(margins, correct, [0.5, 1.0], half, [(0, 1)], ["s", "l"])[0]
    assert nothing is None


def test_the_paired_difference_is_that_of_single_runs_and_examples():
    rng = np.random.default_rng(3)
    ours, theirs = rng.random((4, 300)) < 0.7, rng.random((4, 300)) < 0.6
    found = paired_difference(ours, theirs, 300, 0.95)
    assert found.value == pytest.approx(ours.mean() - theirs.mean()) and found.low < found.value < found.high
    same = paired_difference(ours, ours, 300, 0.95)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_rows():
    analysis, tables = tables_of(synthetic_grid(SIZES, seeds=2, examples=400), Metrics(resamples=0))
    rows = tables["chains"].rows
    assert [row["budget"] for row in rows] == [100 * budget for budget in BUDGETS]
    oracle = np.mean([np.any([size.correct[r] for size in analysis.grid.sizes], axis=0).mean() for r in range(2)])
    for row in rows:
        assert row["oracle_quality"] == pytest.approx(100 * oracle)
        assert row["difference"] == pytest.approx(row["chain_quality"] - row["pair_quality"], nan_ok=True)
        assert row["chain"] in ("", "small → base → large")
        assert row["pair"].split(" → ")[0] in SIZES
        assert not row["pair_cost"] > row["budget"] + 6  # on the other half about as many go on
    assert costs_of(analysis.grid) == pytest.approx([0.1, 0.3, 1.0])
    assert len(tables["aiq"].rows) == 3 * 6
    for row in tables["aiq"].rows:
        assert row["aiq_gain"] >= 0 and row["table3"] == pytest.approx(
            100
            * next(p for p in analysis.pairs if (p.small, p.large) == (row["small"], row["large"]))
            .area[row["score"]]
            .value
        )


def test_two_sizes_make_no_chain():
    _, tables = tables_of(synthetic_grid(seeds=2, examples=60), Metrics(resamples=0))
    assert tables["chains"].rows == [] and "a chain takes three" in tables["chains"].notes[0]


def test_costs_are_parameters_where_flops_are_not_known():
    (grid,) = collect_grids(synthetic_grid(SIZES, seeds=1, examples=40))
    grid.sizes[1].flops_per_example = 0.0
    assert costs_of(grid) == pytest.approx([0.1, 0.3, 1.0])
