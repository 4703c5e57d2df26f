"""The watch's statistics: p-values against loops, martingales against sums, chances by simulation where cheap."""

import itertools
import math

import numpy as np
import pytest

from metrics.statistics.watch.bets import shape_bets, share_bets
from metrics.statistics.watch.bounds import stability_index, upper_share
from metrics.statistics.watch.change import ChangeMartingale, waiting
from metrics.statistics.watch.conformal import BINS, ScoreRanks, ShareRanks, bin_of


def p_value(before, value, uniform):
    """The definition: larger ones, and a share of the ties, itself one of them."""
    larger = sum(other > value for other in before)
    ties = sum(other == value for other in before) + 1
    return (larger + uniform * ties) / (len(before) + 1)


def test_p_values_of_scores_are_the_definition_s():
    rng = np.random.default_rng(0)
    calibration, stream = rng.normal(size=40).round(1), rng.normal(size=600).round(1)
    uniform = rng.random(600)
    found = ScoreRanks(calibration).p_values(stream, uniform)
    seen = bin_of(calibration).tolist()
    for i, place in enumerate(bin_of(stream).tolist()):
        assert found[i] == pytest.approx(p_value(seen, place, uniform[i]), abs=1e-12)
        seen.append(place)


def test_p_values_of_shares_are_the_definition_s():
    rng = np.random.default_rng(1)
    stream, uniform = rng.random(80) < 0.3, rng.random(80)
    ranks = ShareRanks(3, 10)
    found = ranks.p_values(stream, uniform)
    seen = [True] * 3 + [False] * 7
    for i, yes in enumerate(stream.tolist()):
        assert found[i] == pytest.approx(p_value(seen, yes, uniform[i]), abs=1e-12)
        seen.append(yes)
    assert (ranks.yes, ranks.total) == (3 + stream.sum(), 90)
    with pytest.raises(ValueError, match="11 of 10"):
        ShareRanks(11, 10)


def test_p_values_are_exactly_uniform_and_independent_for_the_smallest_samples():
    """All orders of one calibration example and a stream of three are equally likely: so are all orders of p-values."""
    values = [0.0, 1.0, 2.0, 3.0]
    found = {
        tuple((ScoreRanks(np.array(order[:1])).p_values(np.array(order[1:]), np.full(3, 0.5)) * [2, 3, 4]).tolist())
        for order in itertools.permutations(values)
    }
    assert found == set(itertools.product([0.5, 1.5], [0.5, 1.5, 2.5], [0.5, 1.5, 2.5, 3.5]))


def test_how_a_stream_is_divided_makes_no_difference():
    rng = np.random.default_rng(2)
    stream, uniform = rng.normal(size=700), rng.random(700)
    whole, pieces = ScoreRanks(stream[:100]), ScoreRanks(stream[:100])
    one, other = ChangeMartingale(shape_bets, 64), ChangeMartingale(shape_bets, 64)
    one.update(whole.p_values(stream[100:], uniform[100:]))
    cuts = [100, 101, 101, 163, 164, 165, 400, 700]
    for start, stop in itertools.pairwise(cuts):
        other.update(pieces.p_values(stream[start:stop], uniform[start:stop]))
    assert other.wealth == pytest.approx(one.wealth, rel=1e-12)
    assert other.largest == pytest.approx(one.largest, rel=1e-12)
    again = ChangeMartingale(shape_bets, 64)
    again.restore(other.state())
    for martingale in (other, again):
        martingale.update(uniform[:50])
    assert again.wealth == other.wealth


def test_what_is_no_number_has_a_bin_too():
    assert bin_of(np.array([-np.inf, -100.0, np.inf, np.nan, 1e9, 0.0])).tolist() == [
        0,
        0,
        BINS - 1,
        BINS - 1,
        BINS - 1,
        64 * 64,
    ]


@pytest.mark.parametrize("bets", [shape_bets, share_bets(0.2, (1 / 3, 1.6)), share_bets(0.001, (9.0,))])
def test_bets_are_densities(bets):
    middle = (np.arange(200_000) + 0.5) / 200_000  # a multiple of every cut's denominator: steps are summed exactly
    factors = bets(middle)
    assert (factors >= 0).all() and factors.mean(axis=0) == pytest.approx(np.ones(factors.shape[1]), abs=1e-9)


def test_a_bet_on_a_share_is_the_ratio_of_its_likelihoods():
    below, above = share_bets(0.2, (2.0,))(np.array([0.1, 0.9]))[:, 0]
    assert below == pytest.approx((1 / 3) / 0.2) and above == pytest.approx((2 / 3) / 0.8)  # odds 1 : 4 become 1 : 2


def test_the_wealth_is_the_sum_over_the_times_at_which_bets_begin():
    rng = np.random.default_rng(3)
    p, bets = rng.random(33), share_bets(0.3, (2.0, 0.5))
    factors = bets(p)
    martingale = ChangeMartingale(bets, 5)
    largest = 1.0
    for n in range(1, 34):
        martingale.update(p[n - 1 : n])
        last = (n - 1) // 5
        wealth = waiting(last)
        for block in range(last + 1):
            wealth += (waiting(block - 1) - waiting(block)) * np.prod(factors[5 * block : n], axis=0).mean()
        largest = max(largest, wealth)
        assert martingale.wealth == pytest.approx(wealth, rel=1e-12)
        assert martingale.largest == pytest.approx(largest, rel=1e-12)
    assert waiting(-1) == 1 and waiting(0) == 0.5 and 0 < waiting(10**6) < waiting(10**5)


def test_the_wealth_s_expectation_stays_one():
    """Over every way in which six exchangeable examples, two of them so, may come."""
    found = []
    middles = (np.arange(3) + 0.5) / 3
    for places in itertools.combinations(range(6), 2):
        observed = np.isin(np.arange(6), places)
        for uniform in itertools.product(middles, repeat=2):
            ranks, martingale = (
                ShareRanks(int(observed[:4].sum()), 4),
                ChangeMartingale(lambda p: 2 * (1 - p)[:, None], 1),
            )
            martingale.update(ranks.p_values(observed[4:], np.array(uniform)))
            found.append(martingale.wealth)
    assert np.mean(found) == pytest.approx(1, abs=1e-12)  # 2 (1 - p) is linear, so that the middles average exactly


def test_unchanged_streams_seldom_raise_the_wealth_whatever_the_calibration_sample():
    """Ville: the chance of ever reaching 20 is at most 1/20, with calibration samples so small that they mislead."""
    rng = np.random.default_rng(4)
    streams, reached = 300, np.zeros(2)
    for _ in range(streams):
        calibration, stream = rng.normal(size=30), rng.normal(size=1000)
        martingale = ChangeMartingale(shape_bets, 32)
        martingale.update(ScoreRanks(calibration).p_values(stream, rng.random(1000)))
        reached[0] += martingale.largest >= 20
        guess = (np.sum(rng.normal(size=30) > 0.8) + 0.5) / 31
        martingale = ChangeMartingale(share_bets(guess, (1 / 3, 3.0)), 32)
        ranks = ShareRanks(int((calibration > 0.8).sum()), 30)
        martingale.update(ranks.p_values(stream > 0.8, rng.random(1000)))
        reached[1] += martingale.largest >= 20
    assert (reached / streams <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / streams)).all()


def test_a_change_after_a_long_quiet_time_is_found():
    rng = np.random.default_rng(5)
    martingale, ranks = ChangeMartingale(shape_bets, 64), ScoreRanks(rng.normal(size=1000))
    martingale.update(ranks.p_values(rng.normal(size=20_000), rng.random(20_000)))
    assert martingale.largest < 100
    martingale.update(ranks.p_values(rng.normal(size=400) + 0.7, rng.random(400)))
    assert martingale.wealth > 400
    martingale.update(np.full(3000, 1e-9))  # wealth has a limit, and stays a number
    assert np.isfinite(martingale.wealth) and martingale.largest > 1e90


def test_the_upper_bound_holds_at_all_times_at_once():
    rng = np.random.default_rng(6)
    broken = 0
    for _ in range(200):
        counts = np.cumsum(rng.random(2000) < 0.1)
        broken += any(upper_share(int(counts[n - 1]), n, 0.1) < 0.1 for n in (1, 3, 10, 30, 100, 300, 1000, 2000))
    assert broken <= 0.1 * 200 + 3 * math.sqrt(200 * 0.1 * 0.9)
    assert upper_share(5, 5, 0.1) == 1 and 0.001 < upper_share(0, 2000, 0.1) < 0.004
    assert upper_share(100, 1000, 0.1) > upper_share(100, 1000, 0.5) > 0.1


def test_the_stability_index_is_its_formula():
    expected, observed = np.array([100, 100, 0]), np.array([50, 150, 10])
    a, e = (
        np.array(counts)
        for counts in ([50.5 / 211.5, 150.5 / 211.5, 10.5 / 211.5], [100.5 / 201.5] * 2 + [0.5 / 201.5])
    )
    assert stability_index(expected, observed) == pytest.approx(((a - e) * np.log(a / e)).sum())
    assert stability_index(expected, expected) == 0
