"""Computes the six uncertainty scores of each run's examples: higher is more uncertain, and is deferred first.

Only the order of a score matters, ties included, so each score is returned as the number that keeps that order best:
margins and entropies as natural logarithms in float64 (in float32 probability space most certain examples would tie
at 0), rounded to 13 digits so that what is equal by definition ties, churn as integer counts (as ratios, rounding would
break ties). Definitions: paper, sections 3.1 and 3.4.
"""

from typing import TYPE_CHECKING

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import SCORES, Metrics
from metrics.grid.runs import SizeRuns
from metrics.scores import TokenScores

if TYPE_CHECKING:
    from metrics.bootstrap.threads import ParallelMap

_LOG_2 = float(np.log(2.0))
_WHOLE = 2.0**44  # sums of up to 512 runs' terms, each at most this, are below 2⁵³ and so exact
_HALF_OF_THE_LAST = np.int64(1 << 7)  # of 44 bits that are kept of a float64's 52, half of the last one's worth
_SPACED = 1.5 * 2.0**8
_FEW = 8  # classes: along an axis of fewer, NumPy's own reductions take many times longer than a step a class
_EXAMPLES_AT_A_TIME = 16_384  # of all runs, so that intermediate results fit a core's cache


class UncertaintyError(EdgewiseError):
    """Says that a switch in `metrics.*` asks for something that the scores files don't hold."""


def uncertainties(runs: SizeRuns, config: Metrics, parallel_map: "ParallelMap" = map) -> dict[str, np.ndarray]:
    """Computes every score that the runs of a size allow: score name -> [R, n] float64 or int32.

    Values are comparable within a run. Committee scores and churn need two runs, committee churn without self three,
    and all of them `config.committee_size` runs where that is set; a score without enough runs is left out. Scores that
    order the examples alike, as margin and entropy of two classes do, are the same array. The margin and entropy of a
    sequence are means over its tokens in `config.context`, EOS included. Raises UncertaintyError if `length_normalized`
    is on and the files don't hold the labels' token counts.
    """
    if runs.task == "classification":
        scores = _classification_scores(runs, config, parallel_map)
    else:
        scores = _sequence_scores(runs, config)
    size = committee_size(len(runs.seeds), config)
    if size:
        differing, of_others = _churn_of_committees(runs.prediction, size)
        scores["churn"] = differing
        # The mean over k ≠ i of the churn of run k. Without self, run k's disagreement with run i is left out of each
        # term; summed over k that is run i's own count. Denominators are constant, so the counts rank the examples.
        if config.committee_churn_includes_self:
            scores["committee_churn"] = of_others
        elif size >= 3:
            scores["committee_churn"] = of_others - differing
    return {name: scores[name] for name in SCORES if name in scores}


def committee_size(runs: int, config: Metrics) -> int:
    """Returns how many of a size's runs, itself included, a run's churn and committee scores are of; 0 if too few.

    All of them, unless `config.committee_size` is set: then so many, whatever the number of runs, so that grids of
    different numbers of seeds compare.
    """
    size = runs if config.committee_size is None else config.committee_size
    return size if 2 <= size <= runs else 0


def committee_of(run: int, runs: int, size: int) -> np.ndarray:
    """Returns the other members of a run's committee of `size`: the runs after it, and after the last the first ones.

    [size - 1] int. Over all runs each is a member as often as any other.
    """
    members: np.ndarray = (run + np.arange(1, size)) % runs
    return members


def _churn_of_committees(prediction: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts in each run's committee who predicts otherwise than the run, and the same of all its others: [R, n] int32.

    The second sums, over the committee's other members, how many of the committee each differs from.
    """
    runs = len(prediction)
    if size == runs:
        differing = churn_counts(prediction)
        return differing, differing.sum(axis=0, dtype=np.int32) - differing
    own, of_others = np.empty(prediction.shape, dtype=np.int32), np.empty(prediction.shape, dtype=np.int32)
    for run in range(runs):
        counts = churn_counts(prediction[np.append(run, committee_of(run, runs, size))])
        own[run], of_others[run] = counts[0], counts[1:].sum(axis=0, dtype=np.int32)
    return own, of_others


def _classification_scores(runs: SizeRuns, config: Metrics, parallel_map: "ParallelMap") -> dict[str, np.ndarray]:
    """Computes margin and entropy over the classes, and the committee's of two runs or more: [R, n] float64 each."""
    log_likelihoods = runs.log_likelihoods
    tokens = label_tokens(runs, log_likelihoods.shape[2]) if config.length_normalized else None
    count, n, classes = log_likelihoods.shape
    names = ["margin", "entropy"]
    committee = committee_size(count, config)
    if committee:
        names += ["committee_margin", "committee_entropy"]
    scores = {name: np.empty((count, n)) for name in names}

    def fill(start: int) -> None:
        some = slice(start, start + _EXAMPLES_AT_A_TIME)
        values = divided_by_tokens(log_likelihoods[:, some], tokens)  # [R, m, K]
        ordered = _ordered_log_softmax(values)
        scores["margin"][:, some] = to_thirteen_digits(_margin_of_ordered(ordered))
        scores["entropy"][:, some] = to_thirteen_digits(_entropy_of_ordered(ordered))
        if committee and config.committee == "mean_probability":
            log_p = log_softmax(values)
            averaged = _mean_of_committees(log_p, committee)
            scores["committee_margin"][:, some] = to_thirteen_digits(log_margin(averaged))
            scores["committee_entropy"][:, some] = to_thirteen_digits(log_entropy(averaged))
        elif committee:
            for name in ("margin", "entropy"):
                means = _mean_of_committees(scores[name][:, some], committee)
                scores[f"committee_{name}"][:, some] = to_thirteen_digits(means)

    list(parallel_map(fill, range(0, n, _EXAMPLES_AT_A_TIME)))
    if classes == 2:
        # Of two classes entropy is an increasing function of the margin: rank it by the margin, which doesn't round.
        scores["entropy"] = scores["margin"]
        if committee and config.committee == "mean_probability":
            scores["committee_entropy"] = scores["committee_margin"]
    return scores


def _sequence_scores(runs: SizeRuns, config: Metrics) -> dict[str, np.ndarray]:
    """Computes margin and entropy over the tokens, and the committee's of two runs or more: [R, n] float64 each.

    The committee averages its runs' values; sequences have no classes whose probabilities could be averaged.
    """
    tokens = [runs.tokens(config.context, run) for run in range(len(runs.seeds))]
    scores = {
        "margin": to_thirteen_digits(np.stack([sequence_margin(t) for t in tokens])),
        "entropy": to_thirteen_digits(np.stack([sequence_entropy(t) for t in tokens])),
    }
    committee = committee_size(len(tokens), config)
    if committee:
        for name in ("margin", "entropy"):
            scores[f"committee_{name}"] = to_thirteen_digits(_mean_of_committees(scores[name], committee))
    return scores


def sequence_margin(tokens: TokenScores) -> np.ndarray:
    """Computes the log of the mean over a sequence's tokens of 1 - (p₁ - p₂): [n] float64, -inf if that mean is 0."""
    return _log_mean(1.0 - tokens.margins.astype(np.float64), tokens.offsets)


def sequence_entropy(tokens: TokenScores) -> np.ndarray:
    """Computes the log of the mean over a sequence's tokens of the entropy over the vocabulary, nats: [n] float64."""
    return _log_mean(tokens.entropies.astype(np.float64), tokens.offsets)


def _log_mean(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Computes the log of each sequence's mean: values [T] of all tokens, offsets [n + 1] -> [n] float64."""
    # a value may be below 0 by the rounding of float32
    means = np.add.reduceat(np.maximum(values, 0.0), offsets[:-1]) / np.diff(offsets)
    with np.errstate(divide="ignore"):
        logs: np.ndarray = np.log(means)
    return logs


def log_probabilities(
    runs: SizeRuns, run: int, length_normalized: bool = False, rows: np.ndarray | None = None
) -> np.ndarray:
    """Returns one run's log-probabilities of the K classes: [n, K] float64, -inf where a class has probability 0.

    `length_normalized` divides each log-likelihood by its label's token count first; raises UncertaintyError where the
    scores files don't hold the counts. With `rows` [m], those of some of the examples alone: [m, K].
    """
    values = runs.log_likelihoods_of(run)
    values = values if rows is None else values[rows]
    tokens = label_tokens(runs, values.shape[1]) if length_normalized else None
    log_p = np.empty(values.shape)
    for start in range(0, len(values), _EXAMPLES_AT_A_TIME):
        some = slice(start, start + _EXAMPLES_AT_A_TIME)
        log_p[some] = log_softmax(divided_by_tokens(values[some], tokens))
    return log_p


def label_tokens(runs: SizeRuns, classes: int) -> np.ndarray:
    """Returns the token count of each class's label: [K] float64. Raises UncertaintyError where it isn't known."""
    tokens = runs.label_tokens
    whole = isinstance(tokens, list) and all(isinstance(t, int) and t >= 1 for t in tokens)
    if not whole or len(tokens or []) != classes:
        raise UncertaintyError(
            f"metrics.length_normalized=true needs the token count of each of the {classes} labels, EOS included, "
            f"under label_tokens in the config of the scores files' metadata; {runs.name} has {tokens!r}. Score the "
            "runs again, or leave metrics.length_normalized=false"
        )
    return np.array(tokens, dtype=np.float64)


def divided_by_tokens(log_likelihoods: np.ndarray, tokens: np.ndarray | None) -> np.ndarray:
    """Divides log-likelihoods [..., K] by the labels' token counts [K], if given: [..., K] float64."""
    values = log_likelihoods.astype(np.float64)
    return values if tokens is None else values / tokens


def log_softmax(values: np.ndarray) -> np.ndarray:
    """Computes log-softmax over the last axis: [..., K] float64 -> [..., K] float64, -inf where a value is -inf."""
    ordered = _descending(values)
    log_p: np.ndarray = values - ordered[..., :1] - _log_of_whole(ordered)
    return log_p


def _ordered_log_softmax(values: np.ndarray) -> np.ndarray:
    """Returns what `log_softmax` does in descending order, which is that of the values: [..., K] -> [..., K]."""
    ordered = _descending(values)
    log_p: np.ndarray = ordered - ordered[..., :1] - _log_of_whole(ordered)
    return log_p


def _log_of_whole(ordered: np.ndarray) -> np.ndarray:
    """Computes log Σ exp of descending values relative to the first: [..., K] -> [..., 1]."""
    # log p_1 = -log1p(sum of the others relative to it) keeps its digits where p_1 is nearly 1
    rest = _reduced(np.add, np.exp(ordered[..., 1:] - ordered[..., :1]))
    whole: np.ndarray = np.log1p(rest)[..., None]
    return whole


def log_margin(log_p: np.ndarray) -> np.ndarray:
    """Computes log(1 - (p₁ - p₂)) from log-probabilities: [..., K] float64 -> [...] float64, -inf if p₁ is 1.

    As logsumexp(log 2 + log p₂, log p₃, …), which keeps the digits of certain examples.
    """
    return _margin_of_ordered(_descending(log_p))


def _margin_of_ordered(ordered: np.ndarray) -> np.ndarray:
    """Computes what `log_margin` does from log-probabilities in descending order."""
    terms = ordered[..., 1:].copy(order="K")
    terms[..., 0] += _LOG_2
    return _logsumexp(terms)


def log_second(log_p: np.ndarray) -> np.ndarray:
    """Returns log p₂, of the second most likely class: [n, K] float64 -> [n] float64."""
    second: np.ndarray = _descending(log_p)[..., 1]
    return second


def log_entropy(log_p: np.ndarray) -> np.ndarray:
    """Computes log(-Σ p log p), nats, from log-probabilities: [..., K] float64 -> [...] float64.

    It is -inf if one class has probability 1; 0·log 0 counts as 0.
    """
    return _entropy_of_ordered(_descending(log_p))


def _entropy_of_ordered(ordered: np.ndarray) -> np.ndarray:
    """Computes what `log_entropy` does from log-probabilities in descending order."""
    rest = _logsumexp(ordered[..., 1:])  # log(1 - p₁)
    # -log p₁ = -log1p(-(1 - p₁)), which is 1 - p₁ itself once that is below the rounding of 1
    tiny = rest < -36.0
    surprise = np.log(-np.where(np.isneginf(ordered), -1.0, np.minimum(ordered, -np.finfo(np.float64).tiny)))
    surprise[..., 0] = np.where(tiny, rest, np.log(-np.log1p(-np.exp(np.where(tiny, -36.0, rest)))))
    return _logsumexp(ordered + surprise)


def churn_counts(prediction: np.ndarray) -> np.ndarray:
    """Counts the other runs k that predict differently, Σ_k 1[ŷₖ ≠ ŷᵢ]: [R, n] int -> [R, n] int32.

    Divided by R - 1 it is the churn of run i.
    """
    counts = np.zeros(prediction.shape, dtype=np.int32)
    for one in range(len(prediction)):
        for other in range(one):
            differing = prediction[one] != prediction[other]
            counts[one] += differing
            counts[other] += differing
    return counts


def _descending(values: np.ndarray) -> np.ndarray:
    """Returns a copy that is sorted along the last axis, largest first; of few classes each class lies together."""
    count = values.shape[-1]
    if not 1 < count < _FEW:
        return np.sort(values, axis=-1)[..., ::-1]
    columns = [values[..., k].copy() for k in range(count)]
    for last in range(count - 1, 0, -1):  # a bubble sort of whole columns: the least goes to the end
        for k in range(last):
            least = np.minimum(columns[k], columns[k + 1])
            np.maximum(columns[k], columns[k + 1], out=columns[k])
            columns[k + 1] = least
    return np.moveaxis(np.stack(columns), 0, -1)


def _mean_of_committees(logs: np.ndarray, size: int) -> np.ndarray:
    """Computes the log of the mean of exp(logs) over the others of each run's committee: [R, ...] -> [R, ...]."""
    if size == len(logs):
        return _mean_of_others(logs)
    means = np.empty_like(logs)
    for run in range(len(logs)):
        others = logs[committee_of(run, len(logs), size)]
        means[run] = _log_of_whole_sum(others, others.max(axis=0), leave_out=False)[0]
    means -= np.log(size - 1)
    return means


def _mean_of_others(logs: np.ndarray) -> np.ndarray:
    """Computes the log of the mean over the other runs of exp(logs): [R, ...] -> [R, ...], R ≥ 2.

    The exponentials, relative to the largest of the other runs, are rounded to whole multiples of 2⁻⁴⁴, whose sums are
    exact in float64 whatever their order: others with the same values have the same mean, bit for bit.
    """
    largest = logs.argmax(axis=0)[None]  # [1, ...]
    without = logs.copy()
    np.put_along_axis(without, largest, -np.inf, axis=0)
    of_largest = _log_of_whole_sum(without, without.max(axis=0), leave_out=False)  # [1, ...]
    sums = _log_of_whole_sum(logs, logs.max(axis=0), leave_out=True)
    np.put_along_axis(sums, largest, of_largest, axis=0)
    sums -= np.log(len(logs) - 1)
    return sums


def _log_of_whole_sum(logs: np.ndarray, top: np.ndarray, leave_out: bool) -> np.ndarray:
    """Computes log Σ exp over the runs [R, ...], each term rounded to 2⁻⁴⁴ of exp(top), top [...] being the largest.

    Returns the sum over all runs, [1, ...], or with `leave_out` that without each run, [R, ...]; -inf of none.
    """
    finite = np.where(np.isneginf(top), 0.0, top)
    terms = np.exp(logs - finite)
    terms *= _WHOLE
    np.rint(terms, out=terms)
    sums: np.ndarray = terms.sum(axis=0, keepdims=True)
    if leave_out:
        sums = np.subtract(sums, terms, out=terms)
    with np.errstate(divide="ignore"):
        np.log(sums, out=sums)
    sums += finite - np.log(_WHOLE)
    return sums


def to_thirteen_digits(logs: np.ndarray) -> np.ndarray:
    """Rounds logarithms to 44 bits, about 13 significant digits, and those within ±1 to 13 decimals: [...] float64.

    What is equal by definition but computed in another order then ties again, as the margins of examples with p₁ = p₂
    do, whose logarithms are 0 up to the rounding of 1; different values of float32 likelihoods stay apart.
    """
    bits = (np.ascontiguousarray(logs).view(np.int64) + _HALF_OF_THE_LAST) & ~(2 * _HALF_OF_THE_LAST - 1)
    rounded: np.ndarray = bits.view(np.float64)
    rounded += _SPACED  # float64 near it are 2⁻⁴⁴ apart; a multiple of that is left as it is
    rounded -= _SPACED
    return rounded


def _logsumexp(values: np.ndarray) -> np.ndarray:
    """Computes log Σ exp over the last axis, -inf where every term is -inf: [..., K] -> [...]."""
    top = _reduced(np.maximum, values)
    finite = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        logs: np.ndarray = np.log(_reduced(np.add, np.exp(values - finite[..., None]))) + finite
    return logs


def _reduced(function: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Reduces the last axis, [..., K] -> [...]; few terms one after the other, as NumPy does, but much faster."""
    count = values.shape[-1]
    if not 0 < count < _FEW:
        whole: np.ndarray = function.reduce(values, axis=-1)
        return whole
    result = values[..., 0].copy()
    for k in range(1, count):
        function(result, values[..., k], out=result)
    return result
