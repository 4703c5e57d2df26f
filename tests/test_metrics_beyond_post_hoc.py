"""Post-hoc deferral: it finds what confidence can't see, finds nothing where nothing is, and sees no held-out label."""

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.beyond.post_hoc import COMMITTEE, cross_fitted, features, rank_powers
from metrics.grid.collect import collect_grids
from metrics.statistics.switcher import deferral_order, switcher_statistics
from metrics.statistics.uncertainty import uncertainties
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


def area(score, small, large):
    return switcher_statistics(deferral_order(score), small, large[None]).area[0]


def test_a_specialist_is_found():
    """The larger model is better where a feature says so, and no better elsewhere; the margin is the same in both."""
    rng = np.random.default_rng(0)
    n = 1500
    margin, kind = rng.random(n), rng.random(n) < 0.3
    small = rng.random((1, n)) < 0.7
    large = np.where(kind, rng.random((1, n)) < 0.95, small)
    given = np.stack([margin, kind], axis=1)[None].astype(np.float32)
    learned = cross_fitted(given, small, large, np.random.default_rng(1))[0]
    found, confidence = area(learned, small[0], large[0]), area(margin, small[0], large[0])
    best = area(kind, small[0], large[0])  # of what the features can tell
    assert found > 0.9 * best and confidence < 0.2 * best


def test_where_nothing_is_to_be_learned_nothing_is_found():
    """A fit that saw the examples it scores would find a lot in noise."""
    rng = np.random.default_rng(2)
    areas, n = [], 400
    for _ in range(12):
        given = rng.random((2, n, 5)).astype(np.float32)
        small, large = rng.random((2, n)) < 0.6, rng.random((3, n)) < 0.7
        learned = cross_fitted(given, small, large, rng)
        areas.append(np.mean([area(learned[i], small[i], large[j]) for i in range(2) for j in range(3)]))
    # a single random score's area has sd √(Var d / 12n) = 0.0094
    assert abs(np.mean(areas)) < 3 * 0.0094 / 12**0.5


def test_no_example_is_scored_by_a_model_that_saw_it():
    """Changing the labels of one example changes no score of its own fold."""
    rng = np.random.default_rng(3)
    given = rng.random((2, 200, 3)).astype(np.float32)
    small, large = rng.random((2, 200)) < 0.6, rng.random((2, 200)) < 0.8
    before = cross_fitted(given, small, large, np.random.default_rng(4))
    fold = np.random.default_rng(4).permutation(200) % 5
    changed = small.copy()
    changed[:, 17] ^= True
    after = cross_fitted(given, changed, large, np.random.default_rng(4))
    same = fold == fold[17]
    np.testing.assert_array_equal(before[:, same], after[:, same])
    assert (before[:, ~same] != after[:, ~same]).any()


def test_no_cluster_is_scored_by_a_model_that_saw_a_part_of_it():
    rng = np.random.default_rng(3)
    inputs = rng.random((2, 200, 3)).astype(np.float32)
    small, large = rng.random((2, 200)) < 0.6, rng.random((2, 200)) < 0.8
    clusters = rng.permutation(200) // 8
    before = cross_fitted(inputs, small, large, np.random.default_rng(4), clusters=clusters)
    fold = (np.random.default_rng(4).permutation(25) % 5)[clusters]
    changed = small.copy()
    changed[:, clusters == 3] ^= True
    after = cross_fitted(inputs, changed, large, np.random.default_rng(4), clusters=clusters)
    same = fold == fold[clusters == 3][0]
    np.testing.assert_array_equal(before[:, same], after[:, same])
    assert (before[:, ~same] != after[:, ~same]).any()


def test_each_fold_defers_the_same_share():
    """Ranks are within a fold: one whose model predicts more is not deferred first as a whole."""
    rng = np.random.default_rng(6)
    inputs = rng.random((1, 400, 3)).astype(np.float32)
    small, large = rng.random((1, 400)) < 0.6, rng.random((2, 400)) < 0.8
    learned = cross_fitted(inputs, small, large, np.random.default_rng(7))[0]
    fold = np.random.default_rng(7).permutation(400) % 5
    for k in range(5):
        own = learned[fold == k]
        assert own.mean() == pytest.approx(0.5) and 0 < own.min() < own.max() < 1


def test_features_have_no_label():
    small = collect_grids(synthetic_grid(seeds=2, examples=50, classes=4))[0].sizes[0]
    scores = uncertainties(small, Metrics())
    found = features(small, scores, False)
    assert found.shape == (2, 50, 2 + 4) and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found[:, :, 2:]).sum(axis=2), 1, rtol=1e-4)
    small.correct = ~small.correct
    np.testing.assert_array_equal(found, features(small, scores, False))
    many = collect_grids(synthetic_grid(seeds=2, examples=30, classes=25))[0].sizes[0]
    found = features(many, uncertainties(many, Metrics()), False)
    assert found.shape == (2, 30, 2 + 1 + 10) and (np.diff(found[:, :, 3:], axis=2) <= 0).all()


def test_powers_share_ties():
    rank = rank_powers(deferral_order(np.array([3, 1, 1, 0])))[:, 1]
    np.testing.assert_allclose(rank, [1 / 8, 1 / 2, 1 / 2, 7 / 8])


def test_features_of_sequences_are_of_their_own_output():
    small = collect_grids(synthetic_grid(seeds=2, examples=40, task="span_qa"))[0].sizes[0]
    scores = uncertainties(small, Metrics(context="self"))
    found = features(small, scores, False)
    for run in range(2):
        tokens = small.tokens("self", run)
        for x in range(40):
            own = tokens.log_probs[tokens.offsets[x] : tokens.offsets[x + 1]]
            np.testing.assert_allclose(found[run, x, 2:], [len(own), own.min(), own.mean()], rtol=1e-5)


def rows_of(scores):
    analysis, tables = tables_of(scores, Metrics(resamples=30))
    return analysis, tables["post_hoc"].rows, tables["post_hoc"].notes


def test_rows():
    sizes = {"small": (10, 1.4), "base": (20, 1.9), "large": (30, 2.3)}
    scores = synthetic_grid(sizes, seeds=2, examples=150, classes=3)
    analysis, rows, notes = rows_of(scores)
    assert notes == [] and len(rows) == 3 * 4
    for k, pair in enumerate(analysis.pairs):
        margin, alone, committee, perfect = rows[4 * k : 4 * k + 4]
        assert margin["table3"] == 100 * pair.area["margin"].value and margin["over_margin"] == 0
        assert perfect["table3"] == pytest.approx(100 * pair.bounds.perfect_area.mean())
        assert (alone["passes"], committee["passes"], committee["score"]) == (1, 2, COMMITTEE)
        for row in (alone, committee):
            assert row["table3"] <= perfect["table3"]
            assert row["over_margin"] == pytest.approx(row["table3"] - margin["table3"])
            assert row["share_of_perfect"] == pytest.approx(100 * row["table3"] / perfect["table3"])
            assert row["table3_ci_low"] <= row["table3"] <= row["table3_ci_high"]
            assert row["over_margin_ci_low"] <= row["over_margin"] <= row["over_margin_ci_high"]
    again = rows_of(scores)[1]
    assert [row["table3"] for row in again] == [row["table3"] for row in rows]


def test_one_seed_has_no_committee_and_few_examples_no_fit():
    _, rows, _ = rows_of(synthetic_grid(seeds=1, examples=120))
    assert [row["score"] for row in rows] == ["margin", "post_hoc", "perfect"]
    _, rows, notes = rows_of(synthetic_grid(seeds=2, examples=99))
    assert rows == [] and "99 examples are too few" in notes[0]
