"""One size's analysis: each score is sorted once, and what no context changes is computed once."""

from collections import Counter

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.analysis import size as analysis_of_size
from metrics.analysis.dataset import analyse
from metrics.analysis.size import Execution, SizeScores, analyse_size, distinct_scores
from metrics.bootstrap.resampling import Resampling
from metrics.grid.collect import collect_grids
from metrics.statistics.switcher import deferral_order
from metrics.statistics.uncertainty import uncertainties
from tests.synthetic_scores import synthetic_grid

SIZES = {"small": (10, 1.4), "base": (20, 1.9), "large": (30, 2.3)}


def the_grid(task, classes=3):
    return collect_grids(synthetic_grid(SIZES, seeds=3, examples=60, classes=classes, task=task))[0]


@pytest.fixture
def sorted_arrays(monkeypatch):
    """Counts how often each array of scores is sorted, by its bytes."""
    counts = Counter()

    def counted(uncertainty):
        counts[uncertainty.tobytes()] += 1
        return deferral_order(uncertainty)

    monkeypatch.setattr(analysis_of_size, "deferral_order", counted)
    return counts


@pytest.mark.parametrize(("task", "classes"), [("classification", 2), ("classification", 3), ("span_qa", 0)])
def test_each_score_is_sorted_once_and_its_orders_are_handed_on(task, classes, sorted_arrays):
    grid, views = the_grid(task, classes), []
    analyse(grid, Metrics(resamples=5), watch=views.append)
    assert [view.size.name for view in views] == [name for name in SIZES for _ in range(len(views) // 3)]
    # churn is the same in both contexts, but for that each context has its own scores
    arrays = {values[run].tobytes() for view in views for values in view.scores.values() for run in range(3)}
    assert set(sorted_arrays) == arrays and sum(sorted_arrays.values()) == len(arrays)
    for view in views:
        assert list(view.orders) == list(view.distinct)
        for score, orders in view.orders.items():
            for run, order in enumerate(orders):
                expected = deferral_order(view.scores[score][run])
                np.testing.assert_array_equal(order.knots, expected.knots)
                np.testing.assert_array_equal(
                    view.scores[score][run][order.order], view.scores[score][run][expected.order]
                )


def test_results_that_no_context_changes_are_passed_on():
    grid, views = the_grid("span_qa"), []
    analyse(grid, Metrics(resamples=5), watch=views.append)
    for gold, own in zip(views[::2], views[1::2]):
        assert (gold.context, own.context, gold.size) == ("gold", "self", own.size)
        for score in ("churn", "committee_churn"):
            assert own.orders[score] is gold.orders[score]
            for large in own.larger:
                assert own.samples.area[large.name, score] is gold.samples.area[large.name, score]
        assert own.orders["margin"] is not gold.orders["margin"]


def test_orders_are_kept_of_the_margin_alone_unless_all_are_asked_for(sorted_arrays):
    grid = the_grid("classification")
    resampling = Resampling(dict.fromkeys(SIZES, 3), grid.examples, 5, seed=0)
    execution = Execution(map, lambda text: None, keep_orders=False)
    for place, size in enumerate(grid.sizes):
        scored = SizeScores(size, grid.sizes[place + 1 :], uncertainties(size, Metrics()))
        rows = np.arange(10) if scored.larger else None
        sorted_arrays.clear()
        result = analyse_size(scored, rows, resampling, execution, {})
        assert len(result.margin_orders) == 3
        if scored.larger:
            assert set(result.scores) == set(scored.scores)
            assert not any(one.orders for score, one in result.scores.items() if score != "margin")
        else:  # Table 2 takes the margins of the largest size, and nothing takes its other scores
            assert set(result.scores) == {"margin"} and sum(sorted_arrays.values()) == 3
            assert result.samples is None and result.scores["margin"].percentiles is None


def test_scores_that_order_alike_have_one_result():
    grid = the_grid("classification", classes=2)
    scored = SizeScores(grid.sizes[0], grid.sizes[1:], uncertainties(grid.sizes[0], Metrics()))
    assert distinct_scores(scored.scores)["margin"] == ["margin", "entropy"]
    resampling = Resampling(dict.fromkeys(SIZES, 3), grid.examples, 5, seed=0)
    result = analyse_size(scored, np.arange(60), resampling, Execution(map, lambda text: None, True), {})
    margin, entropy = result.scores["margin"], result.scores["entropy"]
    assert entropy.orders is margin.orders and entropy.percentiles is margin.percentiles
    assert (margin.switchers["base"].score, entropy.switchers["base"].score) == ("margin", "entropy")
    assert result.samples.curve["base", "entropy"] is result.samples.curve["base", "margin"]
