"""Routes examples through chains of models by thresholds on each one's uncertainty, at every combination of thresholds.

In a chain an example starts at the first, smallest model and goes on to the next while the present one's score is at
least its threshold; every model that is asked is paid for. A pair is a chain of two, a model alone a chain of one.
Cascades of models with thresholds on their confidence: Chen et al. 2023, arXiv 2305.05176; with joint choice and beside
routing: Dekoninck et al. 2025, arXiv 2410.10347.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class ChainGrid:
    """Holds what a chain of K models gives at every combination of thresholds, each axis one model's but the last's."""

    quality: np.ndarray  # [L, …, L], K − 1 axes: the share of examples that are right
    cost: np.ndarray  # the same shape: mean cost an example


def bins_of(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Returns how many of the ascending thresholds [L] each score [m] reaches: [m] int, 0 … L.

    At threshold number g, 0 … L − 1, an example goes on if its bin is above g; with the first −inf all do.
    """
    return np.searchsorted(thresholds, scores, side="right")


def score_thresholds(scores: np.ndarray, levels: int) -> np.ndarray:
    """Returns L = levels + 1 ascending thresholds: −inf, the quantiles between, and inf, of which none goes on."""
    inner = np.quantile(scores, np.arange(1, levels) / levels, method="higher")
    return np.concatenate([[-np.inf], inner, [np.inf]])


def chain_grid(
    bins: Sequence[np.ndarray], correct: Sequence[np.ndarray], costs: Sequence[float], levels: int
) -> ChainGrid:
    """Computes a chain of K models at all combinations of L = levels + 1 thresholds of each model but the last.

    `bins` are the first K − 1 models' [m], `correct` all K models' [m] bool, `costs` what each costs an example. Sums
    are taken in cells of bins, and cumulated along each axis.
    """
    axes, m = len(correct) - 1, len(correct[0])
    size = levels + 2  # bins 0 … L
    place = np.zeros(m, dtype=np.int64)
    for one in bins:
        place = place * size + one
    shape = (size,) * axes
    quality, cost = np.zeros((levels + 1,) * axes), np.zeros((levels + 1,) * axes)
    ones = np.ones(m)
    for k in range(axes + 1):
        right = np.bincount(place, weights=correct[k], minlength=size**axes).reshape(shape)
        asked = np.bincount(place, weights=ones, minlength=size**axes).reshape(shape)
        for axis in range(axes):
            right = _region(right, axis, k, stops=True)
            asked = _region(asked, axis, k, stops=False)
        quality += right / m
        cost += costs[k] * asked / m
    return ChainGrid(quality, cost)


def _region(sums: np.ndarray, axis: int, model: int, stops: bool) -> np.ndarray:
    """Sums along one model's bins those that come to a later `model`: at each threshold, [L + 1] -> [L] on that axis.

    Before `model` on the axis: those that go on. At it: those that stop there, or all where `stops` is False. After it:
    all, whatever the threshold.
    """
    total = np.cumsum(sums, axis=axis)
    every = total.take([-1], axis=axis)
    below = total.take(range(sums.shape[axis] - 1), axis=axis)  # bins 0 … g: those that stop at threshold g
    if axis < model:
        return np.asarray(every - below)
    if axis == model and stops:
        return below
    return np.broadcast_to(every, below.shape)


def answering_model(scores: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Returns which model of a chain of K answers each example: [m] int, 0 … K − 1.

    From the scores of all models but the last, [K − 1, m], and their thresholds.
    """
    model = np.zeros(scores.shape[1], dtype=np.int64)
    going = np.ones(scores.shape[1], dtype=bool)
    for own, threshold in zip(scores, thresholds, strict=True):
        going &= own >= threshold
        model += going
    return model


def best_within(grids: Sequence[ChainGrid], budget: float) -> tuple[int, tuple[int, ...]] | None:
    """Returns which grid, and where in it, has the best quality at a cost of at most `budget`; the cheapest of equals.

    None where nothing is as cheap.
    """
    best: tuple[float, float, int, tuple[int, ...]] | None = None
    for number, grid in enumerate(grids):
        affordable = grid.cost <= budget * (1 + 1e-9)
        if not affordable.any():
            continue
        quality = np.where(affordable, grid.quality, -np.inf)
        top = quality.max()
        cost = np.where(quality >= top - 1e-12, grid.cost, np.inf)
        place = tuple(int(k) for k in np.unravel_index(int(cost.argmin()), cost.shape))
        found = (-float(top), float(cost[place]), number, place)
        if best is None or found[:2] < best[:2]:
            best = found
    return None if best is None else (best[2], best[3])


def cheapest_correct(correct: np.ndarray, costs: Sequence[float]) -> tuple[float, float]:
    """Returns the quality and the mean cost of an oracle that sends each example to the cheapest model that is right.

    `correct` is [K, m] bool; where none is right the cheapest of all answers (the oracle of LLMRouterBench: Li et al.
    2026, arXiv 2601.07206). It pays for the model that answers alone.
    """
    price = np.asarray(costs, dtype=np.float64)
    solved = correct.any(axis=0)
    paid = np.where(solved, np.where(correct, price[:, None], np.inf).min(axis=0), price.min())
    return float(solved.mean()), float(paid.mean())
