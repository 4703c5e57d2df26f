"""Table 2: how often two runs of a size predict differently, by how uncertain a model is of the example.

The test set is ranked by the margin of a run of the uncertainty size, most certain first, and cut by rank; a cut
through a block of tied margins takes its share of the block. Definitions: paper, appendix A.
"""

from dataclasses import dataclass
from math import comb

import numpy as np

from metrics.switcher import deferral_order, sums_at, sums_at_knots

BUCKETS = (("Q1", 0.0, 0.5), ("Q2", 0.5, 0.75), ("Q3", 0.75, 0.9), ("Q4", 0.9, 0.99), ("Q5", 0.99, 1.0))
CUT_PERCENT = np.array([0, 50, 75, 90, 99, 100])  # of rank, ascending uncertainty


@dataclass
class BucketChurn:
    """Churn of one size by the uncertainty of another, bucket by bucket. Fractions, 0-1."""

    churn: np.ndarray  # [5]
    se: np.ndarray  # [5], as published: √(p(1 - p) / (n_b K))
    examples: np.ndarray  # [5] float64, n_b = bucket share × n
    pairs: int  # of runs of the churning size


def differing_pairs(prediction: np.ndarray) -> np.ndarray:
    """Σ over pairs k < l of runs of 1[ŷₖ ≠ ŷₗ]: [R, n] int -> [n] int64."""
    runs = len(prediction)
    agreeing = np.zeros(prediction.shape[1], dtype=np.int64)
    for code in np.unique(prediction):
        count = (prediction == code).sum(axis=0)
        agreeing += count * (count - 1) // 2
    return comb(runs, 2) - agreeing


def bucket_churn(prediction: np.ndarray, margins: np.ndarray) -> BucketChurn:
    """Churn of R ≥ 2 runs [R, n] in buckets of each of U runs' margins [U, n], pooled over pairs and U runs.

    The standard error takes K = pairs × (U - 1) trials an example for independent, as the paper's numbers do
    (45 × 9); with one uncertainty run, K = pairs.
    """
    runs, n = prediction.shape
    pairs = comb(runs, 2)
    differing = differing_pairs(prediction)[:, None]
    positions = CUT_PERCENT * n / 100
    pooled = np.zeros(len(BUCKETS))
    for margin in margins:
        ascending = deferral_order(-margin)
        pooled += np.diff(sums_at(ascending, sums_at_knots(ascending, differing), positions)[:, 0])
    examples = np.diff(positions)
    churn = pooled / (examples * pairs * len(margins))
    trials = pairs * max(len(margins) - 1, 1)
    variance = np.maximum(churn * (1 - churn), 0)  # a bucket of nothing but churn may round to just above 1
    return BucketChurn(churn, np.sqrt(variance / (examples * trials)), examples, pairs)
