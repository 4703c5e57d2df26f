"""A few lengths that stand for many, because each shape is compiled by itself."""

import numpy as np


def covering(longest: np.ndarray, buckets: int) -> np.ndarray:
    """At most `buckets` of the values of `longest` [m], sorted, that cover it with the least sum of roundings up."""
    values, counts = np.unique(longest, return_counts=True)  # [v]
    v = len(values)
    if v <= buckets:
        return values
    below = np.concatenate([[0], np.cumsum(counts)])  # [v + 1]: batches with one of the first j values
    # cost[j]: the least cost of the first j values with the buckets so far, the last of them at values[j - 1].
    cost = np.concatenate([[0], values * below[1:]])  # [v + 1]: one bucket
    cuts = []
    for _ in range(buckets - 1):
        # into[i, j - 1]: the first i values by the buckets so far, those from i to j by one more.
        into = cost[:, None] + values * (below[1:] - below[:, None])  # [v + 1, v]
        into[np.arange(v + 1)[:, None] > np.arange(1, v + 1)] = np.iinfo(np.int64).max
        cuts.append(into.argmin(0))  # [v]
        cost = np.concatenate([[0], into.min(0)])
    chosen, j = [], v
    for cut in reversed(cuts):
        if j == 0:
            break
        chosen.append(values[j - 1])
        j = int(cut[j - 1])
    if j:
        chosen.append(values[j - 1])
    return np.unique(chosen)
