"""Subgroups: which there are, their rows against means by hand, and that the correction holds for all at once."""

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.analysis import analyse
from metrics.beyond.passes import fill
from metrics.beyond.subgroups import simultaneous, subgroup_columns, subgroups, uncertainty_buckets
from metrics.grid import collect_grids
from metrics.slices import quartiles
from metrics.switcher import deferral_order
from tests.synthetic_scores import synthetic_grid


def rows_of(analysis):
    resampled, notes = analysis.resampled, []
    margins = resampled.deferrals[analysis.grid.sizes[0].name]["margin"]
    columns = subgroup_columns(analysis.grid, margins, resampled.resampling.resamples, notes)
    fill(resampled.resampling, [column.samples for column in columns], [])
    rows, more = subgroups(analysis, columns, 0.95)
    return rows, notes + more


def test_rows():
    grid = synthetic_grid(seeds=3, examples=400, classes=3)
    words = np.random.default_rng(0).integers(5, 200, 400)
    for one in grid:
        one.slices["slice_words"] = np.array([str(count) for count in words], dtype=object)
    analysis = analyse(collect_grids(grid)[0], Metrics(resamples=80))
    rows, notes = rows_of(analysis)
    assert notes == ["1 subgroups have fewer than 10 examples and are left out."]  # 1 % of 400 are 4
    assert [row["column"] for row in rows] == ["kind"] * 3 + ["words"] * 4 + ["target"] * 3 + [
        "uncertainty of the smallest"
    ] * 4
    small, large = analysis.grid.sizes
    for row in rows:
        if row["column"] == "kind":
            inside = analysis.grid.slices["slice_kind"] == row["value"]
        elif row["column"] == "target":
            inside = analysis.grid.target == row["value"]
        elif row["column"] == "words":
            low, high = (int(text) for text in row["value"][3:-1].split(" to "))
            inside = (words >= low) & (words <= high)
        else:
            continue
        assert row["examples"] == inside.sum()
        gain = large.correct[:, inside].mean() - small.correct[:, inside].mean()
        assert row["gain"] == pytest.approx(100 * gain)
        assert row["gain"] == pytest.approx(row["large_accuracy"] - row["small_accuracy"])
        # no subgroup's own interval is wider than the one that holds for all, but for percentiles' and sd's differences
        assert row["simultaneous_high"] - row["simultaneous_low"] > 0.9 * (row["gain_ci_high"] - row["gain_ci_low"])
        if row["verdict"] == "helps":
            assert row["simultaneous_low"] > 0
    assert {row["verdict"] for row in rows} == {"helps", "-"}


def test_without_resamples_there_is_no_verdict():
    rows, _ = rows_of(analyse(collect_grids(synthetic_grid(seeds=2, examples=100))[0], Metrics(resamples=0)))
    assert {row["verdict"] for row in rows} == {"no interval"} and all(np.isnan(row["p"]) for row in rows)


def test_buckets_of_uncertainty():
    rng = np.random.default_rng(0)
    margins = rng.random((2, 200))
    margins[1] = margins[0]
    found = uncertainty_buckets([deferral_order(run) for run in margins])
    order = np.argsort(margins[0])
    names, counts = np.unique(found, return_counts=True)
    assert dict(zip([name[:2] for name in names], counts)) == {"Q1": 100, "Q2": 50, "Q3": 30, "Q4": 18, "Q5": 2}
    assert set(found[order[:100]]) == {"Q1 0-50 %"} and set(found[order[198:]]) == {"Q5 99-100 %"}
    opposite = uncertainty_buckets([deferral_order(margins[0]), deferral_order(-margins[0])])
    assert set(opposite[:100]) == {"Q1 0-50 %"}  # every mean rank ties: by place


def test_quartiles():
    column = np.array([str(k) for k in range(100)] + [None], dtype=object)
    found = quartiles(column)
    assert found[0] == found[24] == "1 (0 to 24)" and found[25] == "2 (25 to 49)" and found[99] == "4 (75 to 99)"
    assert found[100] is None
    ties = quartiles(np.array(["1"] * 60 + ["2.5"] * 40, dtype=object))
    assert set(ties[:60]) == {"3 (1 to 1)"} and set(ties[60:]) == {"4 (2.5 to 2.5)"}
    text = np.array(["1", "two"], dtype=object)
    assert quartiles(text) is text
    infinite = np.array(["inf", "1"], dtype=object)
    assert quartiles(infinite) is infinite


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
