"""Lays a path of thresholds through a chain: from the safest, which defers all, to the cheapest, which defers none."""

from collections.abc import Sequence

import numpy as np

from metrics.statistics.policies.routing import Member, mixed, quality_of_sums, stage_reached

PAIR_STEPS = 200  # shares deferred that a pair's path tries: 1, 0.995 … 0
CHAIN_STEPS = 40  # of each stage of a longer chain


def path_of(chain: Sequence[Member], score: str, rows: np.ndarray) -> np.ndarray:
    """Returns the path of a chain of K stages, chosen on the examples `rows` alone: thresholds [T, K - 1] float64.

    The first row is -inf throughout (the last stage answers all), the last row inf (the first stage does), and no
    threshold falls from a row to the next, so that along the path fewer and fewer examples are deferred.
    """
    if len(chain) == 2:
        return levels(chain[0].uncertainty[score][rows], PAIR_STEPS)[:, None]
    return _greedy_path(chain, score, rows)


def levels(score: np.ndarray, steps: int) -> np.ndarray:
    """Returns thresholds that defer the shares 1, 1 - 1/steps … 1/steps, 0 of the scores [n]: ascending, distinct."""
    ranked = np.sort(score)[::-1]
    shares = np.arange(steps, 0, -1) / steps
    places = np.ceil(shares * len(ranked) - 1e-9).astype(int) - 1
    distinct = np.unique(ranked[places])
    return np.concatenate([[-np.inf], distinct[np.isfinite(distinct)], [np.inf]])


def _greedy_path(chain: Sequence[Member], score: str, rows: np.ndarray) -> np.ndarray:
    """Raises one stage's threshold by one level at a time, where the least quality is lost for the cost that it saves.

    Any path is valid that doesn't depend on the examples that test it; a good one saves much before it loses much.
    """
    scores = [member.uncertainty[score][rows] for member in chain[:-1]]
    qualities = [member.quality[rows] for member in chain]
    costs = np.cumsum([member.cost for member in chain])
    grids = [levels(values, CHAIN_STEPS) for values in scores]
    places = [0] * len(grids)

    def outcome(at: Sequence[int]) -> tuple[float, float]:
        """Returns quality and mean cost with each stage's threshold at that place of its levels."""
        stage = stage_reached(scores, np.array([grid[place] for grid, place in zip(grids, at)]))
        sums = mixed(qualities, stage).sum(axis=0, dtype=np.int64)
        return float(quality_of_sums(sums[None], len(rows))[0]), float(costs[stage].mean())

    quality, cost = outcome(places)
    path = [[grid[0] for grid in grids]]
    while any(place < len(grid) - 1 for grid, place in zip(grids, places)):
        best: tuple[float, int, float, float] | None = None
        for k, grid in enumerate(grids):
            if places[k] == len(grid) - 1:
                continue
            moved = [place + (i == k) for i, place in enumerate(places)]
            new_quality, new_cost = outcome(moved)
            saved = cost - new_cost
            rate = (new_quality - quality) / saved if saved > 0 else np.inf  # what changes nothing is passed at once
            if best is None or rate > best[0]:
                best = (rate, k, new_quality, new_cost)
        assert best is not None
        _, k, quality, new_cost = best
        places[k] += 1
        row = [grid[place] for grid, place in zip(grids, places)]
        if new_cost == cost and len(path) > 1:
            path[-1] = row
        else:
            path.append(row)
        cost = new_cost
    return np.array(path)
