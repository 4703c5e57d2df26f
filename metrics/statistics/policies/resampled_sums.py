"""Resamples sums over examples, or over the clusters that they come in, for percentile intervals of what follows."""

import numpy as np

from metrics.statistics.policies.promises import share_interval

RESAMPLES = 2000
_NUMBERS_AT_A_TIME = 1 << 24


def resampled_sums(values: np.ndarray, clusters: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sums of `values` [m, W] int64 over bootstrap samples, and how many examples each has: [B, W] and [B].

    A sample draws m examples or, of `clusters` [m] int, as many whole clusters as there are, so that its number of
    examples varies. What is alike is drawn together, by its number, which takes the same draws far less time.
    """
    units = np.append(values, np.ones((len(values), 1), np.int64), axis=1)
    if clusters is not None:
        order = np.argsort(clusters, kind="stable")
        units = np.add.reduceat(units[order], np.unique(clusters[order], return_index=True)[1], axis=0)
    kinds, counts = np.unique(units, axis=0, return_counts=True)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(17,)))
    sums = np.empty((RESAMPLES, units.shape[1]), np.int64)
    at_a_time = max(1, _NUMBERS_AT_A_TIME // len(kinds))
    for start in range(0, RESAMPLES, at_a_time):
        some = slice(start, min(start + at_a_time, RESAMPLES))
        sums[some] = rng.multinomial(len(units), counts / len(units), size=some.stop - some.start) @ kinds
    return sums[:, :-1], sums[:, -1]


def percentiles(samples: np.ndarray, confidence: float) -> tuple[float, float]:
    """Returns the percentile interval of samples [B], those left out that are NaN; NaN twice where all are."""
    some = samples[~np.isnan(samples)]
    if not len(some):
        return np.nan, np.nan
    low, high = np.quantile(some, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def interval_of_share(
    hits: np.ndarray, among: np.ndarray, clusters: np.ndarray | None, confidence: float, seed: int
) -> tuple[float, float]:
    """Returns the interval of the share of `hits` `among` some examples, [m] bool each: Clopper and Pearson's.

    Where examples come in `clusters` [m] int it is the percentile one over whole clusters. Where all of these are alike
    no sample differs: then it is Clopper and Pearson's of as many clusters, and of one cluster alone, which says
    nothing of others, 0 to 1.
    """
    count, examples = int((hits & among).sum()), int(among.sum())
    if clusters is None:
        return share_interval(count, examples, confidence)
    groups = len(np.unique(clusters[among]))
    if groups < 2:
        return 0.0, 1.0
    if count in (0, examples):
        return share_interval(groups if count else 0, groups, confidence)
    sums, _ = resampled_sums(np.stack([hits & among, among], axis=1).astype(np.int64), clusters, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        return percentiles(sums[:, 0] / sums[:, 1], confidence)
