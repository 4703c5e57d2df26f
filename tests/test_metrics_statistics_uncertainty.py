"""The six scores, against the definitions written out slowly, and the identities they must keep."""

from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import Metrics
from metrics.grid.collect import collect_grids
from metrics.statistics.uncertainty import (
    UncertaintyError,
    churn_counts,
    log_entropy,
    log_margin,
    log_probabilities,
    log_softmax,
    to_thirteen_digits,
    uncertainties,
)
from tests.synthetic_scores import synthetic_grid, write_grid

getcontext().prec = 320  # 1 - p₁ is as small as e^-600 below
CERTAIN = np.array([[0.0, -np.inf], [-0.1, -200.0], [-1e-6, -103.0], [-0.5, -0.9], [-1.0, -1.0]])


def slow_probabilities(row):
    weights = [Decimal(0) if np.isneginf(v) else Decimal(float(v)).exp() for v in row]
    return [w / sum(weights) for w in weights]


def slow_margin(row):
    first, second, *_ = sorted(slow_probabilities(row), reverse=True)
    return 1 - (first - second)


def slow_entropy(row):
    return -sum((p * p.ln() for p in slow_probabilities(row) if p > 0), Decimal(0))


def sizes(seeds=3, classes=3, examples=60, **kwargs):
    return collect_grids(synthetic_grid(seeds=seeds, classes=classes, examples=examples, **kwargs))[0].sizes


def log_p(values):
    return log_softmax(values)


rows_of_likelihoods = st.integers(2, 5).flatmap(
    lambda k: st.lists(st.lists(st.floats(-600, 0, width=32), min_size=k, max_size=k), min_size=1, max_size=8)
)


@given(rows_of_likelihoods)
@settings(max_examples=60, deadline=None)
def test_margin_and_entropy_keep_their_digits(rows):
    values = np.array(rows)
    for slow, fast in ((slow_margin, log_margin), (slow_entropy, log_entropy)):
        expected = [float(slow(row).ln()) for row in values]
        # float64 log space: a few roundings of numbers up to 600
        np.testing.assert_allclose(fast(log_p(values)), expected, rtol=1e-12, atol=1e-12)


def test_certain_examples_do_not_tie():
    for fast in (log_margin, log_entropy):
        got = fast(log_p(CERTAIN))
        assert np.isneginf(got[0]) and (np.diff(got) > 0).all()
    assert log_margin(log_p(CERTAIN))[-1] == pytest.approx(0.0, abs=1e-15)  # classes alike: margin 1
    assert np.exp(log_entropy(log_p(CERTAIN)))[-1] == pytest.approx(np.log(2), abs=1e-15)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 3.0]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_two_classes_rank_alike_by_margin_and_entropy(seed, spread, coarse):
    grid = synthetic_grid(seeds=2, classes=2, examples=50)
    rng = np.random.default_rng(seed)
    for one in grid:
        values = rng.normal(-1, spread, one.class_log_likelihoods.shape).clip(None, 0).astype(np.float32)
        one.class_log_likelihoods = np.round(values, 1) if coarse else values
    scores = uncertainties(collect_grids(grid)[0].sizes[0], Metrics())
    for margin, entropy in zip(scores["margin"], scores["entropy"]):
        assert np.array_equal(np.unique(margin, return_inverse=True)[1], np.unique(entropy, return_inverse=True)[1])


def test_committee_is_the_mean_of_the_others():
    runs = sizes(examples=12)[0]
    slow = {"committee_margin": slow_margin, "committee_entropy": slow_entropy}
    scores = uncertainties(runs, Metrics())
    averaged = uncertainties(runs, Metrics(committee="mean_probability"))
    for i in range(3):
        others = [run for k, run in enumerate(runs.log_likelihoods) if k != i]
        for x in range(12):
            mean = [sum(ps) / 2 for ps in zip(*(slow_probabilities(run[x]) for run in others))]
            mean_logs = [float(p.ln()) for p in mean]
            for name, function in slow.items():
                expected = float((sum(function(run[x]) for run in others) / 2).ln())
                assert scores[name][i, x] == pytest.approx(expected, rel=1e-12, abs=1e-12)
                assert averaged[name][i, x] == pytest.approx(float(function(mean_logs).ln()), rel=1e-11, abs=1e-11)


def test_ties_that_are_exact_stay_exact():
    """Where p₁ = p₂ the margin is 1; committees of the same values in another order have the same mean."""
    grid = synthetic_grid(seeds=4, classes=4, examples=400)
    rng = np.random.default_rng(0)
    for one in grid:
        values = rng.normal(-2, 2, (400, 4)).astype(np.float32)
        values[:, 1] = values[:, 0] = values.max(axis=1)
        one.class_log_likelihoods = values
    assert (uncertainties(collect_grids(grid)[0].sizes[0], Metrics())["margin"] == 0).sum() == 4 * 400

    alike = np.array([[-1.0, -1.7, -2.9], [-0.3, -2.1, -4.0], [-1.2, -1.3, -9.0], [-30.0, -0.1, -31.0]], np.float32)
    permuted = np.stack([alike[rng.permutation(4)] for _ in range(300)], axis=1)  # [R, n, K], each a permutation
    few = synthetic_grid(sizes={"small": (1, 1.0), "base": (2, 2.0)}, seeds=4, classes=3, examples=300)
    for one, values in zip(few, [*permuted, *permuted]):
        one.class_log_likelihoods = values[:, rng.permutation(3)]  # the order of the classes is of no matter either
    for committee in ("mean_score", "mean_probability"):
        scores = uncertainties(collect_grids(few)[0].sizes[0], Metrics(committee=committee))
        if committee == "mean_score":
            for name in ("committee_margin", "committee_entropy"):
                assert all(len(np.unique(run)) == 4 for run in scores[name])  # one mean for each run left out
        assert len(np.unique(scores["margin"])) == 4


@given(st.lists(st.floats(-700, 0), min_size=1, max_size=20))
def test_rounding_to_thirteen_digits(values):
    logs = np.array([*values, -np.inf, 0.0, 1e-17, -3e-16])
    rounded = to_thirteen_digits(logs)
    assert np.isneginf(rounded[-4]) and (rounded[-3:] == 0).all()
    np.testing.assert_allclose(rounded[:-4], logs[:-4], rtol=2.0**-44, atol=2.0**-44)
    noisy = to_thirteen_digits(rounded * (1 + 2.0**-50))  # a few roundings of a value that is one of the rounded
    assert (noisy == rounded).all() and (to_thirteen_digits(rounded) == rounded).all()


def test_the_mean_of_the_others_of_many_magnitudes():
    runs = sizes(seeds=5, examples=3)[0]
    for k, run in enumerate(runs.runs):
        run.source.class_log_likelihoods[:] = np.float32([-400.0 if k == 2 else -3.0 * k - 1, -0.5, -np.inf])
    scores = uncertainties(runs, Metrics())
    margins = [slow_margin(np.float64(likelihoods[0])) for likelihoods in runs.log_likelihoods]
    for i in range(5):
        expected = sum(margin for k, margin in enumerate(margins) if k != i) / 4
        assert scores["committee_margin"][i, 0] == pytest.approx(float(expected.ln()), rel=1e-12)


def test_churn_against_pairs():
    runs = sizes(seeds=4)[0]
    scores = uncertainties(runs, Metrics())
    apart = uncertainties(runs, Metrics(committee_churn_includes_self=False))
    p = runs.prediction
    for i in range(4):
        for x in range(60):
            assert scores["churn"][i, x] == sum(p[k, x] != p[i, x] for k in range(4) if k != i)
            of_others = [[p[m, x] != p[k, x] for m in range(4) if m != k] for k in range(4) if k != i]
            assert scores["committee_churn"][i, x] == sum(map(sum, of_others))
            without = [[p[m, x] != p[k, x] for m in range(4) if m not in (k, i)] for k in range(4) if k != i]
            assert apart["committee_churn"][i, x] == sum(map(sum, without))


def test_a_committee_of_a_size_is_the_run_and_those_after_it():
    """Each run's scores are those that it has in a grid of its committee alone."""
    whole = synthetic_grid(sizes={"small": (1, 1.0)}, seeds=5, examples=40, classes=3)
    for choices in ({}, {"committee": "mean_probability"}, {"committee_churn_includes_self": False}):
        config = Metrics(committee_size=3, **choices)
        found = uncertainties(collect_grids(whole)[0].sizes[0], config)
        for run in range(5):
            members = sorted({run, (run + 1) % 5, (run + 2) % 5})
            alone = uncertainties(collect_grids([whole[k] for k in members])[0].sizes[0], Metrics(**choices))
            for score, values in alone.items():
                np.testing.assert_array_equal(found[score][run], values[members.index(run)], err_msg=score)


def test_a_committee_of_all_runs_is_the_usual_one_and_of_more_there_is_none():
    runs = sizes(seeds=3)[0]
    for score, values in uncertainties(runs, Metrics()).items():
        np.testing.assert_array_equal(uncertainties(runs, Metrics(committee_size=3))[score], values)
    assert list(uncertainties(runs, Metrics(committee_size=4))) == ["margin", "entropy"]


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_binary_churn_is_r_minus_m(runs, seed):
    prediction = np.random.default_rng(seed).integers(0, 2, (runs, 20))
    agreeing = (prediction[:, None] == prediction[None]).sum(axis=1)  # m, itself included
    assert np.array_equal(churn_counts(prediction), runs - agreeing)


def test_what_few_seeds_allow():
    assert list(uncertainties(sizes(seeds=1)[0], Metrics())) == ["margin", "entropy"]
    assert len(uncertainties(sizes(seeds=2)[0], Metrics())) == 6
    assert "committee_churn" not in uncertainties(sizes(seeds=2)[0], Metrics(committee_churn_includes_self=False))


def test_length_normalized():
    runs = sizes(label_tokens=(2, 1, 4))[0]
    got = log_probabilities(runs, 0, length_normalized=True)[0]
    expected = slow_probabilities(runs.log_likelihoods[0, 0].astype(float) / [2, 1, 4])
    np.testing.assert_allclose(got, [float(p.ln()) for p in expected], rtol=1e-12)
    assert uncertainties(runs, Metrics(length_normalized=True))["margin"].shape == (3, 60)


@pytest.mark.parametrize("tokens", [None, (1, 2), (1, 2, 0), (1, 2, 2.5)])
def test_length_normalized_without_lengths(tokens):
    with pytest.raises(UncertaintyError, match="label_tokens"):
        uncertainties(sizes(label_tokens=tokens)[0], Metrics(length_normalized=True))


def test_log_likelihoods_are_read_from_the_files_once(tmp_path):
    paths = write_grid(synthetic_grid(seeds=2, classes=3, examples=40), tmp_path)
    size = collect_grids(paths)[0].sizes[0]
    alone = [log_probabilities(size, run) for run in range(2)]
    whole = size.log_likelihoods
    for path in paths:
        path.unlink()
    assert size.log_likelihoods is whole and whole.shape == (2, 40, 3)
    for run in range(2):
        np.testing.assert_array_equal(log_probabilities(size, run), alone[run])
