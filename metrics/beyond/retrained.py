"""Asks what a certified threshold is worth once a model is trained anew: how often it then loses more than ε.

A certificate is for the pair of runs that it was calibrated on. The grid's other seeds are such retrained models: the
threshold of one pair is used on another, with the smaller, the larger or both models replaced.
"""

import numpy as np

from metrics.analysis.intervals import ExampleChoice
from metrics.grid.runs import SizeRuns
from metrics.statistics.thresholds import losses_of_reuse
from metrics.tables.table import Row

MOST_EVALUATED = 50_000  # examples: of as many, a loss is known to about a quarter of a point


def retrained_entries(
    scores: np.ndarray,
    small: SizeRuns,
    large: SizeRuns,
    thresholds: np.ndarray,
    shares: np.ndarray,
    saving: np.ndarray,
    evaluates: np.ndarray,
    epsilon: float,
    seed: int,
    clusters: np.ndarray | None = None,
) -> Row:
    """Returns the entries of a row: shares of pairs of runs, in percent, that lose more than ε at others' thresholds.

    NaN where no threshold saves something, or where there is no run to replace one by.

    Args:
        scores: [R_S, n], the smaller size's score.
        small: the smaller size, with `correct`.
        large: the larger size, with `correct`.
        thresholds: [R_S, R_L], each pair's, -inf where all is deferred.
        shares: [R_S, R_L], what share of the calibration half each defers.
        saving: [R_S, R_L] bool, which thresholds save something: they alone are reused.
        evaluates: [m] int, the examples that a loss is measured on, those that no threshold was chosen on.
        epsilon: ε, a fraction of accuracy.
        seed: of the draw of MOST_EVALUATED examples where there are more.
        clusters: [n] int, the cluster of each example; of clusters whole ones are drawn. None where there are none.

    """
    assert small.correct is not None and large.correct is not None
    rows = ExampleChoice(seed, clusters).among(evaluates, MOST_EVALUATED).rows
    some, own, theirs = scores[:, rows], small.correct[:, rows], large.correct[:, rows]
    of_shares = thresholds_of_shares(some, shares)
    both_kinds = np.concatenate([np.broadcast_to(thresholds, of_shares.shape), of_shares], axis=1)
    losses, kept_share = np.split(losses_of_reuse(some, own, theirs, both_kinds), 2, axis=2)  # [k, l, i, j] each
    same_small = np.eye(len(own), dtype=bool)[:, None, :, None]
    same_large = np.eye(len(theirs), dtype=bool)[None, :, None, :]
    kinds = {
        "own": same_small & same_large,
        "new_large": same_small & ~same_large,
        "new_small": ~same_small & same_large,
        "both_new": ~same_small & ~same_large,
    }
    row: Row = {"thresholds": int(saving.sum())}
    for name, kind in kinds.items():
        row[f"{name}_over"] = _percent_over(losses[kind & saving], epsilon)
    both = losses[kinds["both_new"] & saving]
    row["both_new_loss"] = 100 * float(both.mean()) if both.size else float("nan")
    row["both_new_worst"] = 100 * float(both.max()) if both.size else float("nan")
    row["same_share_over"] = _percent_over(kept_share[kinds["both_new"] & saving], epsilon)
    return row


def thresholds_of_shares(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns the threshold at which each run defers each share: scores [R, m], shares [R', J'] -> [R, R', J'].

    It is the score of the ⌈share · m⌉-th highest, so that at least that share is deferred; inf for a share of 0.
    """
    ranked = np.sort(scores, axis=1)[:, ::-1]
    place = np.ceil(shares * scores.shape[1] - 1e-9).astype(int)
    return np.where(place > 0, ranked[:, np.maximum(place - 1, 0)], np.inf)


def _percent_over(losses: np.ndarray, epsilon: float) -> float:
    # a loss is a whole number of examples over n, so its rounding is far below one
    return 100 * float((losses > epsilon + 1e-12).mean()) if losses.size else float("nan")
