"""What chance shows in Table 1, against permutations one by one, and its normal limit against permutations."""

import numpy as np
import pytest

from bench.populations import REGIMES, draw
from metrics.statistics import chance
from metrics.statistics.chance import RankCells, chance_peaks, covariance_of_correctness
from metrics.statistics.switcher import FRACTIONS, INTERIOR, deferral_order, switcher_statistics


def peaks_of(uncertainty, small, larger):
    cells = [RankCells.of_order(deferral_order(run)) for run in uncertainty]
    covariance = covariance_of_correctness([small, *larger])
    return chance_peaks(cells, small, larger, covariance, np.random.default_rng(1))


def permuted_one_by_one(uncertainty, small, large, count):
    """Mean and quantile of the mean peak, every run's scores moved by the same permutation."""
    rng = np.random.default_rng(2)
    peaks = []
    for _ in range(count):
        moved = uncertainty[:, rng.permutation(small.shape[1])]
        orders = [deferral_order(run) for run in moved]
        peaks.append(np.mean([switcher_statistics(*one, large).peak_gain for one in zip(orders, small)]))
    return np.mean(peaks), np.quantile(peaks, chance.HIGH), np.std(peaks)


@pytest.mark.parametrize("examples", [40, 300, 800], ids=["few", "permuted", "normal_limit"])
@pytest.mark.parametrize("digits", [0, 8], ids=["ties", "no_ties"])
def test_chance_is_what_permutations_show(examples, digits):
    runs = draw(REGIMES[1], 2, examples, np.random.default_rng(examples), skills={"small": 0.9, "large": 1.0})
    uncertainty, small, large = runs.uncertainty["small"].round(digits), runs.correct["small"], runs.correct["large"]
    (found,) = peaks_of(uncertainty, small, [large])
    mean, high, sd = permuted_one_by_one(uncertainty, small, large, 300)
    # 400 draws against 300: means differ by 0.08 of a standard deviation, quantiles by twice that; three times as much
    assert found.mean == pytest.approx(mean, abs=0.24 * sd)
    assert found.high == pytest.approx(high, abs=0.5 * sd)
    assert found.mean > 0 and found.high > found.mean


def test_each_larger_size_has_the_chance_that_it_has_alone():
    runs = draw(REGIMES[0], 2, 200, np.random.default_rng(0), skills={"small": 0.5, "mid": 0.6, "large": 1.4})
    small, larger = runs.correct["small"], [runs.correct["mid"], runs.correct["large"]]
    both = peaks_of(runs.uncertainty["small"], small, larger)
    alone = [peaks_of(runs.uncertainty["small"], small, [one])[0] for one in larger]
    assert both == alone


def test_a_constant_score_shows_the_chord():
    runs = draw(REGIMES[0], 2, 600, np.random.default_rng(0))
    small, large = runs.correct["small"], runs.correct["large"]
    (found,) = peaks_of(np.zeros((2, 600)), small, [large])
    gap = large.mean(axis=1)[None] - small.mean(axis=1)[:, None]
    expected = (np.maximum(0.99 * gap, 0.01 * gap) - np.maximum(gap, 0)).mean()
    assert found.mean == pytest.approx(expected, abs=1e-5) and found.high == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("digits", [0, 8], ids=["ties", "no_ties"])
@pytest.mark.parametrize("examples", [4, 37, 250])
def test_cells_tell_what_share_of_each_example_is_deferred(examples, digits):
    rng = np.random.default_rng(examples)
    order = deferral_order(rng.normal(size=examples).round(digits))
    cells = RankCells.of_order(order)
    deferred = cells.inside[cells.cell]  # [n, 99]
    for k, fraction in enumerate(FRACTIONS[INTERIOR]):
        position = fraction * examples
        block = np.searchsorted(order.knots, position) - 1
        share = (position - order.knots[block]) / (order.knots[block + 1] - order.knots[block])
        expected = np.zeros(examples)
        expected[order.order[: order.knots[block]]] = 1
        expected[order.order[order.knots[block] : order.knots[block + 1]]] = share
        np.testing.assert_allclose(deferred[:, k], expected, atol=1e-9)


def test_covariance_is_that_of_the_examples():
    runs = draw(REGIMES[0], 3, 500, np.random.default_rng(0)).correct
    found = covariance_of_correctness([runs["small"], runs["large"]])
    np.testing.assert_allclose(found, np.cov(np.concatenate([runs["small"], runs["large"]])), atol=1e-12)
