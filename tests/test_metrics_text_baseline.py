"""Sizes beside TF-IDF with logistic regression: the difference, its interval, the note and the table."""

import json
import math
from types import SimpleNamespace

import pytest

from metrics.bootstrap.resampling import Estimate
from metrics.tables.baseline import baseline_note, baseline_table, over_baseline
from metrics.text_baseline import TextBaseline, common_baseline

BASELINE = TextBaseline(0.8, 400, 1000, 5000, "tfidf")


def analysis(**quality):
    return SimpleNamespace(grid=SimpleNamespace(dataset="mine", split="test"), quality=quality)


def test_the_interval_joins_both_accuracies():
    over = over_baseline(Estimate(0.9, 0.87, 0.94), BASELINE, 0.95)
    half = 1.959964 * (0.8 * 0.2 / 400) ** 0.5
    assert over.value == pytest.approx(0.1)
    assert over.low == pytest.approx(0.1 - (0.03**2 + half**2) ** 0.5)
    assert over.high == pytest.approx(0.1 + (0.04**2 + half**2) ** 0.5)
    without = over_baseline(Estimate(0.9), BASELINE, 0.95)
    assert without.value == pytest.approx(0.1) and math.isnan(without.low) and math.isnan(without.high)


def test_the_note_says_where_each_size_is():
    found = analysis(nano=Estimate(0.7, 0.69, 0.71), micro=Estimate(0.81, 0.80, 0.82), tiny=Estimate(0.95))
    assert baseline_note(found, BASELINE, 0.95) == (
        "TF-IDF with logistic regression, learned from 1,000 of the 5,000 training rows, is right in 80.00 % of test: "
        "nano is 10.00 points below it [5.95, 14.05], micro is 1.00 points above it [-3.05, 5.05], within noise, "
        "tiny is 15.00 points above it."
    )


def test_the_table_has_a_row_for_each_size():
    found = analysis(nano=Estimate(0.7, 0.69, 0.71), micro=Estimate(0.81, 0.80, 0.82))
    table = baseline_table([found, analysis(nano=Estimate(0.5))], {"mine": BASELINE}, 0.95)
    assert [row["size"] for row in table.rows] == ["nano", "micro", "nano"]
    assert table.rows[1]["over_baseline"] == pytest.approx(1.0) and table.rows[0]["baseline"] == 80
    assert set(table.keys) == set(table.rows[0]) and json.loads(json.dumps(table.as_json()["rows"][:2]))
    assert "80.00" in table.sheet_for_files(0.95).lines[0][3].line
    assert baseline_table([found], {}, 0.95) is None


def test_the_last_scores_say_which_baseline_it_is():
    later = TextBaseline(0.9, 400, 1000, 5000, "tfidf")
    metadata = [{"baseline": BASELINE.as_metadata()}, {"baseline": later.as_metadata()}, {"dataset": "mine"}]
    assert common_baseline(metadata) == later and common_baseline([{}]) is None
