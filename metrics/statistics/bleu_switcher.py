"""Computes the switcher curves of translation, where S(f) is corpus BLEU of the mixed output.

BLEU isn't a mean over sentences, but its ten sufficient statistics are sums over them. So the sums of the mixture that
takes the k most uncertain sentences from the larger model are the small model's sums plus prefix sums of the
differences, which is exact at every k without scoring anything again. Inside a block of tied uncertainties, and between
two k, S is corpus BLEU of the expected statistics. Definitions: paper, section 3.3; Papineni et al. 2002 for BLEU.
"""

import numpy as np

from metrics.statistics.switcher import (
    FRACTIONS,
    Bounds,
    DeferralOrder,
    SwitcherStatistics,
    on_the_grid,
    sums_at,
    sums_at_knots,
)
from metrics.statistics.text import corpus_bleu


def switcher_bleu(
    deferral: DeferralOrder, small: np.ndarray, large: np.ndarray, positions: np.ndarray | None = None
) -> np.ndarray:
    """Computes corpus BLEU of the mixtures that take the first `positions` sentences from the larger model.

    Args:
        deferral: the sentences, most uncertain first.
        small: statistics of the small model's sentences, [n, 10] int32.
        large: statistics of the larger model's sentences, [n, 10] int32.
        positions: [F], 0 … n, need not be whole; 0, 1 … n if not given.

    Returns: [F] float64, 0-100.

    """
    positions = np.arange(deferral.examples + 1) if positions is None else positions
    differences = large.T.astype(np.int64) - small.T  # [10, n]
    at_knots = sums_at_knots(deferral, differences)  # [10, G + 1]
    whole = not deferral.tied and np.issubdtype(positions.dtype, np.integer)
    sums = at_knots[:, positions] if whole else np.round(sums_at(deferral, at_knots, positions), 9)
    return corpus_bleu((small.sum(axis=0, dtype=np.int64)[:, None] + sums).T)


def bleu_statistics_of_switchers(deferral: DeferralOrder, small: np.ndarray, large: np.ndarray) -> SwitcherStatistics:
    """Computes what `switcher_statistics` computes, of corpus BLEU / 100.

    From the BLEU statistics of a small run [n, 10] int32 and of J large runs [J, n, 10] int32. The area is that of the
    polygon through S(k/n) at k = 0 … n; the hump's maximum is over those values and the stored curve.
    """
    n = deferral.examples
    every = np.stack([switcher_bleu(deferral, small, one) for one in large]) / 100  # [J, n + 1]
    grid = FRACTIONS * n
    curve = np.stack([switcher_bleu(deferral, small, one, grid) for one in large]) / 100  # [J, 101]
    a, b = every[0, 0], every[:, -1]
    return SwitcherStatistics(
        area=(every.sum(axis=1) - (a + b) / 2) / n - (a + b) / 2,
        hump=np.maximum(np.maximum(every.max(axis=1), curve.max(axis=1)) - np.maximum(a, b), 0),
        **on_the_grid(curve, a, b),
    )


def bleu_bounds(small: np.ndarray, large: np.ndarray) -> Bounds:
    """Computes how high the curve of a random score peaks between equally good models, on each pair of runs.

    From BLEU statistics [R_small, n, 10] and [R_large, n, 10] int32. A sentence's d is its part in the change of corpus
    BLEU, to first order around the even mixture of the two outputs; from d on the formula is that of `bounds`. The
    other fields are NaN: no sentence is right or wrong, and a perfect router has no closed form, as its best choices
    depend on one another.
    """
    floor = np.empty((len(small), len(large)))
    for i, one in enumerate(small):
        for j, other in enumerate(large):
            floor[i, j] = np.sqrt(np.pi / 8) * np.sqrt(_changes(one, other).var() / len(one))
    unknown = np.full_like(floor, np.nan)
    return Bounds(unknown, unknown, floor, unknown, unknown)


def _changes(small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Computes n × the change of corpus BLEU / 100 that deferring each sentence makes, to first order: [n] float64.

    From statistics [n, 10] of both outputs, by the slope of log BLEU = min(0, 1 - r/h) + ¼ Σ (log m - log t), where r
    and h are the lengths of reference and hypothesis, m the matches and t the totals of n-grams. NaN where an order of
    n-grams has no match.
    """
    middle = (small.sum(axis=0) + large.sum(axis=0)) / 2.0
    score = float(corpus_bleu(middle)) / 100
    slope = np.zeros(10)
    if middle[0] < middle[1]:
        slope[0] = middle[1] / middle[0] ** 2 if middle[0] > 0 else np.nan
    with np.errstate(divide="ignore"):
        slope[2:6], slope[6:] = 1 / (4 * middle[2:6]), -1 / (4 * middle[6:])
    slope[~np.isfinite(slope)] = np.nan
    changes: np.ndarray = len(small) * score * ((large - small) @ slope)
    return changes
