"""The six uncertainty scores of a run's examples: higher is more uncertain, and is deferred first.

Only the order of a score matters, ties included, so each is returned as whatever number keeps that order best:
margins and entropies as natural logarithms in float64 (in float32 probability space most certain examples would tie
at 0), churn as integer counts (as ratios, rounding would break ties). Definitions: paper, sections 3.1 and 3.4.
"""

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import SCORES, Metrics
from metrics.grid.runs import SizeRuns
from metrics.scores import TokenScores

_LOG_2 = float(np.log(2.0))
_EXAMPLES_AT_A_TIME = 16_384  # of all runs: what is computed on the way should fit a core's cache


class UncertaintyError(EdgewiseError):
    """A switch in `metrics.*` asks for something that the scores files don't hold."""


def uncertainties(runs: SizeRuns, config: Metrics) -> dict[str, np.ndarray]:
    """Every score that the runs of a size allow: score name -> [R, n] float64 or integer, comparable within a run.

    Committee scores and churn need two runs, committee churn without self three; a score that can't be had is left
    out. Of a sequence, margin and entropy are means over the target's tokens in `config.context`, EOS included. Raises
    UncertaintyError if `length_normalized` is on and the files don't hold the labels' token counts.
    """
    if runs.task == "classification":
        scores = _of_classes(runs, config)
    else:
        scores = _of_sequences(runs, config)
    if len(runs.seeds) >= 2:
        differing = churn_counts(runs.prediction)
        scores["churn"] = differing
        # Mean over k ≠ i of churn of run k. Without self, run k's disagreement with run i is taken out of each term:
        # over all k that is run i's own count. Denominators are constant, so counts alone rank.
        others = differing.sum(axis=0, dtype=np.int32) - differing
        if config.committee_churn_includes_self:
            scores["committee_churn"] = others
        elif len(runs.seeds) >= 3:
            scores["committee_churn"] = others - differing
    return {name: scores[name] for name in SCORES if name in scores}


def _of_classes(runs: SizeRuns, config: Metrics) -> dict[str, np.ndarray]:
    log_likelihoods = runs.log_likelihoods
    tokens = _label_tokens(runs, log_likelihoods.shape[2]) if config.length_normalized else None
    count, n, classes = log_likelihoods.shape
    names = ["margin", "entropy", *(("committee_margin", "committee_entropy") if count >= 2 else ())]
    scores = {name: np.empty((count, n)) for name in names}
    for start in range(0, n, _EXAMPLES_AT_A_TIME):
        some = slice(start, start + _EXAMPLES_AT_A_TIME)
        log_p = log_softmax(_normalized(log_likelihoods[:, some], tokens))  # [R, m, K]
        scores["margin"][:, some], scores["entropy"][:, some] = log_margin(log_p), log_entropy(log_p)
        if count >= 2 and config.committee == "mean_probability":
            averaged = _mean_of_others(log_p)
            scores["committee_margin"][:, some] = log_margin(averaged)
            scores["committee_entropy"][:, some] = log_entropy(averaged)
        elif count >= 2:
            for name in ("margin", "entropy"):
                scores[f"committee_{name}"][:, some] = _mean_of_others(scores[name][:, some])
    if classes == 2:
        # Of two classes entropy is an increasing function of the margin: rank it by the margin, which doesn't round.
        scores["entropy"] = scores["margin"]
        if count >= 2 and config.committee == "mean_probability":
            scores["committee_entropy"] = scores["committee_margin"]
    return scores


def _of_sequences(runs: SizeRuns, config: Metrics) -> dict[str, np.ndarray]:
    """The committee averages its runs' values; sequences have no classes whose probabilities could be averaged."""
    tokens = [runs.tokens(config.context, run) for run in range(len(runs.seeds))]
    scores = {"margin": np.stack([sequence_margin(t) for t in tokens])}
    scores["entropy"] = np.stack([sequence_entropy(t) for t in tokens])
    if len(tokens) >= 2:
        for name in ("margin", "entropy"):
            scores[f"committee_{name}"] = _mean_of_others(scores[name])
    return scores


def sequence_margin(tokens: TokenScores) -> np.ndarray:
    """Log of the mean over a sequence's tokens of 1 - (p₁ - p₂): [n] float64, -inf where every margin is 1."""
    return _log_mean(1.0 - tokens.margins.astype(np.float64), tokens.offsets)


def sequence_entropy(tokens: TokenScores) -> np.ndarray:
    """Log of the mean over a sequence's tokens of the entropy over the vocabulary, nats: [n] float64."""
    return _log_mean(tokens.entropies.astype(np.float64), tokens.offsets)


def _log_mean(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    # a value may be below 0 by the rounding of float32
    means = np.add.reduceat(np.maximum(values, 0.0), offsets[:-1]) / np.diff(offsets)
    with np.errstate(divide="ignore"):
        return np.log(means)


def log_probabilities(runs: SizeRuns, run: int, length_normalized: bool = False) -> np.ndarray:
    """Class probabilities of one run of a classification, in log space: [n, K] float64, -inf where a class has none.

    `length_normalized` divides each log-likelihood by its label's token count first; UncertaintyError without counts.
    """
    values = runs.runs[run].field("class_log_likelihoods")
    assert isinstance(values, np.ndarray)
    tokens = _label_tokens(runs, values.shape[1]) if length_normalized else None
    return log_softmax(_normalized(values, tokens))


def _label_tokens(runs: SizeRuns, classes: int) -> np.ndarray:
    tokens = runs.label_tokens
    whole = isinstance(tokens, list) and all(isinstance(t, int) and t >= 1 for t in tokens)
    if not whole or len(tokens or []) != classes:
        raise UncertaintyError(
            f"metrics.length_normalized=true needs the token count of each of the {classes} labels, EOS included, "
            f"under label_tokens in the config of the scores files' metadata; {runs.name} has {tokens!r}"
        )
    return np.array(tokens, dtype=np.float64)


def _normalized(log_likelihoods: np.ndarray, tokens: np.ndarray | None) -> np.ndarray:
    values = log_likelihoods.astype(np.float64)
    return values if tokens is None else values / tokens


def log_softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis, float64: [..., K] -> [..., K], -inf where a class has none."""
    ordered = _descending(values)
    top = ordered[..., :1]
    # log p_1 = -log1p(sum of the others relative to it) keeps its digits where p_1 is nearly 1
    rest = np.exp(ordered[..., 1:] - top).sum(axis=-1, keepdims=True)
    return values - top - np.log1p(rest)


def log_margin(log_p: np.ndarray) -> np.ndarray:
    """log(1 - (p₁ - p₂)) = logsumexp(log 2 + log p₂, log p₃, …): [..., K] float64 -> [...], -inf if p₁ is 1."""
    terms = _descending(log_p)[..., 1:]
    terms[..., 0] += _LOG_2
    return _logsumexp(terms)


def log_second(log_p: np.ndarray) -> np.ndarray:
    """Log p₂, of the second most likely class: [n, K] float64 -> [n] float64."""
    return _descending(log_p)[..., 1]


def log_entropy(log_p: np.ndarray) -> np.ndarray:
    """log(-Σ p log p), nats: [..., K] float64 -> [...] float64, -inf if one class has all. 0·log 0 is 0."""
    ordered = _descending(log_p)
    rest = _logsumexp(ordered[..., 1:])  # log(1 - p₁)
    # -log p₁ = -log1p(-(1 - p₁)), which is 1 - p₁ itself once that is below the rounding of 1
    tiny = rest < -36.0
    surprise = np.log(-np.where(np.isneginf(ordered), -1.0, np.minimum(ordered, -np.finfo(np.float64).tiny)))
    surprise[..., 0] = np.where(tiny, rest, np.log(-np.log1p(-np.exp(np.where(tiny, -36.0, rest)))))
    return _logsumexp(ordered + surprise)


def churn_counts(prediction: np.ndarray) -> np.ndarray:
    """Σ over the other runs k of 1[ŷₖ ≠ ŷᵢ]: [R, n] int -> [R, n] int32. Divided by R - 1 it is the churn of run i."""
    counts = np.zeros(prediction.shape, dtype=np.int32)
    for one in range(len(prediction)):
        for other in range(one):
            differing = prediction[one] != prediction[other]
            counts[one] += differing
            counts[other] += differing
    return counts


def _descending(values: np.ndarray) -> np.ndarray:
    """The last axis sorted, largest first; a new array."""
    return np.sort(values, axis=-1)[..., ::-1]


def _mean_of_others(logs: np.ndarray) -> np.ndarray:
    """Log of the mean over the other runs of exp(logs): [R, ...] -> [R, ...]."""
    count = len(logs)
    before, after = np.full_like(logs, -np.inf), np.full_like(logs, -np.inf)  # sums over the runs before and after each
    for run in range(1, count):
        np.logaddexp(before[run - 1], logs[run - 1], out=before[run])
        np.logaddexp(after[count - run], logs[count - run], out=after[count - 1 - run])
    return np.logaddexp(before, after) - np.log(count - 1)


def _logsumexp(values: np.ndarray) -> np.ndarray:
    """Log Σ exp over the last axis, -inf where every term is: [..., K] -> [...]."""
    top = values.max(axis=-1, keepdims=True)
    finite = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - finite).sum(axis=-1)) + finite[..., 0]
