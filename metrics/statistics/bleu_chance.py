"""Computes what Table 1 would show of a score that knows nothing where S(f) is corpus BLEU: as `chance.py`, of sums.

BLEU follows from sums of sentences' n-gram counts. Dealt out at random, the sums over the sentences that a run defers
are those of a random part of them: of up to 500 sentences they are counted in permutations, of more they are drawn from
their joint normal limit (Hoeffding 1951), for all runs and counts together. BLEU itself is then computed of each draw.
"""

from collections.abc import Sequence

import numpy as np

from metrics.statistics.chance import (
    HIGH,
    MOST_PERMUTED,
    Chance,
    RankCells,
    spread_of_sums,
    times_lower_triangular,
)
from metrics.statistics.switcher import FRACTIONS, INTERIOR
from metrics.statistics.text import corpus_bleu

BLEU_DRAWS = 200
_DRAWS_AT_A_TIME = 20
_COUNTS = 9  # the reference's length, then matches and totals of 1- to 4-grams
_LENGTH = 5  # among them, the total of 1-grams: the hypothesis' length


def bleu_chance_peaks(
    cells: Sequence[RankCells], small: np.ndarray, larger: Sequence[np.ndarray], rng: np.random.Generator
) -> list[Chance]:
    """Returns what a score that knows nothing would show in Table 1, of BLEU / 100, for each larger size.

    Args:
        cells: of each small run's order by the score, R_S of them.
        small: BLEU statistics of the small runs' sentences, [R_S, n, 10], n ≥ 2.
        larger: those of the runs of each larger size, [R_L, n, 10] each.
        rng: what the permutations are drawn from.

    """
    return [_chance(cells, small, large, rng) for large in larger]


def _chance(cells: Sequence[RankCells], small: np.ndarray, large: np.ndarray, rng: np.random.Generator) -> Chance:
    """Returns mean and quantile of Table 1's cell of one larger size."""
    counts = np.concatenate([small, large])[:, :, 1:].astype(np.float64)  # [D, n, 9]
    runs, n = len(cells), counts.shape[1]
    permuted = n <= MOST_PERMUTED
    spread = np.zeros((0, 0), np.float32) if permuted else spread_of_sums(cells).astype(np.float32)
    mixing = np.zeros((0, 0), np.float32) if permuted else _mixing(counts)
    of_draws = []
    for _ in range(0, BLEU_DRAWS, _DRAWS_AT_A_TIME):
        sums = _permuted_sums(cells, counts, rng) if permuted else _normal_sums(runs, spread, mixing, rng)
        of_draws.append(_mean_peaks(sums, counts.sum(axis=1), runs))
    peaks = np.concatenate(of_draws)
    return Chance(float(peaks.mean()), float(np.quantile(peaks, HIGH)))


def _mean_peaks(sums: np.ndarray, totals: np.ndarray, runs: int) -> np.ndarray:
    """Returns the mean over pairs of runs of Table 1's cell in each draw: [draws].

    `sums` [R_S, 99, draws, D, 9] are by how much the counts of D runs over what each small run defers are above their
    share; `totals` [D, 9] are the counts over all sentences.
    """
    quality = _bleu(totals)
    share = FRACTIONS[INTERIOR][:, None, None, None]
    peaks = np.zeros(sums.shape[2])
    for run, by_run in enumerate(sums):
        gained = by_run[:, :, runs:] - by_run[:, :, run : run + 1]  # [99, draws, R_L, 9]
        mixed = totals[run] + share * (totals[runs:] - totals[run]) + gained
        best = np.maximum(quality[run], quality[runs:])
        peaks += (_bleu(np.maximum(mixed, 0)).max(axis=0) - best).mean(axis=1)
    mean: np.ndarray = peaks / runs
    return mean


def _bleu(counts: np.ndarray) -> np.ndarray:
    """Returns corpus BLEU / 100 from sums of counts [..., 9]: [...]."""
    return corpus_bleu(np.concatenate([counts[..., _LENGTH, None], counts], axis=-1)) / 100


def _permuted_sums(cells: Sequence[RankCells], counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns sums over what each run defers, less their share, in permutations: [R_S, 99, draws, D, 9]."""
    number, n, _ = counts.shape
    centred = (counts - counts.mean(axis=1, keepdims=True)).transpose(1, 0, 2).reshape(n, -1)  # [n, D · 9]
    order = np.stack([rng.permutation(n) for _ in range(_DRAWS_AT_A_TIME)])
    dealt = centred.take(order, axis=0)  # [draws, n, D · 9]
    sums = np.stack([one.inside[one.cell].T @ dealt for one in cells])  # [R_S, draws, 99, D · 9]
    return sums.swapaxes(1, 2).reshape(len(cells), -1, _DRAWS_AT_A_TIME, number, _COUNTS)


def _mixing(counts: np.ndarray) -> np.ndarray:
    """Returns a factor of n times the covariance of all runs' counts [D, n, 9] over sentences: [D · 9, D · 9]."""
    n = counts.shape[1]
    columns = counts.transpose(0, 2, 1).reshape(-1, n)
    values, vectors = np.linalg.eigh(n * np.cov(columns))
    factor: np.ndarray = (vectors * np.sqrt(values.clip(0))).astype(np.float32)
    return factor


def _normal_sums(runs: int, spread: np.ndarray, mixing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns what `_permuted_sums` does in the limit of many sentences, from normal draws of both signs."""
    half = _DRAWS_AT_A_TIME // 2
    noise = rng.standard_normal((len(spread), half, len(mixing)), dtype=np.float32) @ mixing.T
    sums = times_lower_triangular(spread, noise.reshape(len(noise), -1))
    sums = sums.reshape(runs, -1, half, len(mixing) // _COUNTS, _COUNTS)
    return np.concatenate([sums, -sums], axis=2)
