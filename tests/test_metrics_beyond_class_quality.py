"""Balanced accuracy, macro-F1 and costs of errors against sums class by class, and what they vary by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import EdgewiseError
from conf.schema import Metrics
from metrics.beyond.class_quality import costs_of, largest_share
from metrics.grid.collect import collect_grids
from metrics.statistics.class_quality import (
    balanced_accuracy,
    macro_f1,
    mean_cost,
    variance_of_difference,
)
from metrics.statistics.components import variance_of_gap, variance_of_quality, variance_of_runs
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid

COSTS = np.array([[0.0, 1.0, 5.0], [2.0, 0.0, 1.0], [9.0, 0.5, -0.5]])


def brute_balanced_accuracy(prediction, target):
    recalls = []
    for k in set(target):
        own = [p == t for p, t in zip(prediction, target) if t == k]
        recalls.append(sum(own) / len(own))
    return sum(recalls) / len(recalls)


def brute_macro_f1(prediction, target):
    scores = []
    for k in set(target):
        both = sum(p == t == k for p, t in zip(prediction, target))
        precision = both / max(1, sum(p == k for p in prediction))
        recall = both / sum(t == k for t in target)
        scores.append(2 * precision * recall / (precision + recall) if both else 0.0)
    return sum(scores) / len(scores)


def brute_cost(prediction, target):
    return sum(COSTS[t][p] for p, t in zip(prediction, target)) / len(target)


MEASURES = [
    (lambda p, t: balanced_accuracy(p, t, 3), brute_balanced_accuracy),
    (lambda p, t: macro_f1(p, t, 3), brute_macro_f1),
    (lambda p, t: mean_cost(p, t, COSTS), brute_cost),
]


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30))
def test_values_are_those_of_sums_class_by_class(rows):
    *runs, target = np.array(rows).T
    for measure, brute in MEASURES:
        values, influence = measure(np.array(runs), target)
        assert values == pytest.approx([brute(run.tolist(), target.tolist()) for run in runs])
        assert influence.shape == (2, len(rows)) and influence.mean(axis=1) == pytest.approx([0, 0], abs=1e-9)


def test_influences_are_what_leaving_an_example_out_changes():
    rng = np.random.default_rng(0)
    target = rng.choice(3, 600, p=[0.7, 0.2, 0.1])
    prediction = np.where(rng.random((1, 600)) < 0.7, target, rng.integers(0, 3, (1, 600)))
    for measure, brute in MEASURES:
        values, [influence] = measure(prediction, target)
        for i in range(0, 600, 37):
            kept = np.arange(600) != i
            jackknife = 599 * (values[0] - brute(prediction[0][kept].tolist(), target[kept].tolist()))
            assert influence[i] == pytest.approx(jackknife, abs=0.02 * np.abs(influence).max())  # of order 1/n


def test_variances_of_accuracy_are_those_that_accuracy_has():
    rng = np.random.default_rng(1)
    small, large = rng.random((3, 200)) < 0.7, rng.random((4, 200)) < 0.8
    every = np.arange(200)
    one, other = (mean_cost(runs.astype(int), np.ones(200, int), np.eye(2)) for runs in (small, large))
    assert variance_of_runs(*one, 200) == variance_of_quality(small, every)
    assert variance_of_difference(one, other, 200) == variance_of_gap(small, large, every)


def unbalanced(**options):
    """Runs of three classes of which the first has most examples."""
    scores = synthetic_grid(**{"seeds": 3, "examples": 400, "classes": 3, **options})
    first = scores[0].target == "class 0"
    kept = np.flatnonzero(first | (np.arange(400) % 5 == 0))
    return [one.take(kept) for one in scores]


def test_the_table_is_of_sizes_and_their_differences():
    scores = unbalanced()
    grid = collect_grids(scores)[0]
    assert largest_share(grid) * 3 >= 1.5
    _, tables = tables_of(scores, Metrics(resamples=10))
    rows = {row["model"]: row for row in tables["class_quality"].rows}
    assert list(rows) == ["small", "base", "base − small"]
    target = grid.target.recoded(grid.classes).tolist()
    for size in grid.sizes:
        runs = size.prediction.tolist()
        row = rows[size.name]
        assert row["accuracy"] == pytest.approx(100 * size.quality.mean())
        expected = 100 * np.mean([brute_balanced_accuracy(run, target) for run in runs])
        assert row["balanced_accuracy"] == pytest.approx(expected)
        assert row["macro_f1"] == pytest.approx(100 * np.mean([brute_macro_f1(run, target) for run in runs]))
        assert row["macro_f1_ci_low"] < row["macro_f1"] < row["macro_f1_ci_high"] and np.isnan(row["cost"])
    difference = rows["base"]["macro_f1"] - rows["small"]["macro_f1"]
    assert rows["base − small"]["macro_f1"] == pytest.approx(difference)
    assert "cost" not in {column.key for column in tables["class_quality"].shown}


def test_balanced_classes_have_no_such_table_unless_errors_have_costs():
    scores = synthetic_grid(seeds=2, examples=200, slices=False)
    _, tables = tables_of(scores, Metrics(resamples=10))
    [note] = tables["class_quality"].notes
    assert not tables["class_quality"].rows and "less than 1.5 times the 50.0 %" in note and "no metrics.costs" in note
    config = Metrics(resamples=10, costs={"class 0": {"class 1": 1}, "class 1": {"class 0": 10}})
    config.check()
    _, tables = tables_of(scores, config)
    rows = {row["model"]: row for row in tables["class_quality"].rows}
    wrong = [(one.prediction != one.target) * np.where(one.target == "class 1", 10, 1) for one in scores[:2]]
    assert rows["small"]["cost"] == pytest.approx(np.mean(wrong))
    assert rows["small"]["cost_ci_low"] < rows["small"]["cost"] < rows["small"]["cost_ci_high"]


def test_tasks_without_classes_say_so():
    _, tables = tables_of(synthetic_grid(seeds=2, examples=60, task="span_qa"), Metrics(resamples=0))
    assert tables["class_quality"].notes == ["There are no classes."] and not tables["class_quality"].rows


def test_costs_that_can_t_be_used_are_refused():
    for costs in ({}, [1], {"a": 1}, {"a": {"b": "dear"}}, {"a": {"b": True}}, {"a": {"b": float("nan")}}):
        with pytest.raises(EdgewiseError, match=r"metrics\.costs=.*expected a mapping of each class"):
            Metrics(costs=costs).check()
    grid = collect_grids(synthetic_grid(seeds=1, examples=20))[0]
    with pytest.raises(EdgewiseError, match="synthetic has no class 'spam'; it has 'class 0', 'class 1'"):
        costs_of(Metrics(costs={"class 0": {"spam": 1.0}}), grid)
    with pytest.raises(EdgewiseError, match="no cost of predicting 'class 0' where 'class 1' is right"):
        costs_of(Metrics(costs={"class 0": {"class 1": 1.0}}), grid)
    given = {"class 0": {"class 1": 1.0, "class 0": -2.0}, "class 1": {"class 0": 3.0}}
    assert costs_of(Metrics(costs=given), replace(grid)).tolist() == [[-2.0, 1.0], [3.0, 0.0]]
