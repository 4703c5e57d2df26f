"""Measures of classifiers that don't let a frequent class hide the others, with each example's influence on them.

Predictions and targets are places in a list of K classes. Classes that no example has as its target count in none of
the means; a prediction of such a class is an error like any other. Influences are those of the delta method: the
derivative of the measure in the weight of an example, times n, so that the variance of their mean is that of the
measure.
"""

import numpy as np

from metrics.statistics.components import (
    ExampleInfluence,
    Variance,
    variance_of_pairs,
)


def balanced_accuracy(prediction: np.ndarray, target: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean over classes of the share of their examples that are right: values [R], influences [R, n].

    `prediction` is [R, n] int, `target` [n] int. With recall r_k of class k, the influence of an example of class k is
    (1[right] - r_k) / (π_k K), where π_k is the class's share of the examples (Brodersen et al. 2010).
    """
    count = np.bincount(target, minlength=classes)  # [K]
    present = count > 0
    right = prediction == target
    recall = np.zeros((len(prediction), classes))
    for run, of_run in enumerate(right):
        recall[run] = np.bincount(target, weights=of_run, minlength=classes) / np.maximum(count, 1)
    share = count / len(target) * present.sum()
    influence: np.ndarray = (right - recall[:, target]) / share[target]
    return recall[:, present].mean(axis=1), influence


def macro_f1(prediction: np.ndarray, target: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean over classes of F1 = 2 TP / (P + T): values [R], influences [R, n].

    `prediction` is [R, n] int, `target` [n] int; P counts predictions of a class, T its examples, TP both at once. The
    mean is of the classes' F1, not the F1 of mean precision and recall (Opitz and Burst 2019).
    """
    n = len(target)
    count = np.bincount(target, minlength=classes)
    present = count > 0
    values, influences = [], []
    for of_run in prediction:
        predicted = np.bincount(of_run, minlength=classes)
        right = of_run == target
        both = np.maximum(predicted + count, 1)
        f1 = 2 * np.bincount(target, weights=right, minlength=classes) / both  # [K]
        values.append(f1[present].mean())
        part = np.where(present, n / both, 0.0) / present.sum()
        of_target = part[target] * (2.0 * right - f1[target])
        influences.append(of_target - part[of_run] * f1[of_run])
    return np.array(values), np.array(influences)


def mean_cost(prediction: np.ndarray, target: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean cost of an example, costs[true, predicted]: values [R], influences [R, n].

    `prediction` is [R, n] int, `target` [n] int, `costs` [K, K].
    """
    of_examples: np.ndarray = costs[target[None, :], prediction]
    values = of_examples.mean(axis=1)
    return values, of_examples - values[:, None]


def variance_of_difference(
    small: tuple[np.ndarray, np.ndarray],
    large: tuple[np.ndarray, np.ndarray],
    examples: int,
    clusters: np.ndarray | None = None,
) -> Variance:
    """Returns the variance of the mean over large runs minus that over small runs; each is values and influences."""
    (of_small, small_influence), (of_large, large_influence) = small, large
    influence = ExampleInfluence(
        large_influence.mean(axis=0) - small_influence,
        large_influence - small_influence.mean(axis=0),
        examples,
        clusters,
    )
    return variance_of_pairs(of_large[None, :] - of_small[:, None], influence)
