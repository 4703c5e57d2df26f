"""Subgroups: which there are, their rows against means by hand, and that the correction holds for all at once."""

import re

import numpy as np
import pytest
from scipy.stats import norm, t

from conf.schema import Metrics
from metrics.analysis.slices import quartiles, slice_groups
from metrics.analysis.subgroups import partitions_of, simultaneous, uncertainty_buckets
from metrics.scores import Strings
from metrics.statistics.components import Variance
from metrics.statistics.switcher import deferral_order
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


def rows_of(scores, resamples):
    analysis, tables = tables_of(scores, Metrics(resamples=resamples))
    return analysis, tables["subgroups"].rows, tables["subgroups"].notes


def test_rows():
    grid = synthetic_grid(seeds=3, examples=400, classes=3)
    words = np.random.default_rng(0).integers(5, 200, 400)
    for one in grid:
        one.slices["slice_words"] = np.array([str(count) for count in words], dtype=object)
    analysis, rows, notes = rows_of(grid, 80)
    assert notes == ["1 subgroups have fewer than 10 examples and are left out."]  # 1 % of 400 are 4
    assert [row["column"] for row in rows] == ["kind"] * 3 + ["words"] * 4 + ["target"] * 3 + [
        "uncertainty of the smallest"
    ] * 4
    small, large = analysis.grid.sizes
    for row in rows:
        if row["column"] == "kind":
            inside = analysis.grid.slices["slice_kind"].decoded() == row["value"]
        elif row["column"] == "target":
            inside = analysis.grid.target.decoded() == row["value"]
        elif row["column"] == "words":
            low, high = (int(text) for text in row["value"][3:-1].split(" to "))
            inside = (words >= low) & (words <= high)
        else:
            continue
        assert row["examples"] == inside.sum()
        gain = large.correct[:, inside].mean() - small.correct[:, inside].mean()
        assert row["gain"] == pytest.approx(100 * gain)
        assert row["gain"] == pytest.approx(row["large_quality"] - row["small_quality"])
        # no subgroup's own interval is wider than the one that holds for all, but for percentiles' and sd's differences
        assert row["simultaneous_high"] - row["simultaneous_low"] > 0.9 * (row["gain_ci_high"] - row["gain_ci_low"])
        if row["verdict"] == "helps":
            assert row["simultaneous_low"] > 0
    assert {row["verdict"] for row in rows} == {"helps", "-"}


def test_without_resamples_there_is_no_verdict():
    _, rows, _ = rows_of(synthetic_grid(seeds=2, examples=90), 0)
    assert {row["verdict"] for row in rows} == {"no interval"} and all(np.isnan(row["p"]) for row in rows)


def test_of_one_run_nothing_is_said_of_others():
    _, rows, _ = rows_of(synthetic_grid(seeds={"small": [0, 1], "base": [0]}, examples=400), 60)
    assert all(np.isnan(row["p"]) and not np.isnan(row["simultaneous_low"]) for row in rows)
    assert {row["verdict"] for row in rows} == {"helps, of these runs", "-"}


def test_with_variances_the_resamples_give_the_dependence_alone():
    """Known variances give the max-T of the samples' own; t with few degrees of freedom reaches further."""
    rng = np.random.default_rng(3)
    values = np.array([0.1, 0.5, 1.0])
    samples = values[:, None] + rng.normal(0, [[0.2], [0.3], [0.4]], (3, 4000))
    sd = np.sqrt(np.square(samples - values[:, None]).sum(axis=1) / 3999)
    alone = simultaneous(values, samples, 0.9)
    known = simultaneous(values, samples, 0.9, [Variance(one**2, 1e9) for one in sd])
    np.testing.assert_allclose(known, alone, rtol=1e-6)
    few = simultaneous(values, samples, 0.9, [Variance(one**2, 4.0) for one in sd])
    assert (few[0] < alone[0]).all() and (few[1] > alone[1]).all() and (few[2] > alone[2]).all()
    level = 2 * norm.sf((alone[1] - values)[0] / sd[0])  # of one subgroup, so that all three hold together
    np.testing.assert_allclose(few[1], values + t.isf(level / 2, 4.0) * sd)
    of_these = simultaneous(values, samples, 0.9, [Variance(one**2, 4.0, runs=False) for one in sd])
    assert np.isnan(of_these[2]).all() and (of_these[1] == few[1]).all()


def test_buckets_of_uncertainty():
    rng = np.random.default_rng(0)
    margins = rng.random((2, 200))
    margins[1] = margins[0]
    found = uncertainty_buckets([deferral_order(run) for run in margins])
    order = np.argsort(margins[0])
    assert np.bincount(found).tolist() == [100, 50, 30, 18, 2]
    assert set(found[order[:100]]) == {0} and set(found[order[198:]]) == {4}
    opposite = uncertainty_buckets([deferral_order(margins[0]), deferral_order(-margins[0])])
    assert set(opposite[:100]) == {0}  # every mean rank ties: by place


def test_quartiles():
    column = Strings([str(k) for k in range(100)], np.array([*range(100), -1]))
    found = quartiles(column).decoded()
    assert found[0] == found[24] == "1 (0 to 24)" and found[25] == "2 (25 to 49)" and found[99] == "4 (75 to 99)"
    assert found[100] is None
    ties = quartiles(Strings(["1", "2.5"], np.repeat([0, 1], [60, 40]))).decoded()
    assert set(ties[:60]) == {"3 (1 to 1)"} and set(ties[60:]) == {"4 (2.5 to 2.5)"}
    for values in (["1", "two"], ["inf", "1"], ["nan", "1"]):
        other = Strings(values, np.array([0, 1]))
        assert quartiles(other) is other
    notes = []
    values, group = slice_groups(column, "slice_words", notes)
    assert values == ["1 (0 to 24)", "2 (25 to 49)", "3 (50 to 74)", "4 (75 to 99)"] and notes == []
    assert group.tolist() == [k // 25 for k in range(100)] + [-1]


def test_sequences_are_parted_by_the_length_of_their_target():
    for task in ("span_qa", "translation"):
        analysis, rows, _ = rows_of(synthetic_grid(seeds=2, examples=120, task=task), 20)
        words = np.array([len(text.split()) for text in analysis.grid.target.decoded()])
        lengths = [row for row in rows if row["column"] == "target length, words"]
        assert {row["context"] for row in rows} == {"gold"} and lengths
        assert len(lengths) == 4
        for row in lengths:
            ends = [int(number) for number in re.findall(r"\d+", row["value"].partition("(")[2] or row["value"])]
            low, high = ends[0], ends[-1]
            assert row["examples"] == ((words >= low) & (words <= high)).sum()
        assert not any(row["column"] == "target" for row in rows)
    uncertainty = uncertainty_buckets([deferral_order(np.arange(120.0))])
    assert [one.column for one in partitions_of(analysis.grid, uncertainty, [])] == [
        "kind",
        "target length, words",
        "uncertainty of the smallest",
    ]


def test_simultaneous_by_hand():
    samples = np.array([[0.9, 1.1, 1.0, 1.2, 0.8], [2.0, 2.0, 2.0, 2.0, 2.0], [0.1, np.nan, 0.2, -0.1, 0.0]])
    values = np.array([1.0, 2.0, 0.05])
    low, high, p = simultaneous(values, samples, 0.8)
    assert np.isnan([low[1], high[1], p[1]]).all()  # never varies
    sd = [np.sqrt(0.1 / 4), np.sqrt((0.05**2 * 2 + 0.15**2 * 2) / 3)]
    largest = np.sort(
        np.maximum(np.abs(samples[0] - 1) / sd[0], [0.05 / sd[1], 0, 0.15 / sd[1], 0.15 / sd[1], 0.05 / sd[1]])
    )
    reach = np.quantile(largest, 0.8)
    np.testing.assert_allclose([low[0], high[2]], [1 - reach * sd[0], 0.05 + reach * sd[1]])
    assert p[0] == pytest.approx(1 / 6) and p[2] == pytest.approx((1 + (largest >= 0.05 / sd[1]).sum()) / 6)
    assert np.isnan(simultaneous(values, np.zeros((3, 0)), 0.95)[2]).all()


def test_all_subgroups_at_once_are_covered():
    """Twenty gains of 0, half of them alike: in about 5 % of worlds is any of them said to be another, not in 64 %."""
    rng = np.random.default_rng(0)
    wrong, alone, worlds = 0, 0, 300
    for _ in range(worlds):
        shared = rng.normal(0, 1)
        values = np.concatenate([np.full(10, shared), rng.normal(0, 1, 10)])
        noise = rng.normal(0, 1, (11, 400))
        samples = values[:, None] + np.concatenate([np.repeat(noise[:1], 10, axis=0), noise[1:]])
        low, high, p = simultaneous(values, samples, 0.95)
        wrong += ((low > 0) | (high < 0)).any()
        assert ((p < 0.05) == ((low > 0) | (high < 0))).mean() >= 0.95
        alone += (np.abs(values) > 1.96).any()
    assert wrong / worlds < 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds) and alone / worlds > 0.25
