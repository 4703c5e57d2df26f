"""Exact tests of a loss of at most ε: sizes by enumeration, limits against binomials, validity by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom, multinomial

from metrics.statistics.certificates import (
    examples_needed,
    least_epsilon,
    loses_no_more,
    rejected_by_limits,
    trinomial_boundary,
    upper_limit,
)


def test_limits_are_clopper_pearson():
    """p₊ above its limit would make so few wins improbable, p₋ below its limit so many losses."""
    for wins, losses, m in ((0, 0, 50), (3, 0, 80), (0, 4, 80), (12, 9, 200), (50, 2, 50 + 2), (80, 0, 80)):
        delta = 0.1
        upper = 1.0 if wins == m else beta.ppf(1 - delta / 2, wins + 1, m - wins)
        lower = 0.0 if losses == 0 else beta.ppf(delta / 2, losses, m - losses + 1)
        if wins < m:
            assert binom.cdf(wins, m, upper) == pytest.approx(delta / 2)
        if losses:
            assert binom.sf(losses - 1, m, lower) == pytest.approx(delta / 2)
        gap = upper - lower
        assert rejected_by_limits(wins, losses, m, gap + 1e-9, delta) and not rejected_by_limits(
            wins, losses, m, gap - 1e-9, delta
        )
    assert rejected_by_limits(np.zeros((2, 3)), np.zeros((2, 3)), 1000, 0.01, 0.1).shape == (2, 3)
    # nothing lost among 1000: sure to lose below 3/1000, never sure to lose 0
    assert not rejected_by_limits(0, 0, 1000, 0.0, 0.1) and rejected_by_limits(0, 0, 1000, math.log(20) / 1000, 0.1)


def counts_of(m):
    """All counts of wins and losses among m examples: [T] each."""
    wins, losses = np.meshgrid(np.arange(m + 1), np.arange(m + 1), indexing="ij")
    possible = wins + losses <= m
    return wins[possible], losses[possible]


@pytest.mark.parametrize(("m", "epsilon", "delta"), [(40, 0.08, 0.1), (60, 0.02, 0.2), (60, 0.3, 0.05), (25, 0.5, 0.1)])
def test_the_size_of_the_trinomial_test_by_enumeration(m, epsilon, delta):
    """At every q the chance to reject a loss of just ε, summed over all counts, is at most δ."""
    wins, losses = counts_of(m)
    rejects = trinomial_boundary(m, epsilon, delta).rejects(wins, losses)
    sizes = []
    for q in np.linspace(epsilon, 1, 60):
        chances = [(q + epsilon) / 2, (q - epsilon) / 2, 1 - q]
        counts = np.stack([wins, losses, m - wins - losses], axis=1)
        sizes.append(multinomial.pmf(counts, m, np.clip(chances, 0, 1))[rejects].sum())
    assert max(sizes) <= delta
    assert rejects.any() and not rejects.all()


def test_the_boundary_against_a_search_by_binomials():
    """Of so many that differ, wins are binomial; the limit of q and what is spent on it are as the docstring has it."""
    m, epsilon, delta = 80, 0.05, 0.1
    boundary = trinomial_boundary(m, epsilon, delta)
    found = np.arange(m + 1)
    for differing in (0, 4, 9, 20, 40):
        limit = max(float(upper_limit(differing, m, 0.02 * delta)), epsilon)
        worst = np.zeros(2 * m + 1)
        for q in np.linspace(epsilon, limit, 60):
            most_wins = np.floor((found + np.arange(-m, m + 1)[:, None]) / 2)
            below = binom.cdf(most_wins, found, min(1.0, (1 + epsilon / q) / 2))
            worst = np.maximum(worst, below @ binom.pmf(found, m, q))
        most = int((worst <= 0.98 * delta).sum()) - m - 1
        wins = np.arange(differing + 1)
        rejected, differences = boundary.rejects(wins, differing - wins), 2 * wins - differing
        # never more than the search; at most a step of q less, which is one example here
        assert not (rejected & (differences > most)).any()
        assert rejected[differences <= most - 1].all()


@pytest.mark.parametrize(("plus", "minus", "epsilon"), [(0.05, 0.04, 0.01), (0.02, 0.0, 0.02), (0.3, 0.25, 0.05)])
def test_a_loss_of_just_epsilon_is_seldom_called_less(plus, minus, epsilon):
    m, delta, trials = 400, 0.2, 20_000
    counts = np.random.default_rng(0).multinomial(m, [plus, minus, 1 - plus - minus], size=trials)
    rejected = loses_no_more(counts[:, 0], counts[:, 1], m, epsilon, delta).mean()
    assert rejected <= delta + 4 * math.sqrt(delta * (1 - delta) / trials)


@pytest.mark.parametrize("m", [1000, 20_000])
def test_it_rejects_more_than_two_limits_where_the_models_differ(m):
    for share in (0.05, 0.15, 0.3):
        differing = int(share * m)
        wins = np.arange(differing + 1)
        exact = loses_no_more(wins, differing - wins, m, 0.01, 0.1)
        limits = rejected_by_limits(wins, differing - wins, m, 0.01, 0.1)
        assert exact[limits].all() and exact.sum() > limits.sum()
        # as sharp as a normal approximation with the same limit of q, but for a step of q and three counts
        spread = 1.2816 * math.sqrt(m * float(upper_limit(differing, m, 0.002)))
        assert (2 * wins - differing)[exact].max() >= m * 0.01 - 1.03 * spread - 3


def test_counts_of_any_shape_and_an_epsilon_of_nothing():
    assert loses_no_more(np.zeros((2, 3), int), np.zeros((2, 3), int), 1000, 0.01, 0.1).shape == (2, 3)
    assert loses_no_more(0, 0, 1000, 0.01, 0.1) and not loses_no_more(0, 0, 1000, 0.0, 0.1)
    assert loses_no_more(0, 50, 1000, 0.0, 0.1)  # the smaller model is the better one


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.3])
def test_the_least_epsilon_and_the_examples_it_takes(delta):
    for m in (30, 1000, 50_000):
        least = least_epsilon(m, delta)
        assert loses_no_more(0, 0, m, least * (1 + 1e-6), delta)
        assert not loses_no_more(0, 0, m, least * 0.995, delta)
        assert delta > 0.2 or examples_needed(least, delta) == m
    needed = examples_needed(0.004, delta)
    assert rejected_by_limits(0, 0, needed, 0.004, delta) and not rejected_by_limits(0, 0, needed - 1, 0.004, delta)
    with pytest.raises(ValueError, match="no number of examples"):
        examples_needed(0.0, delta)
