"""Translation's switchers: against scoring the mixed output anew with sacreBLEU, and against the definitions."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from metrics.statistics.bleu_switcher import bleu_bounds, bleu_statistics_of_switchers, switcher_bleu
from metrics.statistics.switcher import FRACTIONS, deferral_order
from metrics.statistics.text import bleu_statistics, corpus_bleu
from tests.synthetic_scores import synthetic_grid

WORDS = ("a", "b", "c", "d", ".")
sentences = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


@st.composite
def corpora(draw, most=7, levels=None):
    """(uncertainty [n], small and large hypotheses, references)."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    score = rng.random(n) if levels is None else rng.integers(0, levels, n).astype(float)
    texts = [draw(st.lists(sentences, min_size=n, max_size=n)) for _ in range(3)]
    return score, *texts


@given(corpora())
@settings(max_examples=60, deadline=None)
def test_every_fraction_is_what_scoring_the_mixture_anew_gives(corpus):
    score, small, large, references = corpus
    stats = [bleu_statistics(hypotheses, references) for hypotheses in (small, large)]
    fast = switcher_bleu(deferral_order(score), *stats)
    order = np.argsort(-score)
    for k in range(len(score) + 1):
        deferred = set(order[:k].tolist())
        mixed = [large[i] if i in deferred else small[i] for i in range(len(score))]
        expected = BLEU(tokenize="intl").corpus_score(mixed, [references]).score
        assert fast[k] == pytest.approx(expected, abs=1e-9)


@given(corpora(most=5, levels=2))
@settings(max_examples=40, deadline=None)
def test_ties_are_corpus_bleu_of_the_expected_statistics(corpus):
    score, small, large, references = corpus
    n = len(score)
    stats = [bleu_statistics(hypotheses, references) for hypotheses in (small, large)]
    blocks = [np.flatnonzero(score == value) for value in sorted(set(score.tolist()), reverse=True)]
    sums = []
    for orders in product(*(list(permutations(block)) for block in blocks)):
        order = [x for block in orders for x in block]
        sums.append([sum(stats[i in order[:k]][i] for i in range(n)) for k in range(n + 1)])
    expected = corpus_bleu(np.round(np.mean(sums, axis=0), 9))
    np.testing.assert_allclose(switcher_bleu(deferral_order(score), *stats), expected, atol=1e-9)


def pair(examples=60, seed=0):
    small, large = (
        run.bleu_stats
        for run in synthetic_grid(seeds=1, examples=examples, task="translation", seed=seed, slices=False)
    )
    return small, large


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 4]))
@settings(max_examples=25, deadline=None)
def test_statistics_by_their_definitions(seed, levels):
    rng = np.random.default_rng(seed)
    small, large = pair(37, seed % 50)
    score = rng.random(37) if levels is None else rng.integers(0, levels, 37)
    deferral = deferral_order(score)
    fast = bleu_statistics_of_switchers(deferral, small, large[None])
    every = switcher_bleu(deferral, small, large) / 100
    a, b = corpus_bleu(small.sum(axis=0)) / 100, corpus_bleu(large.sum(axis=0)) / 100
    x = np.arange(38) / 37
    assert fast.area[0] == pytest.approx(np.trapezoid(every - (a + x * (b - a)), x), abs=1e-12)
    # inside a step, and inside a tie, the curve bends the way corpus BLEU does: linear between steps to within that
    np.testing.assert_allclose(fast.curve[0], np.interp(FRACTIONS, x, every), atol=2e-3)
    assert fast.curve[0, 0] == pytest.approx(a, abs=1e-15) and fast.curve[0, 100] == pytest.approx(b, abs=1e-15)
    on_grid, chord = fast.curve[0, 1:100], a + FRACTIONS[1:100] * (b - a)
    assert fast.peak_gain[0] == pytest.approx(on_grid.max() - max(a, b), abs=1e-12)
    assert fast.relative_peak_gain[0] == pytest.approx((on_grid.max() - max(a, b)) / max(a, b), abs=1e-12)
    assert fast.relative_area[0] == pytest.approx(((on_grid - chord) / chord).mean(), abs=1e-12)
    assert fast.hump[0] == pytest.approx(max(every.max(), on_grid.max()) - max(a, b), abs=1e-12)
    assert fast.area[0] <= fast.hump[0] + abs(b - a) / 2 + 1e-12
    # any increasing map of a score, and any order of the sentences, changes nothing
    order = rng.permutation(37)
    again = bleu_statistics_of_switchers(deferral_order(score[order] ** 3 + 2), small[order], large[order][None])
    for name, value in vars(fast).items():
        np.testing.assert_array_equal(value, getattr(again, name))


def test_a_constant_score_gives_what_the_expected_mixture_gives():
    small, large = pair()
    curve = bleu_statistics_of_switchers(deferral_order(np.zeros(60)), small, large[None]).curve[0]
    mixed = small.sum(axis=0) + FRACTIONS[:, None] * (large.sum(axis=0) - small.sum(axis=0))
    np.testing.assert_allclose(curve, corpus_bleu(mixed) / 100, atol=1e-12)


def test_the_floor_is_what_random_scores_reach():
    """Over the straight line between two systems; to first order around their even mixture, so within a few percent."""
    rng = np.random.default_rng(0)
    small, large = pair(examples=800)
    swapped = rng.random(800) < 0.5  # some of either, so that neither is much better
    one, other = np.where(swapped[:, None], small, large), np.where(swapped[:, None], large, small)
    floor = bleu_bounds(one[None], other[None]).random_hump[0, 0]
    peaks = []
    for _ in range(600):
        curve = switcher_bleu(deferral_order(rng.random(800)), one, other) / 100
        peaks.append((curve - np.linspace(curve[0], curve[-1], 801)).max())
    assert np.mean(peaks) == pytest.approx(floor, rel=0.1)


def test_the_floor_of_systems_without_a_match_is_unknown():
    none = np.array([[3, 3, 0, 0, 0, 0, 3, 2, 1, 0]] * 4, dtype=np.int32)
    assert np.isnan(bleu_bounds(none[None], none[None]).random_hump).all()


def test_a_test_set_of_the_papers_size():
    """All 3,004 points at once; the middle one by scoring its mixture anew."""
    runs = synthetic_grid(seeds=1, examples=3003, task="translation", slices=False)
    deferral = deferral_order(np.random.default_rng(0).random(3003))
    fast = switcher_bleu(deferral, runs[0].bleu_stats, runs[1].bleu_stats)
    mixed, middle = runs[0].prediction.copy(), deferral.order[:1501]
    mixed[middle] = runs[1].prediction[middle]
    assert fast.shape == (3004,)
    expected = BLEU(tokenize="intl").corpus_score(list(mixed), [list(runs[0].target)]).score
    assert fast[1501] == pytest.approx(expected, abs=1e-9)
