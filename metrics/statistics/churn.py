"""Computes Table 2: how often two runs of a size predict differently, by how uncertain a model is of the example.

The test set is ranked by the margin of a run of the uncertainty size, most certain first, and cut by rank; a cut
through a block of tied margins takes the block in proportion. Answers of span QA are compared after SQuAD's
normalisation (switch: as they are), translations as they are. Definitions: paper, appendix A.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from metrics.statistics.switcher import DeferralOrder, sums_at, sums_at_knots

BUCKETS = (("Q1", 0.0, 0.5), ("Q2", 0.5, 0.75), ("Q3", 0.75, 0.9), ("Q4", 0.9, 0.99), ("Q5", 0.99, 1.0))
CUT_PERCENT = np.array([0, 50, 75, 90, 99, 100])  # of rank, ascending uncertainty


@dataclass
class BucketChurn:
    """Holds the churn of one size in each bucket of another size's uncertainty, in fractions, 0-1."""

    churn: np.ndarray  # [5]
    se: np.ndarray  # [5], as published: √(p(1 - p) / (n_b K))
    examples: np.ndarray  # [5] float64, n_b = bucket share × n
    pairs: int  # of runs of the churning size


def differing_pairs(prediction: np.ndarray) -> np.ndarray:
    """Counts the pairs of runs that predict differently, Σ_{k < l} 1[ŷₖ ≠ ŷₗ]: [R, n] int -> [n] int32."""
    differing = np.zeros(prediction.shape[1], dtype=np.int32)
    for one, other in combinations(prediction, 2):
        differing += one != other
    return differing


def differing_in_buckets(deferral: DeferralOrder, differing: np.ndarray) -> np.ndarray:
    """Sums `differing_pairs` [n] in each bucket of a run's ranks: [5] float64, the most certain half first.

    `deferral` is the order in which the run's margin defers.
    """
    # That order is most uncertain first; the cuts of the buckets are in ascending order of uncertainty.
    positions = (100 - CUT_PERCENT[::-1]) * deferral.examples / 100
    at_cuts = sums_at(deferral, sums_at_knots(deferral, differing[None]), positions)[0]  # [6]
    in_buckets: np.ndarray = np.diff(at_cuts)[::-1]
    return in_buckets


def bucket_churn(in_buckets: np.ndarray, runs: int, examples: int) -> BucketChurn:
    """Computes the churn of R ≥ 2 `runs` in each bucket, pooled over their pairs and over the U runs that rank.

    From what `differing_in_buckets` sums by each ranking run, [U, 5], on n `examples`. The standard error treats
    K = pairs × (U - 1) trials an example as independent, as the paper's numbers do (45 × 9); with one ranking run,
    K = pairs.
    """
    pairs, ranking = comb(runs, 2), len(in_buckets)
    bucket_sizes = np.diff(CUT_PERCENT) * examples / 100
    churn = in_buckets.sum(axis=0) / (bucket_sizes * pairs * ranking)
    trials = pairs * max(ranking - 1, 1)
    variance = np.maximum(churn * (1 - churn), 0)  # a bucket of nothing but churn may round to just above 1
    return BucketChurn(churn, np.sqrt(variance / (bucket_sizes * trials)), bucket_sizes, pairs)
