"""Chooses a few lengths that stand for many, because each shape is compiled by itself."""

import numpy as np


def covering(longest: np.ndarray, buckets: int) -> np.ndarray:
    """Returns at most `buckets` values of `longest` [m], rising, to which all its values are rounded up.

    Of all such choices, its values grow by the least in sum.
    """
    values, counts = np.unique(longest, return_counts=True)  # [v]
    if len(values) <= buckets:
        return np.asarray(values)
    return np.asarray(values[cheapest_runs(values * between(counts), buckets)])


def between(counts: np.ndarray) -> np.ndarray:
    """Returns sums of `counts` [v], as [v + 1, v]: at [i, j], of counts i to j. Entries of i > j + 1 mean nothing."""
    below = np.concatenate([[0], np.cumsum(counts)])  # [v + 1]
    return np.asarray(below[1:] - below[:, None])


def cheapest_runs(costs: np.ndarray, most: int) -> np.ndarray:
    """Cuts v values in a row into at most `most` runs of the least total cost; returns each run's last index, rising.

    `costs` [v + 1, v] integer: at [i, j], i <= j, what a run of the values i to j costs; other entries are ignored.
    By dynamic programming, in `most`·v² steps.
    """
    v = costs.shape[1]
    backwards = np.arange(v + 1)[:, None] > np.arange(1, v + 1)
    costs = np.where(np.arange(v + 1)[:, None] > np.arange(v), 0, costs)  # an empty run is free: `most` may be too many
    # cost[j]: the least cost of the first j values in the runs so far
    cost = np.concatenate([[0], costs[0]])  # [v + 1]: one run
    cuts = []
    for _ in range(most - 1):
        # into[i, j - 1]: the first i values in the runs so far, those from i to j in one more
        into = cost[:, None] + costs  # [v + 1, v]
        into[backwards] = np.iinfo(np.int64).max
        cuts.append(into.argmin(0))  # [v]
        cost = np.concatenate([[0], into.min(0)])
    ends, j = [], v
    for cut in reversed(cuts):
        if j == 0:
            break
        ends.append(j - 1)
        j = int(cut[j - 1])
    if j:
        ends.append(j - 1)
    return np.unique(ends)
