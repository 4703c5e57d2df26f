"""Gives churn an interval from variance components: a jackknife over runs, and influences of examples."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from metrics.statistics.churn import CUT_PERCENT
from metrics.statistics.components import Variance, combined, example_component, mean_example_variance, run_component
from metrics.statistics.switcher import DeferralOrder, percentiles, sums_before

if TYPE_CHECKING:
    from metrics.bootstrap.threads import ParallelMap


def churn_variance(
    prediction: np.ndarray,
    ranking: Sequence[DeferralOrder],
    same_size: bool,
    rows: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    parallel_map: "ParallelMap" = map,
) -> list[Variance]:
    """Returns the variance of churn in each of Table 2's five buckets.

    A bucket's churn is a U-statistic of order 2 over the churning size's runs, and a mean over the runs that rank. Runs
    are left out one at a time (the jackknife of a U-statistic: Arvesen 1969); where a size ranks its own churn, a run
    leaves both at once. Of two runs, which are one pair, no spread over runs is known: `runs` of the result is False.

    Args:
        prediction: [R, n] int, answers of the churning size's runs, R ≥ 2.
        ranking: how each ranking run's margin defers, U of them; of the same runs in the same order if `same_size`.
        same_size: whether the ranking runs are those of `prediction`.
        rows: [m] int, a random part of the examples, whose influence is taken; None for all n.
        clusters: [m] int, which of `rows` are drawn together; None that each is drawn by itself.
        parallel_map: maps the ranking runs side by side.

    """
    runs, n = prediction.shape
    rows = np.arange(n) if rows is None else rows
    differing, leaving = _pairs_of_runs(prediction)  # [P, n], [1 + R, P]
    of_rows = leaving @ differing[:, rows]  # [1 + R, m]: mean over all pairs, then over those without each run
    churn = np.empty((len(ranking), len(leaving), 5))
    influence = np.empty((len(ranking), len(leaving), 5, len(rows)), dtype=np.float32)

    def of_ranking(u: int) -> None:
        churn[u], influence[u] = _bucket_influence(ranking[u], differing, leaving, of_rows, rows)

    list(parallel_map(of_ranking, range(len(ranking))))
    result = []
    for bucket in range(5):
        values, of_examples = churn[..., bucket], influence[..., bucket, :]
        factors = []  # (values [levels], influence [levels, m]) of each factor of runs
        if same_size and runs > 2:
            others = [np.arange(runs) != run for run in range(runs)]
            left = np.array([values[others[k], 1 + k].mean() for k in range(runs)])
            left_influence = np.array([of_examples[others[k], 1 + k].mean(axis=0) for k in range(runs)])
            factors.append(_pseudo(values[:, 0].mean(), left, of_examples[:, 0].mean(axis=0), left_influence))
        elif not same_size:
            if runs > 2:
                means = values.mean(axis=0), of_examples.mean(axis=0)
                factors.append(_pseudo(means[0][0], means[0][1:], means[1][0], means[1][1:]))
            factors.append((values[:, 0], of_examples[:, 0]))
        examples = of_examples[:, 0].mean(axis=0)
        found = combined(
            [run_component(of_runs) for of_runs, _ in factors],
            None,
            example_component(examples, n, clusters),
            [mean_example_variance(own, n, clusters) for _, own in factors],
        )
        result.append(replace(found, runs=found.runs and runs > 2))
    return result


def overall_churn_variance(
    prediction: np.ndarray, rows: np.ndarray | None = None, clusters: np.ndarray | None = None
) -> Variance:
    """Returns the variance of churn over all examples, the share of them on which two runs differ.

    It is a U-statistic of order 2 over the runs (Arvesen 1969) and a mean over examples. Of two runs, which are one
    pair, no spread over runs is known: `runs` of the result is False. Arguments are those of `churn_variance`.
    """
    runs, n = prediction.shape
    rows = np.arange(n) if rows is None else rows
    differing, leaving = _pairs_of_runs(prediction)  # [P, n], [1 + R, P]
    churn = leaving @ differing.mean(axis=1)  # [1 + R]
    influence = leaving @ differing[:, rows] - churn[:, None]  # [1 + R, m]
    factors = [_pseudo(float(churn[0]), churn[1:], influence[0], influence[1:])] if runs > 2 else []
    found = combined(
        [run_component(of_runs) for of_runs, _ in factors],
        None,
        example_component(influence[0], n, clusters),
        [mean_example_variance(own, n, clusters) for _, own in factors],
    )
    return replace(found, runs=runs > 2)


def _pairs_of_runs(prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each pair of R runs differs, [P, n] int8, and weights of pairs, [1 + R, P].

    The first row of weights averages all pairs, the next ones those without each run; of two runs there is only the
    first row.
    """
    runs = len(prediction)
    pairs = list(combinations(range(runs), 2))
    differing = np.array([prediction[k] != prediction[m] for k, m in pairs]).view(np.int8)
    weights = [np.full(len(pairs), 1 / len(pairs))]
    if runs > 2:
        for run in range(runs):
            weights.append(np.array([run not in pair for pair in pairs]) * 2 / ((runs - 1) * (runs - 2)))
    return differing, np.array(weights)


def _bucket_influence(
    deferral: DeferralOrder, differing: np.ndarray, leaving: np.ndarray, of_rows: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns churn in the buckets of one ranking run, [W, 5], and each row's influence on it, [W, 5, m].

    With L(q) the mean of D 1(F ≤ q), D how much an example differs and F its place by ascending uncertainty, a bucket's
    churn is (L(high) − L(low)) / (high − low). Its cuts are quantiles, so that the influence on L(q) is
    (D − D(q)) 1(F ≤ q) + q D(q) − L(q) with D(q) the mean of D at the cut, as of a Lorenz curve (Cowell and
    Flachaire 2015, section 4).
    """
    n, shares = deferral.examples, np.diff(CUT_PERCENT) / 100
    cuts = CUT_PERCENT[1:-1] / 100
    window = max(25.0, 0.01 * n)  # of ranks to either side of a cut: as many as tell a mean, few enough to be near it
    from_cuts = (100 - CUT_PERCENT[::-1]) * n / 100
    ends = np.stack([(1 - cuts) * n - window, (1 - cuts) * n + window]).clip(0, n)
    sums = _sums_at_few(deferral, differing, np.concatenate([from_cuts, *ends]))  # [P, 6 + 4 + 4], most uncertain first
    at_cuts, before, after = np.split(sums, [6, 10], axis=1)
    lorenz = leaving @ (at_cuts[:, -1:] - at_cuts)[:, ::-1] / n  # [W, 6], L at 0, 50 … 100 %
    inside = (after - before) / np.diff(ends, axis=0)[0]
    level = leaving @ inside  # [W, 4], D at each cut
    place = percentiles(deferral)[rows] / 100
    below = place[None, :] <= cuts[:, None]  # [4, m]
    moving = (of_rows[:, None] - level[..., None]) * below + (level * cuts - lorenz[:, 1:-1])[..., None]  # [W, 4, m]
    whole = (of_rows - lorenz[:, -1:])[:, None]  # [W, 1, m]
    edges = np.concatenate([np.zeros_like(whole), moving, whole], axis=1)
    return np.diff(lorenz, axis=1) / shares, np.diff(edges, axis=1) / shares[:, None]


def _sums_at_few(deferral: DeferralOrder, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns what `sums_at` does, [P, n] int8 and [F] -> [P, F] float64, without the sums at every other knot."""
    right = np.searchsorted(deferral.knots, positions, side="left").clip(1)
    left_knot, right_knot = deferral.knots[right - 1], deferral.knots[right]
    sums = sums_before(values.take(deferral.order, axis=1), np.concatenate([left_knot, right_knot]))
    low, high = np.split(sums, 2, axis=1)
    expected: np.ndarray = low + (positions - left_knot) / (right_knot - left_knot) * (high - low)
    return expected


def _pseudo(
    whole: float, left: np.ndarray, whole_influence: np.ndarray, left_influence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the jackknife's pseudo-values R θ − (R − 1) θ_(−k), [R], and the same of the influences, [R, m]."""
    runs = len(left)
    return runs * whole - (runs - 1) * left, runs * whole_influence - (runs - 1) * left_influence
