"""Token quantiles against numpy's, sequence by sequence, and their cells against switchers made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.schema import Metrics
from metrics.beyond.tokens import QUANTILES, sequence_quantiles, token_values
from metrics.statistics.switcher import deferral_order, switcher_statistics
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=7), min_size=1, max_size=8))
def test_quantiles_are_numpys(sequences):
    offsets = np.cumsum([0, *map(len, sequences)])
    found = sequence_quantiles(np.concatenate(sequences), offsets, QUANTILES)
    expected = np.array([np.quantile(sequence, QUANTILES) for sequence in sequences]).T
    np.testing.assert_allclose(found, expected, atol=1e-12)


def rows_of(task, resamples=30):
    scores = synthetic_grid(seeds=2, examples=60, task=task)
    analysis, tables = tables_of(scores, Metrics(resamples=resamples))
    return analysis, tables["token_quantiles"].rows, tables["token_quantiles"].notes


def test_answers():
    analysis, rows, notes = rows_of("span_qa")
    assert len(rows) == 2 * 3 * 8 and notes == []
    small, large = analysis.grid.sizes
    for row in rows:
        areas, peaks = [], []
        for run in range(2):
            tokens = small.tokens(row["context"], run)
            values = token_values(tokens, row["measure"])
            own = [values[a:b] for a, b in zip(tokens.offsets, tokens.offsets[1:])]
            mean = row["quantile"] == "mean"
            score = np.array([v.mean() if mean else np.quantile(v, float(row["quantile"])) for v in own])
            statistics = switcher_statistics(deferral_order(np.round(score, 9)), small.correct[run], large.correct)
            areas.append(statistics.area)
            peaks.append(statistics.peak_gain)
        assert row["table3"] == pytest.approx(100 * np.mean(areas))
        assert row["table1"] == pytest.approx(100 * np.mean(peaks))
        assert row["table3_ci_low"] <= row["table3_ci_high"]
    of = {(row["context"], row["measure"], row["quantile"]): row for row in rows}
    for (context, measure, _), row in of.items():
        assert row["over_mean"] == pytest.approx(row["table3"] - of[context, measure, "mean"]["table3"], abs=1e-9)
    # the mean of the margins is the score of Table 3
    for one in (analysis, analysis.other_context):
        pair = one.pairs[0]
        assert of[one.context, "margin", "mean"]["table3"] == pytest.approx(100 * pair.area["margin"].value, abs=1e-9)
        assert of[one.context, "entropy", "mean"]["table3"] == pytest.approx(100 * pair.area["entropy"].value, abs=1e-9)


def test_translations():
    analysis, rows, notes = rows_of("translation", resamples=5)
    assert len(rows) == 2 * 3 * 8 and notes == []
    of = {(row["context"], row["measure"], row["quantile"]): row for row in rows}
    for one in (analysis, analysis.other_context):
        for measure in ("margin", "entropy"):
            area = 100 * one.pairs[0].area[measure].value
            assert of[one.context, measure, "mean"]["table3"] == pytest.approx(area, abs=1e-9)


def test_classes_have_no_tokens():
    _, rows, notes = rows_of("classification", resamples=0)
    assert rows == [] and "Classes have no tokens" in notes[0]
