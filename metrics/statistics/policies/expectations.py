"""Says what to expect of a policy: on examples that chose nothing of it with intervals, and over other seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics.statistics.policies.candidates import Parts, Policy, matched_runs
from metrics.statistics.policies.resampled_sums import interval_of_share, percentiles, resampled_sums
from metrics.statistics.policies.routing import (
    Member,
    mean_quality,
    mixed,
    path_outcome,
    quality_of_sums,
    stage_reached,
)

Number = dict[str, float]  # value, and where it has an interval, low and high


@dataclass(frozen=True)
class Answered:
    """Holds how some examples [m] are answered: by which stage, and how well by the mixture, the last and the first."""

    stage: np.ndarray  # [m] int8
    mixture: np.ndarray  # [m, Q]
    last: np.ndarray  # [m, Q]
    first: np.ndarray  # [m, Q]


def answered(chain: Sequence[Member], score: str, thresholds: np.ndarray, rows: np.ndarray) -> Answered:
    """Returns how a chain with these thresholds [K - 1] answers the examples `rows` [m]."""
    stage = stage_reached([member.uncertainty[score][rows] for member in chain[:-1]], thresholds)
    qualities = [member.quality[rows] for member in chain]
    return Answered(stage, mixed(qualities, stage), qualities[-1], qualities[0])


def expectations(policy: Policy, parts: Parts, confidence: float, seed: int) -> dict[str, Any]:
    """Returns what the evaluate part says of these runs: shares, quality, loss and cost, each with an interval.

    Shares, quality and loss are fractions (BLEU / 100). Shares and accuracies have Clopper-Pearson intervals; BLEU, the
    loss and the cost have percentile-bootstrap intervals over examples, from `seed`. Where examples come in clusters
    every interval is a percentile-bootstrap one over whole clusters. `cost_share` is the mean cost in units of the last
    stage alone.
    """
    chain = policy.chain
    one = answered(chain, policy.score, policy.thresholds, parts.evaluate)
    m = len(parts.evaluate)
    costs = np.cumsum([member.cost for member in chain])
    clusters = None if parts.clusters is None else parts.clusters[parts.evaluate]
    samples = _resampled(one, costs, clusters, seed)

    def estimate(value: float, of: np.ndarray) -> Number:
        return _number(value, *percentiles(of, confidence))

    def share(hits: np.ndarray) -> Number:
        return _number(int(hits.sum()) / m, *interval_of_share(hits, np.ones(m, bool), clusters, confidence, seed))

    def quality(values: np.ndarray, name: str) -> Number:
        if values.shape[1] == 1:
            return share(values[:, 0].astype(bool))
        return estimate(mean_quality(values), samples[name])

    last, mixture = mean_quality(one.last), mean_quality(one.mixture)
    cost = float(costs[one.stage].mean())
    return {
        "examples": m,
        "confidence": confidence,
        "deferred": share(one.stage > 0),
        "answered": [share(one.stage == k) for k in range(len(chain))],
        "quality": quality(one.mixture, "mixture"),
        "quality_of_largest": quality(one.last, "last"),
        "quality_of_smallest": quality(one.first, "first"),
        "loss": estimate(last - mixture, samples["loss"]),
        "cost_per_example": estimate(cost, samples["cost"]),
        "cost_share": _number(*(v / chain[-1].cost for v in (cost, *percentiles(samples["cost"], confidence)))),
    }


def disagreement(
    policy: Policy, predictions: Sequence[np.ndarray], parts: Parts, confidence: float
) -> dict[str, Any] | None:
    """Returns how often the last stage answers otherwise what an earlier one answers: None where none does.

    `predictions` are each stage's [n], a number for each answer. The share, with an interval as `expectations` has it,
    and the counts are of the evaluate part, which has chosen nothing; beside them stand those of the certify part. None
    too where an earlier stage answers in one part alone.
    """
    counts, intervals = {}, {}
    for name in ("certify", "evaluate"):
        rows = getattr(parts, name)
        scores = [member.uncertainty[policy.score][rows] for member in policy.chain[:-1]]
        stage = stage_reached(scores, policy.thresholds)
        kept = stage < len(policy.chain) - 1
        given = np.stack([answers[rows] for answers in predictions])[stage, np.arange(len(rows))]
        differing = kept & (given != predictions[-1][rows])
        counts[name] = {"examples": int(kept.sum()), "differing": int(differing.sum())}
        if not kept.any():
            return None
        clusters = None if parts.clusters is None else parts.clusters[rows]
        intervals[name] = interval_of_share(differing, kept, clusters, confidence, parts.seed)
    examples, differs = counts["evaluate"].values()
    return {**_number(differs / examples, *intervals["evaluate"]), **counts["evaluate"], "certify": counts["certify"]}


def over_seeds(policy: Policy, members: Mapping[str, Sequence[Member]], parts: Parts) -> dict[str, Any]:
    """Returns what the same shares deferred give with other seeds of the same sizes, on the evaluate part.

    Each stage's threshold is the score that passes on the same share, on the select and certify parts, of what reaches
    it as this policy's does: its labels aren't looked at. Each number is a mean with its least, most and standard
    deviation over `runs` chains.
    """
    fit = np.concatenate([parts.select, parts.certify])
    shares = _shares_passed_on(policy.chain, policy.score, policy.thresholds, fit)
    rows: list[tuple[float, float, float, float]] = []
    for chain in matched_runs(policy.chain, members):
        thresholds = _thresholds_passing_on(chain, policy.score, shares, fit)
        one = answered(chain, policy.score, thresholds, parts.evaluate)
        quality, last = mean_quality(one.mixture), mean_quality(one.last)
        rows.append((float((one.stage > 0).mean()), quality, last, last - quality))
    columns = np.array(rows).T
    names = ("deferred", "quality", "quality_of_largest", "loss")
    return {"runs": len(rows)} | {
        name: {
            "mean": float(values.mean()),
            "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            "least": float(values.min()),
            "most": float(values.max()),
        }
        for name, values in zip(names, columns, strict=True)
    }


def curve(policy: Policy, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns quality [T], cost share [T] and share deferred [T] along the policy's path, on the examples `rows`."""
    outcome = path_outcome(policy.chain, policy.score, policy.path, rows)
    costs = [member.cost for member in policy.chain]
    return {"quality": outcome.quality, "cost_share": outcome.cost(costs) / costs[-1], "deferred": outcome.deferred}


def _shares_passed_on(chain: Sequence[Member], score: str, thresholds: np.ndarray, rows: np.ndarray) -> list[float]:
    """Returns which share of what reaches each stage but the last it passes on; 0 where nothing reaches it."""
    stage = stage_reached([member.uncertainty[score][rows] for member in chain[:-1]], thresholds)
    reached = [int((stage >= k).sum()) for k in range(len(chain))]
    return [after / before if before else 0.0 for before, after in zip(reached, reached[1:])]


def _thresholds_passing_on(chain: Sequence[Member], score: str, shares: list[float], rows: np.ndarray) -> np.ndarray:
    """Returns the thresholds [K - 1] at which each stage passes on these shares of what reaches it."""
    thresholds, reaching = [], rows
    for member, share in zip(chain[:-1], shares, strict=True):
        scores = member.uncertainty[score][reaching]
        count = round(share * len(scores))
        threshold = float(np.sort(scores)[-count]) if count else np.inf
        thresholds.append(threshold)
        reaching = reaching[scores >= threshold] if count else reaching[:0]
    return np.array(thresholds)


def _resampled(one: Answered, costs: np.ndarray, clusters: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
    """Returns bootstrap samples [B] of the mixture's, the last and the first stage's quality, the loss and the cost.

    `costs` [K] are of an example that each stage answers.
    """
    count, width = len(costs), one.last.shape[1]
    by_stage = (one.stage[:, None] == np.arange(count)[::-1]).astype(np.int64)
    sums, examples = resampled_sums(
        np.concatenate([by_stage, one.mixture, one.last, one.first], axis=1).astype(np.int64), clusters, seed
    )
    stages = sums[:, :count][:, ::-1] / examples[:, None]
    mixture, last, first = (
        quality_of_sums(sums[:, start : start + width], examples) for start in range(count, count + 3 * width, width)
    )
    return {
        "mixture": mixture,
        "last": last,
        "first": first,
        "loss": last - mixture,
        "cost": stages @ costs,
    }


def _number(value: float, low: float, high: float) -> Number:
    """Returns a value with its interval."""
    return {"value": value, "low": low, "high": high}
