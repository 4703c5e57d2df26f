"""Churn and ambiguity of mixtures: by enumeration, over random orders of ties, and with intervals that cover."""

from itertools import combinations

import numpy as np
import pytest

from bench.populations import REGIMES, draw
from conf.schema import Metrics
from metrics.beyond.multiplicity import SHARES, stability
from metrics.statistics.multiplicity import mixture_multiplicity
from metrics.statistics.switcher import deferral_order, parts_deferred
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


def test_churn_and_ambiguity_one_by_one():
    """Without ties: the answers of every mixture, and every pair of them."""
    rng = np.random.default_rng(0)
    n, runs, shares = 60, 4, np.array([0.0, 0.25, 0.5, 1.0])
    small, large = rng.integers(0, 3, (runs, n)), rng.integers(0, 3, (runs, n))
    uncertainty = rng.random((runs, n))
    orders = [deferral_order(one) for one in uncertainty]
    found = mixture_multiplicity(small, large, orders, shares, np.arange(n))
    for k, share in enumerate(shares):
        answers = np.array(
            [
                np.where(np.argsort(np.argsort(-one)) < share * n, theirs, own)
                for one, own, theirs in zip(uncertainty, small, large, strict=True)
            ]
        )
        differ = [np.mean(answers[i] != answers[j]) for i, j in combinations(range(runs), 2)]
        assert found.churn[k] == pytest.approx(np.mean(differ), abs=1e-6)
        assert found.ambiguity[k] == pytest.approx(np.mean((answers != answers[0]).any(axis=0)), abs=1e-6)
    assert found.change[0] == 0 and found.trainings == runs


def test_ties_are_in_random_order():
    rng = np.random.default_rng(1)
    n, runs, shares = 40, 3, np.array([0.3, 0.6])
    small, large = rng.integers(0, 2, (runs, n)), rng.integers(0, 2, (runs, n))
    uncertainty = rng.integers(0, 4, (runs, n)).astype(float)
    rows = np.arange(n)
    found = mixture_multiplicity(small, large, [deferral_order(one) for one in uncertainty], shares, rows)
    churn, ambiguity = np.zeros(2), np.zeros(2)
    for _ in range(3000):
        orders = [deferral_order(one + 0.5 * rng.random(n)) for one in uncertainty]
        parts = np.array([parts_deferred(order, rows, shares) for order in orders])  # all 0 or 1
        answers = np.where(parts > 0.5, large[:, None], small[:, None])
        churn += [
            np.mean([(a[i] != a[j]).mean() for i, j in combinations(range(runs), 2)])
            for a in answers.transpose(1, 0, 2)
        ]
        ambiguity += (answers != answers[:1]).any(axis=0).mean(axis=1)
    np.testing.assert_allclose(found.churn, churn / 3000, atol=0.004)  # 3,000 orders, sd about .05
    np.testing.assert_allclose(found.ambiguity, ambiguity / 3000, atol=0.004)


def test_parts_deferred_by_hand():
    order = deferral_order(np.array([3.0, 1.0, 2.0, 2.0]))
    found = parts_deferred(order, np.array([1, 2, 0]), np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(found, [[0, 0, 0], [0, 0, 1], [0, 0.5, 1], [0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize("regime", [REGIMES[0], REGIMES[2]])
def test_intervals_cover(regime):
    rng = np.random.default_rng(2)
    shares = np.array([0.0, 0.3])

    def measured(runs, n):
        one = draw(regime, runs, n, rng)
        orders = [deferral_order(scores) for scores in one.uncertainty["small"]]
        return mixture_multiplicity(one.answer["small"], one.answer["large"], orders, shares, np.arange(n))

    truth = [measured(2, 10_000) for _ in range(40)]
    churn, change = (np.mean([getattr(one, name)[1] for one in truth]) for name in ("churn", "change"))
    held = np.zeros(2)
    for _ in range(80):
        found = measured(4, 600)
        held += [
            abs(found.churn[1] - churn) <= found.churn_variance[1].half_width(0.95),
            abs(found.change[1] - change) <= found.change_variance[1].half_width(0.95),
        ]
    # at 95 % fewer than 69 of 80 hold in 1 of 500 studies
    assert held.min() >= 69


def test_clusters_are_drawn_together():
    """Of examples that each come ten times the interval is as wide as of one of each; drawn singly it is too narrow."""
    one = draw(REGIMES[0], 2, 200, np.random.default_rng(6))
    answers = [np.repeat(one.answer[size], 10, axis=1) for size in ("small", "large")]
    orders = [deferral_order(np.repeat(scores, 10)) for scores in one.uncertainty["small"]]
    shares, rows = np.array([0.0, 1.0]), np.arange(2000)
    together = mixture_multiplicity(*answers, orders, shares, rows, np.repeat(np.arange(200), 10))
    singly = mixture_multiplicity(*answers, orders, shares, rows)
    single = [deferral_order(scores) for scores in one.uncertainty["small"]]
    alone = mixture_multiplicity(one.answer["small"], one.answer["large"], single, shares, np.arange(200))
    for k in range(2):
        assert together.churn_variance[k].variance == pytest.approx(alone.churn_variance[k].variance, rel=1e-6)
        assert singly.churn_variance[k].variance < 0.2 * together.churn_variance[k].variance


def test_rows_and_the_sentence():
    analysis, tables = tables_of(synthetic_grid(seeds=3, examples=200), Metrics(resamples=0))
    rows = tables["multiplicity"].rows
    assert [row["deferred"] for row in rows] == (100 * SHARES).tolist()
    small, large = analysis.grid.sizes
    for row, size in ((rows[0], small), (rows[-1], large)):
        pairs = [np.mean(size.prediction[i] != size.prediction[j]) for i, j in combinations(range(3), 2)]
        assert row["churn"] == pytest.approx(100 * np.mean(pairs), abs=1e-4)
        assert row["churn_ci_low"] <= row["churn"] <= row["churn_ci_high"]
    assert rows[0]["verdict"] == "" and {row["verdict"] for row in rows[1:]} <= {
        "more stable",
        "less stable",
        "can't be told",
    }
    (note,) = tables["multiplicity"].notes
    assert note.startswith("Two trainings of small alone answer differently on ") and "of base alone on" in note


def test_one_seed_has_no_other_training():
    _, tables = tables_of(synthetic_grid(seeds=1, examples=60), Metrics(resamples=0))
    assert tables["multiplicity"].rows == []
    assert tables["multiplicity"].notes[0] == "small has one seed: no other training of it."


@pytest.mark.parametrize(("shift", "verdict"), [(0, "more stable"), (1, "less stable")])
def test_the_verdict_follows_the_interval(shift, verdict):
    """Small runs that agree on nothing and large ones that agree on everything, and the other way round."""
    rng = np.random.default_rng(3)
    shares = SHARES
    noisy, steady = rng.integers(0, 4, (3, 400)), np.tile(rng.integers(0, 4, 400), (3, 1))
    small, large = (noisy, steady) if shift == 0 else (steady, noisy)
    orders = [deferral_order(rng.random(400)) for _ in range(3)]
    found = mixture_multiplicity(small, large, orders, shares, np.arange(400))
    assert stability(found, "s", "l", 0.95).endswith(f"deferring half makes answers {verdict}.")
