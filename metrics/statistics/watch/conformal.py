"""Computes conformal p-values of a stream: the rank of each observation among all before it, ties broken at random.

The p-value of observation n is p = (#{i < n: x_i > x_n} + U · #{i ≤ n: x_i = x_n}) / n with U uniform on [0, 1], where
the calibration examples are counted among those before it. Where calibration examples and stream are exchangeable, the
p-values of the stream are independent and uniform on [0, 1], exactly and for a calibration sample of any size (Vovk,
Gammerman and Shafer 2005, Algorithmic Learning in a Random World, theorem 8.2). A large observation has a small one.
They are so before one knows the calibration examples: what bets on them may not look at those.
"""

import numpy as np

LEAST, MOST, PER_UNIT = -64.0, 8.0, 64  # of log scores: e^-64 is below what float32 likelihoods can differ by
BINS = int(MOST - LEAST) * PER_UNIT
_AT_A_TIME = 256  # observations whose pairs are compared in memory


class ShareRanks:
    """Ranks a stream of yes and no among the counts of both so far.

    Attributes:
        yes: how many were so, of the calibration examples and the stream.
        total: how many there were.

    """

    def __init__(self, yes: int, total: int):
        """Begins with a calibration sample. Raises ValueError for counts that can't be one's."""
        if not 0 <= yes <= total:
            raise ValueError(f"{yes} of {total} calibration examples")
        self.yes, self.total = yes, total

    def p_values(self, observed: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Returns the p-values [n] float64 of the next observations [n] bool, and counts them.

        `uniform` [n] are independent and uniform on [0, 1].
        """
        so_far = self.yes + np.cumsum(observed)  # with the observation itself
        total = self.total + np.arange(1, len(observed) + 1)
        no = total - so_far
        p: np.ndarray = np.where(observed, uniform * so_far, so_far + uniform * no) / total
        self.yes, self.total = self.yes + int(observed.sum()), self.total + len(observed)
        return p


class ScoreRanks:
    """Ranks a stream of log scores among those so far, by bins of 1/64 that don't depend on the data.

    Binning keeps p-values exact, since scores in one bin are tied, and memory the same however long the stream is.

    Attributes:
        counts: how many scores each bin holds, of the calibration examples and the stream: [BINS] int64.

    """

    def __init__(self, log_scores: np.ndarray):
        """Begins with the log scores [m] of a calibration sample."""
        self.counts: np.ndarray = np.bincount(bin_of(log_scores), minlength=BINS)

    def p_values(self, log_scores: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Returns the p-values [n] float64 of the next log scores [n], and counts them.

        `uniform` [n] are independent and uniform on [0, 1].
        """
        places = bin_of(log_scores)
        pieces = range(0, len(places), _AT_A_TIME)
        found = [self._some(places[i : i + _AT_A_TIME], uniform[i : i + _AT_A_TIME]) for i in pieces]
        return np.concatenate(found) if found else np.empty(0)

    def _some(self, places: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        up_to = np.cumsum(self.counts)
        before = int(up_to[-1])
        larger, same = before - up_to[places], self.counts[places]
        if len(places) > 1:  # and what came before it among these
            earlier = np.tri(len(places), k=-1, dtype=bool)
            larger = larger + ((places[None, :] > places[:, None]) & earlier).sum(axis=1)
            same = same + ((places[None, :] == places[:, None]) & earlier).sum(axis=1)
        np.add.at(self.counts, places, 1)
        p: np.ndarray = (larger + uniform * (same + 1)) / (before + np.arange(1, len(places) + 1))
        return p


def bin_of(log_scores: np.ndarray) -> np.ndarray:
    """Returns the bin of each log score: [n] -> [n] int64, the first for -inf and the last for inf and NaN."""
    scaled = (np.nan_to_num(log_scores, nan=MOST, posinf=MOST, neginf=LEAST) - LEAST) * PER_UNIT
    places: np.ndarray = np.clip(scaled, 0, BINS - 1).astype(np.int64)
    return places
