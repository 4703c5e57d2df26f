"""Chance's part in a BLEU switcher's peak: against slow permutations, and the normal limit against counting."""

import numpy as np
import pytest

from metrics.statistics import bleu_chance
from metrics.statistics.bleu_chance import bleu_chance_peaks
from metrics.statistics.bleu_switcher import bleu_statistics_of_switchers
from metrics.statistics.chance import RankCells
from metrics.statistics.switcher import DeferralOrder, deferral_order
from tests.synthetic_scores import synthetic_grid


def runs_of(examples, seeds=2):
    """Returns the BLEU statistics of a smaller and a larger size's runs, [R, n, 10] each."""
    scores = synthetic_grid(seeds=seeds, examples=examples, task="translation", slices=False)
    statistics = np.stack([one.bleu_stats for one in scores])
    return statistics[:seeds], statistics[seeds:]


@pytest.mark.parametrize("digits", [1, 8], ids=["ties", "no_ties"])
def test_permutations_against_switchers_of_shuffled_examples(digits):
    rng = np.random.default_rng(0)
    small, large = runs_of(120)
    orders = [deferral_order(one) for one in rng.random((2, 120)).round(digits)]
    (found,) = bleu_chance_peaks([RankCells.of_order(one) for one in orders], small, [large], np.random.default_rng(1))
    peaks = []
    for _ in range(200):
        dealt = rng.permutation(120)
        shuffled = [DeferralOrder(dealt[one.order], one.knots) for one in orders]
        of_runs = [
            bleu_statistics_of_switchers(one, own, large).peak_gain for one, own in zip(shuffled, small, strict=True)
        ]
        peaks.append(np.mean(of_runs))
    # two means and quantiles of 200 draws each
    assert abs(found.mean - np.mean(peaks)) < 4 * np.std(peaks) * (2 / 200) ** 0.5
    assert abs(found.high - np.quantile(peaks, 0.95)) < 0.9 * np.std(peaks)
    assert found.high > found.mean


def test_the_normal_limit_is_near_what_permutations_give(monkeypatch):
    rng = np.random.default_rng(2)
    small, large = runs_of(450)
    cells = [RankCells.of_order(deferral_order(one)) for one in rng.random((2, 450))]
    (counted,) = bleu_chance_peaks(cells, small, [large], np.random.default_rng(3))
    monkeypatch.setattr(bleu_chance, "MOST_PERMUTED", 0)
    (drawn,) = bleu_chance_peaks(cells, small, [large], np.random.default_rng(4))
    spread = (counted.high - counted.mean) / 1.645
    # of 200 draws each a mean has a standard error of 0.07 of the spread, a quantile of 0.15
    assert drawn.mean == pytest.approx(counted.mean, abs=0.4 * spread)
    assert drawn.high == pytest.approx(counted.high, abs=0.8 * spread)


def test_several_references_have_the_length_of_each_run_s_closest():
    rng = np.random.default_rng(7)
    small, large = runs_of(100, seeds=1)
    small[:, :, 1] = small[:, :, 0]  # each of these is as long as one of its references
    cells = [RankCells.of_order(deferral_order(rng.random(100)))]
    (found,) = bleu_chance_peaks(cells, small, [large], np.random.default_rng(6))
    peaks = []
    for _ in range(200):
        order = deferral_order(rng.random(100))
        peaks.append(bleu_statistics_of_switchers(order, small[0], large).peak_gain.mean())
    assert abs(found.mean - np.mean(peaks)) < 4 * np.std(peaks) * (2 / 200) ** 0.5


def test_models_that_translate_alike_have_no_peak():
    small, _ = runs_of(60)
    cells = [RankCells.of_order(deferral_order(one)) for one in np.random.default_rng(5).random((2, 60))]
    (found,) = bleu_chance_peaks(cells[:1], small[:1], [small[:1]], np.random.default_rng(6))
    assert found.mean == pytest.approx(0, abs=1e-12) and found.high == pytest.approx(0, abs=1e-12)
