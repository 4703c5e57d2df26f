"""Measures how far retrained mixtures of two models agree: their churn and their ambiguity, by the share deferred.

A mixture answers with the smaller run, and with the larger one where it defers. Retraining it means new runs of both.
Its churn is the chance that two trainings answer differently (Milani Fard et al. 2016); its ambiguity is the share of
examples on which not all trainings agree (Marx, Calmon and Ustun 2020, arXiv 1909.06677; both of near-equal models:
Watson-Daniels et al. 2024, arXiv 2402.07745). Ambiguity grows with the number of trainings, churn doesn't.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metrics.statistics.components import Variance, combined, example_component, mean_example_variance, run_component
from metrics.statistics.switcher import DeferralOrder, parts_deferred

_AT_A_TIME = 2048  # examples, so that what is computed of a pair of trainings fits a core's cache
_WINDOW = 0.01  # of the examples to either side of a cut, which tell what moving the cut changes


@dataclass
class Multiplicity:
    """Holds how far the trainings of a mixture agree at F shares deferred. Fractions, 0-1."""

    trainings: int
    churn: np.ndarray  # [F]
    ambiguity: np.ndarray  # [F]
    change: np.ndarray  # [F], churn minus that at the first share
    churn_variance: list[Variance]  # [F]
    change_variance: list[Variance]  # [F]


def mixture_multiplicity(
    small: np.ndarray,
    large: np.ndarray,
    orders: Sequence[DeferralOrder],
    shares: np.ndarray,
    rows: np.ndarray,
    clusters: np.ndarray | None = None,
) -> Multiplicity:
    """Measures how far R mixtures agree, the r-th of which has the r-th small and the r-th large run, R ≥ 2.

    Churn is a U-statistic of order 2 over trainings, so its variance is the jackknife's (Arvesen 1969), with the
    examples as a crossed factor; the cuts, which are quantiles, move with the examples, as in Table 2's.

    Args:
        small: [R, m] int, the small runs' answers on `rows`.
        large: [R, m] int, the large runs'.
        orders: in which each small run defers, over all n examples.
        shares: [F], deferred, 0-1; churn is compared with that at the first.
        rows: [m] int, the examples that are looked at, all n or a random part.
        clusters: [m] int, which of `rows` are drawn together; None that each is drawn by itself.

    """
    parts = np.stack([parts_deferred(order, rows, shares) for order in orders])  # [R, F, m]
    near = np.stack(
        [
            parts_deferred(order, rows, (shares + _WINDOW).clip(0, 1))
            - parts_deferred(order, rows, (shares - _WINDOW).clip(0, 1))
            for order in orders
        ]
    )  # [R, F, m], where the cut moves to
    by_training, by_cut = _differing(small, large, parts)  # [R, F, m] each
    runs, n = len(small), orders[0].examples
    total = by_training.sum(axis=0) / 2  # [F, m], how many pairs differ
    whole = total * 2 / (runs * (runs - 1))
    slope = (near * by_cut).sum(axis=-1) / np.maximum(near.sum(axis=-1), 1e-9) / (runs - 1)  # [R, F]
    moved = slope[..., None] * (parts - shares[:, None])  # [R, F, m]
    influence = whole - 2 / runs * moved.sum(axis=0)
    values, own = None, None  # the jackknife's pseudo-values [R, F], and each one's influence [R, F, m]
    if runs > 2:
        left = (total - by_training) * 2 / ((runs - 1) * (runs - 2))
        left_influence = left - 2 / (runs - 1) * (moved.sum(axis=0) - moved)
        values = runs * whole.mean(axis=-1) - (runs - 1) * left.mean(axis=-1)
        own = runs * influence - (runs - 1) * left_influence
    churn = whole.mean(axis=-1)
    return Multiplicity(
        trainings=runs,
        churn=churn,
        ambiguity=_ambiguity(small, large, parts),
        change=churn - churn[0],
        churn_variance=_variances(influence, values, own, n, clusters),
        change_variance=_variances(
            influence - influence[0],
            None if values is None else values - values[:, :1],
            None if own is None else own - own[:, :1],
            n,
            clusters,
        ),
    )


def _variances(
    influence: np.ndarray, values: np.ndarray | None, own: np.ndarray | None, n: int, clusters: np.ndarray | None
) -> list[Variance]:
    """Returns the variance at each share, of examples' influence [F, m], and trainings' values [R, F] and influence."""
    result = []
    for k, row in enumerate(influence):
        examples = example_component(row, n, clusters)
        if values is None or own is None:
            result.append(replace(combined([], None, examples, []), runs=False))
            continue
        shared = mean_example_variance(own[:, k], n, clusters)
        result.append(combined([run_component(values[:, k])], None, examples, [shared]))
    return result


def _differing(small: np.ndarray, large: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts with how many other trainings each one differs, expected over ties: answers [R, m], parts [R, F, m].

    Returns that count [R, F, m], and how much it is higher where the training defers than where it doesn't, [R, F, m].
    """
    counts, steps = np.zeros_like(parts), np.zeros_like(parts)
    for start in range(0, small.shape[1], _AT_A_TIME):
        some = slice(start, start + _AT_A_TIME)
        _add_differing(small[:, some], large[:, some], parts[..., some], counts[..., some], steps[..., some])
    return counts, steps


def _add_differing(
    small: np.ndarray, large: np.ndarray, parts: np.ndarray, counts: np.ndarray, steps: np.ndarray
) -> None:
    """Adds what `_differing` returns of some examples to its two results."""
    runs = len(small)
    for i in range(runs):
        for k in range(i + 1, runs):
            both_small, both_large = small[i] != small[k], large[i] != large[k]
            first_large, second_large = large[i] != small[k], small[i] != large[k]
            of_i, of_k = parts[i], parts[k]
            # what training i differs by where it defers, and where it doesn't; then the same of k
            i_large = first_large + of_k * (both_large.astype(np.int8) - first_large)
            i_small = both_small + of_k * (second_large.astype(np.int8) - both_small)
            k_large = second_large + of_i * (both_large.astype(np.int8) - second_large)
            k_small = both_small + of_i * (first_large.astype(np.int8) - both_small)
            differ = i_small + of_i * (i_large - i_small)
            counts[i] += differ
            counts[k] += differ
            steps[i] += i_large - i_small
            steps[k] += k_large - k_small


def _ambiguity(small: np.ndarray, large: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Returns on what share of the examples not all trainings agree, expected over ties: [F].

    All agree on the first training's answer, which is that of its small or of its large run.
    """
    agree = np.zeros(parts.shape[1:])
    for answer, counts in ((small[0], np.ones(small.shape[1], dtype=bool)), (large[0], large[0] != small[0])):
        chance = np.broadcast_to(counts, agree.shape).astype(np.float64)
        for own, theirs, deferred in zip(small, large, parts, strict=True):
            chance = chance * (deferred * (theirs == answer) + (1 - deferred) * (own == answer))
        agree += chance
    ambiguity: np.ndarray = 1 - agree.mean(axis=1)
    return ambiguity
