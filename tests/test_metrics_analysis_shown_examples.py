"""Which examples the report may show: all, or the most telling; and no more memory however many there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.schema import SCORES, Metrics
from metrics.analysis import shown_examples as shown
from metrics.analysis.dataset import analyse
from metrics.analysis.shown_examples import chosen, dispute, example_quality
from metrics.grid.collect import collect_grids
from metrics.statistics.switcher import deferral_order, percentiles
from metrics.statistics.text import sentence_bleu
from metrics.statistics.uncertainty import uncertainties
from tests.synthetic_scores import synthetic_grid

CONFIG = Metrics(resamples=0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20), st.data())
def test_fewer_are_part_of_more(examples, data):
    disputes, uncertainty = np.array(examples, dtype=float).T
    more = data.draw(st.integers(1, len(examples) + 1))
    fewer = data.draw(st.integers(1, more))
    kept, of_these = chosen(disputes, uncertainty, more), chosen(disputes, uncertainty, fewer)
    assert len(kept) == min(more, len(examples)) and len(of_these) == min(fewer, len(examples))
    assert (np.diff(kept) > 0).all() and set(of_these) <= set(kept)
    # the same choice, made among those that are kept
    np.testing.assert_array_equal(kept[chosen(disputes[kept], uncertainty[kept], fewer)], of_these)


def test_dispute_of_right_and_wrong_and_of_bleu():
    (grid,) = collect_grids(synthetic_grid(seeds=2, examples=40))
    share = (grid.sizes[0].correct.mean(axis=0) + grid.sizes[1].correct.mean(axis=0)) / 2
    np.testing.assert_allclose(dispute(grid), share * (1 - share))
    rows = np.array([3, 5])
    np.testing.assert_array_equal(example_quality(grid.sizes[1], 1, rows), grid.sizes[1].correct[1, rows])
    (grid,) = collect_grids(synthetic_grid(seeds=2, examples=20, task="translation"))
    small, large = (sentence_bleu(size.bleu_stats).mean(axis=0) / 100 for size in grid.sizes)
    np.testing.assert_allclose(dispute(grid), abs(large - small))
    np.testing.assert_allclose(dispute(grid, rows), abs(large - small)[rows])


@pytest.mark.parametrize("task", ["classification", "span_qa"])
def test_beyond_the_most_that_are_shown_only_those_are_kept(task, monkeypatch):
    (grid,) = collect_grids(synthetic_grid(seeds=2, examples=90, task=task))
    whole = analyse(grid, CONFIG)
    monkeypatch.setattr(shown, "MOST_SHOWN", 30)
    part = analyse(grid, CONFIG)
    assert whole.rows.tolist() == list(range(90)) and len(part.rows) == 30
    margins = uncertainties(grid.sizes[0], CONFIG)["margin"]
    mean = np.mean([percentiles(deferral_order(run)) for run in margins], axis=0)
    np.testing.assert_array_equal(part.rows, chosen(dispute(grid), mean.astype(np.float32), 30))
    for reading, of_all in zip(part.contexts, whole.contexts, strict=True):
        assert set(reading.percentiles) == {"small"} and set(reading.percentiles["small"]) <= set(SCORES)
        np.testing.assert_array_equal(reading.rows, part.rows)  # one choice for both contexts
        for score, values in reading.percentiles["small"].items():
            # ranks among all examples, not among those that are shown
            np.testing.assert_array_equal(values, of_all.percentiles["small"][score][part.rows])
    # nothing else depends on how many are shown
    for score, statistics in whole.widest.scores.items():
        np.testing.assert_array_equal(part.widest.scores[score].curve, statistics.curve)
    np.testing.assert_array_equal(part.churn[0][2].churn, whole.churn[0][2].churn)
