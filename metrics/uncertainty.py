"""The six uncertainty scores of a run's examples: higher is more uncertain, and is deferred first.

Only the order of a score matters, ties included, so each is returned as whatever number keeps that order best:
margins and entropies as natural logarithms in float64 (in float32 probability space most certain examples would tie
at 0), churn as integer counts (as ratios, rounding would break ties). Definitions: paper, sections 3.1 and 3.4.
"""

from collections.abc import Sequence

import numpy as np

from conf.errors import SwitchyardError
from conf.schema import SCORES, Metrics
from metrics.grid import SizeRuns

_LOG_2 = float(np.log(2.0))


class UncertaintyError(SwitchyardError):
    """A switch in `metrics.*` asks for something that the scores files don't hold."""


def uncertainties(runs: SizeRuns, config: Metrics) -> dict[str, np.ndarray]:
    """Every score that the runs of a size allow: score name -> [R, n] float64 or int64, comparable within a run.

    Committee scores and churn need two runs, committee churn without self three; a score that can't be had is left
    out. Raises UncertaintyError if `length_normalized` is on and the files don't hold the labels' token counts.
    """
    log_p = log_probabilities(runs, config.length_normalized)  # [R, n, K]
    margins = np.stack([log_margin(run) for run in log_p])
    two_classes = log_p.shape[2] == 2
    # Of two classes the entropy is an increasing function of the margin: rank it by the margin, which doesn't round.
    entropies = margins if two_classes else np.stack([log_entropy(run) for run in log_p])
    scores = {"margin": margins, "entropy": entropies}
    count = len(runs.seeds)
    if count >= 2:
        differing = churn_counts(runs.prediction)
        scores["churn"] = differing
        if config.committee == "mean_score":
            true_entropies = np.stack([log_entropy(run) for run in log_p]) if two_classes else entropies
            scores["committee_margin"] = _mean_of_others(margins)
            scores["committee_entropy"] = _mean_of_others(true_entropies)
        else:
            averaged = _mean_of_others(log_p)
            scores["committee_margin"] = np.stack([log_margin(run) for run in averaged])
            scores["committee_entropy"] = (
                scores["committee_margin"] if two_classes else np.stack([log_entropy(run) for run in averaged])
            )
        # Mean over k ≠ i of churn of run k. Without self, run k's disagreement with run i is taken out of each term:
        # over all k that is run i's own count. Denominators are constant, so counts alone rank.
        others = differing.sum(axis=0) - differing
        if config.committee_churn_includes_self:
            scores["committee_churn"] = others
        elif count >= 3:
            scores["committee_churn"] = others - differing
    return {name: scores[name] for name in SCORES if name in scores}


def log_probabilities(runs: SizeRuns, length_normalized: bool = False) -> np.ndarray:
    """Softmax over the classes' log-likelihoods, in log space: [R, n, K] float64, -inf where a class has none.

    `length_normalized` divides each log-likelihood by its label's token count first; UncertaintyError without counts.
    """
    values = runs.log_likelihoods.astype(np.float64)
    if length_normalized:
        tokens = runs.label_tokens
        whole = isinstance(tokens, list) and all(isinstance(t, int) and t >= 1 for t in tokens)
        if not whole or len(tokens or []) != values.shape[2]:
            raise UncertaintyError(
                f"metrics.length_normalized=true needs the token count of each of the {values.shape[2]} labels, EOS "
                f"included, under label_tokens in the config of the scores files' metadata; {runs.name} has {tokens!r}"
            )
        values /= np.array(tokens, dtype=np.float64)
    # log p_1 = -log1p(sum of the others relative to it) keeps its digits where p_1 is nearly 1
    ordered = np.sort(values, axis=2)[:, :, ::-1]
    rest = _logsumexp(ordered[:, :, 1:] - ordered[:, :, :1])
    return values - ordered[:, :, :1] - np.logaddexp(0.0, rest)[:, :, None]


def log_margin(log_p: np.ndarray) -> np.ndarray:
    """log(1 - (p₁ - p₂)) = logsumexp(log 2 + log p₂, log p₃, …): [n, K] float64 -> [n] float64, -inf if p₁ is 1."""
    ordered = np.sort(log_p, axis=1)[:, ::-1]
    terms = ordered[:, 1:].copy()
    terms[:, 0] += _LOG_2
    return _logsumexp(terms)


def log_second(log_p: np.ndarray) -> np.ndarray:
    """log p₂, of the second most likely class: [n, K] float64 -> [n] float64."""
    return np.sort(log_p, axis=1)[:, -2]


def log_entropy(log_p: np.ndarray) -> np.ndarray:
    """log(-Σ p log p), nats: [n, K] float64 -> [n] float64, -inf if one class has all. 0·log 0 is 0."""
    ordered = np.sort(log_p, axis=1)[:, ::-1]
    rest = _logsumexp(ordered[:, 1:])  # log(1 - p₁)
    # -log p₁ = -log1p(-(1 - p₁)), which is 1 - p₁ itself once that is below the rounding of 1
    tiny = rest < -36.0
    surprise = np.log(-np.where(np.isneginf(ordered), -1.0, np.minimum(ordered, -np.finfo(np.float64).tiny)))
    surprise[:, 0] = np.where(tiny, rest, np.log(-np.log1p(-np.exp(np.where(tiny, -36.0, rest)))))
    return _logsumexp(ordered + surprise)


def churn_counts(prediction: np.ndarray) -> np.ndarray:
    """Σ over the other runs k of 1[ŷₖ ≠ ŷᵢ]: [R, n] int -> [R, n] int64. Divided by R - 1 it is the churn of run i."""
    agreeing = np.zeros(prediction.shape, dtype=np.int64)
    for code in np.unique(prediction):
        same = prediction == code
        agreeing += same * same.sum(axis=0)
    return len(prediction) - agreeing


def _mean_of_others(logs: np.ndarray) -> np.ndarray:
    """log of the mean over the other runs of exp(logs): [R, n, ...] -> [R, n, ...]."""
    count = len(logs)
    others: Sequence[np.ndarray] = [np.delete(logs, i, axis=0) for i in range(count)]
    return np.stack([_logsumexp(np.moveaxis(other, 0, -1)) for other in others]) - np.log(count - 1)


def _logsumexp(values: np.ndarray) -> np.ndarray:
    """log Σ exp over the last axis, -inf where every term is: [..., K] -> [...]."""
    top = values.max(axis=-1, keepdims=True)
    finite = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - finite).sum(axis=-1)) + finite[..., 0]
