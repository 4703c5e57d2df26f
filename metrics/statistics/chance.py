"""Computes what Table 1 would show of a score that knows nothing: the same values, dealt out to the examples at random.

The peak of a noisy curve is above both ends by chance alone. How far depends on how much the two models differ, on how
alike a size's runs rank, and on ties, so the reference keeps all of these: one permutation moves the scores of all
runs together, against the correctness of all runs together. Of many permutations the sums of a fixed vector over a
fixed set of ranks are jointly normal (Hoeffding 1951, "A combinatorial central limit theorem"), with the covariance of
sampling without replacement; so of more than 500 examples the curves are drawn from that normal distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.statistics.switcher import FRACTIONS, INTERIOR, DeferralOrder

DRAWS = 400
MOST_PERMUTED = 500  # examples; of more, the normal limit is near, and it costs less
_ROWS_AT_A_TIME = 128  # of a triangular matrix
_EXAMPLES_AT_A_TIME = 1 << 16  # of all runs, so that they fit a core's cache
HIGH = 0.95  # the quantile that is shown beside the mean


@dataclass(frozen=True)
class Chance:
    """Holds what a score that knows nothing would show in a cell of Table 1: mean and 95 % quantile, 0-1."""

    mean: float
    high: float


@dataclass(frozen=True)
class RankCells:
    """Cuts one run's ranks into cells that end where tie blocks do.

    A block that a grid fraction falls into, be it of one example, is a cell by itself: of its examples each is deferred
    by the share that the fraction takes of the block.
    """

    cell: np.ndarray  # [n] uint8, the cell of each example
    inside: np.ndarray  # [cells, 99], which share of a cell's examples is among the first 1 … 99 %, 0-1

    @classmethod
    def of_order(cls, deferral: DeferralOrder) -> "RankCells":
        """Returns the cells of an order of deferral, 199 or fewer."""
        n, knots = deferral.examples, deferral.knots
        positions = FRACTIONS[INTERIOR] * n
        right = np.searchsorted(knots, positions, side="left").clip(1)
        edges = np.unique(np.concatenate([[0, n], knots[right - 1], knots[right]]))
        lengths = np.diff(edges)
        cell = np.empty(n, dtype=np.uint8)
        cell[deferral.order] = np.repeat(np.arange(len(lengths), dtype=np.uint8), lengths)
        return cls(cell, ((positions[None, :] - edges[:-1, None]) / lengths[:, None]).clip(0, 1))


def chance_peaks(
    cells: Sequence[RankCells],
    small: np.ndarray,
    larger: Sequence[np.ndarray],
    covariance: np.ndarray,
    rng: np.random.Generator,
    noise: np.ndarray | None = None,
) -> list[Chance]:
    """Returns what a score that knows nothing would show in Table 1, for each larger size.

    Args:
        cells: of each small run's order by the score, R_S of them.
        small: correctness of the small runs, [R_S, n] bool, n ≥ 2.
        larger: correctness of the runs of each larger size, [R_L, n] bool each.
        covariance: `covariance_of_correctness` of the small runs and then all larger ones, [D, D].
        rng: what the permutations are drawn from.
        noise: what `correlated_noise` draws from `rng`, where several scores share it; None draws it anew.

    """
    starts = np.cumsum([0, *(len(large) for large in larger)])
    correct = np.concatenate(larger)
    if small.shape[1] <= MOST_PERMUTED:
        excess = _permuted(cells, small, correct, rng)
    else:
        noise = correlated_noise(len(cells), covariance, small.shape[1], rng) if noise is None else noise
        excess = _drawn(cells, noise)
    quality = small.mean(axis=1)
    return [
        _chance(excess[..., start:stop], correct[start:stop].mean(axis=1)[None, :] - quality[:, None])
        for start, stop in zip(starts, starts[1:])
    ]


def _chance(excess: np.ndarray, gap: np.ndarray) -> Chance:
    """Returns mean and quantile of Table 1's cell, from each curve's excess over its chord and b - a [R_S, R_L].

    The excess is [R_S, 99, draws, R_L]; a curve is seen from the small run's quality upwards.
    """
    runs, _, draws, larger = excess.shape
    peak = np.empty((runs, draws, larger))
    for run, of_run in enumerate(excess):  # one at a time, so that what is computed on the way fits a core's cache
        chord = FRACTIONS[INTERIOR][:, None] * gap[run]  # [99, R_L]
        np.max(chord[:, None, :] + of_run, axis=0, out=peak[run])
    peak -= np.maximum(gap, 0)[:, None, :]
    of_draws = peak.mean(axis=(0, 2))
    return Chance(float(of_draws.mean()), float(np.quantile(of_draws, HIGH)))


def _permuted(cells: Sequence[RankCells], small: np.ndarray, large: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns each curve's excess over its chord in permutations of the examples: [R_S, 99, draws, R_L] float32."""
    n = small.shape[1]
    order = np.stack([rng.permutation(n) for _ in range(DRAWS)])  # [draws, n]
    excess = np.empty((len(small), len(FRACTIONS[INTERIOR]), DRAWS, len(large)), dtype=np.float32)
    for run, (cell, own) in enumerate(zip(cells, small, strict=True)):
        gains = large.astype(np.float32) - own  # [R_L, n]
        centred = gains - gains.mean(axis=1, keepdims=True)
        deferred = cell.inside[cell.cell].astype(np.float32)  # [n, 99]
        sums = centred.take(order, axis=1) @ deferred  # [R_L, draws, n] @ [n, 99]
        excess[run] = np.moveaxis(sums, -1, 0).swapaxes(1, 2) / n
    return excess


def correlated_noise(runs: int, covariance: np.ndarray, examples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws normal numbers for `chance_peaks`, which rest on no score: [R_S · 99, draws / 2, D] float32.

    `runs` is R_S, `covariance` [D, D] that of all runs' correctness over so many `examples`, small runs first.
    """
    values, vectors = np.linalg.eigh(covariance / examples)
    mixing = (vectors * np.sqrt(values.clip(0))).astype(np.float32)  # [D, D]
    shape = (runs * len(FRACTIONS[INTERIOR]), DRAWS // 2, len(covariance))
    noise: np.ndarray = rng.standard_normal(shape, dtype=np.float32) @ mixing.T
    return noise


def _drawn(cells: Sequence[RankCells], noise: np.ndarray) -> np.ndarray:
    """Returns what `_permuted` does in the limit of many examples, from `correlated_noise` and its negative."""
    runs, number = len(cells), noise.shape[2]
    spread = spread_of_sums(cells).astype(np.float32)  # [R_S · 99, R_S · 99]
    sums = times_lower_triangular(spread, noise.reshape(len(noise), -1)).reshape(runs, -1, DRAWS // 2, number)
    own = np.stack([sums[run, ..., run] for run in range(runs)])  # [R_S, 99, draws / 2]
    excess = sums[..., runs:] - own[..., None]
    return np.concatenate([excess, -excess], axis=2)


def times_lower_triangular(factor: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Multiplies a lower triangular matrix [D, D] by columns [D, N], leaving out most of the zeros: [D, N]."""
    product = np.empty_like(columns)
    for start in range(0, len(factor), _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, len(factor))
        np.matmul(factor[start:stop, :stop], columns[:stop], out=product[start:stop])
    return product


def covariance_of_correctness(correct: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the covariance over examples of whether each run is right, [D, D] float64, from [R, n] bool of each size.

    Of n examples it is divided by n - 1, as a sum over examples drawn without replacement has it (Cochran 1977, theorem
    2.2); n is 2 or more.
    """
    n = correct[0].shape[1]
    both = np.zeros((sum(len(runs) for runs in correct),) * 2)
    for start in range(0, n, _EXAMPLES_AT_A_TIME):
        some = slice(start, start + _EXAMPLES_AT_A_TIME)  # of whole numbers below 2²⁴, float32 makes exact sums
        right = np.concatenate([runs[:, some] for runs in correct]).astype(np.float32)
        both += right @ right.T
    right_of_each = both.diagonal()
    covariance: np.ndarray = (both - np.outer(right_of_each, right_of_each) / n) / (n - 1)
    return covariance


def spread_of_sums(cells: Sequence[RankCells]) -> np.ndarray:
    """Returns a factor A, with A Aᵀ the covariance of the shares of n examples that two runs defer together.

    Of runs i and k at fractions f and g that is |first f of i and first g of k| / n - f g: [R · 99, R · 99] float64.
    """
    runs, n, fractions = len(cells), len(cells[0].cell), FRACTIONS[INTERIOR]
    covariance = np.empty((runs, len(fractions), runs, len(fractions)))
    for i, one in enumerate(cells):
        for k, other in enumerate(cells[: i + 1]):
            width = len(other.inside)
            cell = one.cell.astype(np.uint16) * np.uint16(width) + other.cell  # below 199², which two bytes hold
            together = np.bincount(cell, minlength=len(one.inside) * width).reshape(-1, width)
            deferred = one.inside.T @ together @ other.inside / n - _product_of_means(one, other, together, n)
            covariance[i, :, k], covariance[k, :, i] = deferred, deferred.T
    flat = covariance.reshape(runs * len(fractions), -1)
    # of ties the matrix has a lower rank than its size: what is added is far below the noise that is drawn
    factor: np.ndarray = np.linalg.cholesky(flat + 1e-9 * np.eye(len(flat)))
    return factor


def _product_of_means(one: RankCells, other: RankCells, together: np.ndarray, n: int) -> np.ndarray:
    """Returns the product of the shares that each run defers by itself, [99, 99]."""
    deferred_by_one, deferred_by_other = together.sum(axis=1) @ one.inside / n, together.sum(axis=0) @ other.inside / n
    return np.outer(deferred_by_one, deferred_by_other)
