"""AURC, E-AURC, AUGRC and AUROC against brute force over every order of ties, and resampled by hand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.schema import Metrics
from metrics.beyond.few import first_few
from metrics.beyond.selective import STATISTICS, risk_coverage, size_risks
from metrics.bootstrap.resampling import Resampling
from metrics.statistics.switcher import deferral_order
from metrics.statistics.uncertainty import uncertainties
from tests.metrics_runs import tables_of
from tests.resamples import draws
from tests.synthetic_scores import synthetic_grid


def in_order(wrong):
    """From errors in order of certainty, by the definitions, one k at a time."""
    n, errors = len(wrong), sum(wrong)
    risks = [sum(wrong[:k]) / k for k in range(1, n + 1)]
    best = sorted(wrong)
    least = [sum(best[:k]) / k for k in range(1, n + 1)]
    generalized = [sum(wrong[:k]) / n for k in range(n + 1)]
    right = n - errors
    # pairs of a right answer and an error: the error should come later
    later = sum(not wrong[a] and wrong[b] for b in range(n) for a in range(b))
    return {
        "error": errors / n,
        "aurc": np.mean(risks),
        "e_aurc": np.mean(risks) - np.mean(least),
        "augrc": np.trapezoid(generalized, dx=1 / n),
        "auroc": later / (right * errors) if right * errors else np.nan,
    }


def brute_force(score, correct):
    """The mean over all orders that keep the score ascending (certain first)."""
    n = len(score)
    orders = [o for o in permutations(range(n)) if all(score[a] <= score[b] for a, b in zip(o, o[1:]))]
    every = [in_order([not correct[i] for i in order]) for order in orders]
    return {key: np.mean([one[key] for one in every]) for key in every[0]}


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_every_order_of_ties(examples):
    score, correct = (np.array(column) for column in zip(*examples))
    expected = brute_force(score, correct)
    found = risk_coverage(deferral_order(score), correct)
    for key, value in expected.items():
        assert getattr(found, key) == pytest.approx(value, abs=1e-12, nan_ok=True), key


@given(st.integers(1, 200), st.integers(0, 10_000))
def test_relation_of_augrc_and_auroc(n, seed):
    """AUGRC = (1 - AUROC) acc (1 - acc) + (1 - acc)²/2, so it lies between err²/2 and err - err²/2."""
    rng = np.random.default_rng(seed)
    score, correct = rng.integers(0, 30, n), rng.random(n) < 0.7
    found = risk_coverage(deferral_order(score), correct)
    err = found.error
    right, wrong = score[correct], score[~correct]
    if len(right) and len(wrong):
        above = (wrong[:, None] > right[None, :]).mean() + 0.5 * (wrong[:, None] == right[None, :]).mean()
        assert found.auroc == pytest.approx(above, abs=1e-9)
        assert found.augrc == pytest.approx((1 - above) * err * (1 - err) + err**2 / 2, abs=1e-12)
    assert err**2 / 2 - 1e-12 <= found.augrc <= err - err**2 / 2 + 1e-12
    assert -1e-12 <= found.e_aurc <= found.aurc <= 1


def test_edges():
    perfect = risk_coverage(deferral_order(np.array([0.0, 1, 2, 3])), np.array([True, True, False, False]))
    assert perfect.e_aurc == pytest.approx(0, abs=1e-15) and perfect.auroc == 1
    assert perfect.aurc == pytest.approx((1 / 3 + 2 / 4) / 4)
    all_right = risk_coverage(deferral_order(np.arange(5)), np.ones(5, bool))
    assert (all_right.aurc, all_right.augrc, all_right.error) == (0, 0, 0) and np.isnan(all_right.auroc)
    all_wrong = risk_coverage(deferral_order(np.arange(5)), np.zeros(5, bool))
    assert all_wrong.aurc == pytest.approx(1) and all_wrong.e_aurc == pytest.approx(0) and all_wrong.augrc == 0.5
    constant = risk_coverage(deferral_order(np.zeros(8)), np.arange(8) < 6)
    assert constant.aurc == pytest.approx(0.25) and constant.auroc == 0.5


def test_closed_form_of_the_optimum_in_the_limit():
    """E-AURC's optimum tends to r + (1 - r) log(1 - r) (Geifman et al. 2019)."""
    n, r = 200_000, 0.3
    found = risk_coverage(deferral_order(np.arange(n)), np.arange(n) < (1 - r) * n)
    assert found.aurc == pytest.approx(r + (1 - r) * np.log(1 - r), abs=1e-5)


def test_rows_and_samples():
    scores = synthetic_grid(seeds=3, examples=200, classes=3, seed_noise=1.0)
    analysis, tables = tables_of(scores, Metrics(resamples=15))
    grid = analysis.grid
    resampling = first_few(Resampling({s.name: 3 for s in grid.sizes}, 200, 15, seed=0))
    scores = {size.name: uncertainties(size, Metrics()) for size in grid.sizes}
    risks = {}
    for size in grid.sizes:
        orders = {score: [deferral_order(run) for run in runs] for score, runs in scores[size.name].items()}
        risks[size.name] = size_risks(size, orders, resampling)
    for b, examples, runs, _ in draws(resampling):
        for size in grid.sizes:
            for score in ("margin", "churn"):
                drawn = [
                    risk_coverage(deferral_order(scores[size.name][score][i][examples]), size.correct[i][examples])
                    for i in runs[size.name]
                ]
                for key in STATISTICS:
                    found = risks[size.name].samples[score][key][b]
                    assert found == pytest.approx(np.mean([getattr(one, key) for one in drawn]), abs=1e-9)
    means, of_runs = tables["selective"].rows, tables["selective_runs"].rows
    assert len(means) == 2 * 6 and len(of_runs) == 2 * 6 * 3
    for row in means:
        same = [r for r in of_runs if (r["size"], r["score"]) == (row["size"], row["score"])]
        for key in ("error", *STATISTICS):
            assert row[key] == pytest.approx(np.mean([r[key] for r in same]))
            assert row[f"{key}_ci_low"] < row[key] < row[f"{key}_ci_high"]
