"""Tests a path of thresholds in order, so that what is promised of the last one that passes holds with 1 - δ.

Fixed-sequence testing (Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052, section 4.1): hypotheses in an
order that doesn't depend on the data that test them are each tested at level δ until one can't be rejected. All that
were rejected before are false, except with probability at most δ.
"""

import numpy as np

from metrics.statistics.certificates import loses_no_more, upper_limit
from metrics.statistics.policies.routing import PathOutcome

MOST_EXAMPLES = 1 << 32  # beyond that no number of examples is named


def loss_limit(worse: np.ndarray, better: np.ndarray, examples: float, delta: float) -> np.ndarray:
    """Returns the limit below which the loss is, except with probability at most δ: [...] float64, from counts [...].

    The loss is p₊ - p₋: the chances that the last stage is right where the mixture is wrong, and the other way round.
    The limit is the upper Clopper-Pearson limit of p₊ less the lower one of p₋, each at level δ/2 (union bound): exact
    at any number of examples, without an assumption on how the two go together.
    """
    upper = upper_limit(worse, examples, delta / 2)
    lower = _lower(np.asarray(better, np.float64), examples, delta / 2)
    limit: np.ndarray = upper - lower
    return limit


def share_limit(count: np.ndarray | int, examples: int, delta: float) -> np.ndarray:
    """Returns the upper Clopper-Pearson limit, at level δ, of a share of which `count` of `examples` were seen."""
    return upper_limit(count, examples, delta)


def share_interval(count: int, examples: int, confidence: float) -> tuple[float, float]:
    """Returns the two-sided Clopper-Pearson interval of a share of which `count` of `examples` were seen."""
    level = (1 - confidence) / 2
    return float(_lower(np.asarray(count, np.float64), examples, level)), float(upper_limit(count, examples, level))


def certified_place(worse: np.ndarray, better: np.ndarray, examples: int, epsilon: float, delta: float) -> int:
    """Returns the last place on a path of which "loses more than ε" is rejected, all before it too; 0 for none.

    `worse` and `better` [T] are those of `PathOutcome`. The test is `certificates.loses_no_more`. At place 0 the last
    stage answers all, which loses nothing by definition and is not tested.
    """
    passes = loses_no_more(worse, better, examples, epsilon, delta).copy()
    passes[0] = True
    return int(np.logical_and.accumulate(passes).sum()) - 1


def budget_place(outcome: PathOutcome, budget: float, delta: float) -> int:
    """Returns the first place on a path of which "defers more than the budget" is rejected, all after it too.

    Tested from the cheapest to the safest, by the scores alone: labels are not looked at. At the last place nothing is
    deferred, which is within any budget and is not tested.
    """
    deferred = outcome.examples - outcome.answered[:, 0]
    passes = share_limit(deferred, outcome.examples, delta) <= budget
    passes[-1] = True
    return len(passes) - int(np.logical_and.accumulate(passes[::-1]).sum())


def least_epsilon(outcome: PathOutcome, delta: float) -> float:
    """Returns an ε with which `certified_place` finds a place beyond the first, the least to a thousandth of itself."""
    worse, better = outcome.worse[1:2], outcome.better[1:2]
    high = max(float(loss_limit(worse, better, outcome.examples, delta)[0]), 1e-9)
    while not loses_no_more(worse, better, outcome.examples, high, delta).all():
        high *= 1.05
    low = 0.0
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        enough = bool(loses_no_more(worse, better, outcome.examples, middle, delta).all())
        low, high = (low, middle) if enough else (middle, high)
    return high


def examples_needed(worse: float, better: float, epsilon: float, delta: float) -> int | None:
    """Returns how many examples certify a loss of at most ε where the shares `worse` and `better` are seen.

    None where no number does, because the loss seen is itself ε or more. The number is of the certify part; with the
    shares exactly as seen it is the least by `loss_limit`, and luck may ask for more.
    """
    if worse - better >= epsilon:
        return None

    def certifies(examples: int) -> bool:
        limit = loss_limit(np.asarray(worse * examples), np.asarray(better * examples), examples, delta)
        return bool(limit <= epsilon)

    most = 16
    while not certifies(most):
        most *= 2
        if most > MOST_EXAMPLES:
            return None
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if certifies(middle) else (middle, most)
    return most


def fewest_examples(outcome: PathOutcome, epsilon: float, delta: float, kept: float = 0.1) -> int | None:
    """Returns the least `examples_needed` of the places that keep at least the share `kept`; None where none has any.

    A certificate of a place that keeps nearly nothing is easy to have and worth nothing.
    """
    keeps = np.flatnonzero(outcome.deferred <= 1 - kept)
    rates = [(outcome.worse[t] / outcome.examples, outcome.better[t] / outcome.examples) for t in keeps]
    needed = [examples_needed(float(w), float(b), epsilon, delta) for w, b in dict.fromkeys(rates)]
    return min((n for n in needed if n is not None), default=None)


def _lower(count: np.ndarray, examples: float, level: float) -> np.ndarray:
    """Returns the `level` quantile of Beta(k, m - k + 1), Clopper and Pearson's lower limit; 0 for k = 0."""
    from scipy.special import betaincinv

    some = count > 0
    limit: np.ndarray = np.where(some, betaincinv(np.where(some, count, 1), examples - count + 1, level), 0.0)
    return limit
