"""Chooses a policy for a goal: cuts the examples in three, compares candidates on one part, certifies on the next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from metrics.statistics.policies.evidence import ByClusters, ByExamples, Evidence
from metrics.statistics.policies.paths import path_of
from metrics.statistics.policies.promises import certified_place, loss_limit
from metrics.statistics.policies.routing import Member, PathOutcome, mean_quality, path_outcome

PART_NAMES = ("select", "certify", "evaluate")
FEWEST = 20  # examples of each part


@dataclass(frozen=True)
class Goal:
    """Says what a policy is for. `limit` is the budget, the cost (both shares, 0-1) or ε, and 0 for match and best."""

    name: str  # budget | cost | match | certified | best
    limit: float
    delta: float  # the chance with which a promise may be broken


@dataclass(frozen=True)
class Parts:
    """Holds the places [m] int64, ascending, of the examples of each part; no example is in two.

    Examples that come in `clusters` prove less than as many that don't, so that promises go by whole clusters then.
    """

    select: np.ndarray
    certify: np.ndarray
    evaluate: np.ndarray
    clusters: np.ndarray | None = None  # [n] int, the cluster of each of the n examples
    seed: int = 0  # of the order in which clusters are bet on


@dataclass(frozen=True)
class Promise:
    """Holds what is certain with probability at least 1 - δ, each statement by itself.

    `loss` is how far below the last stage the mixture is at most (0-1, below 0: it is better); `deferred` is the share
    that leaves the first stage at most. None where nothing can be said. `loss_from` and `deferred_from` name the part
    whose examples say so.
    """

    loss: float | None
    loss_from: str
    deferred: float | None
    deferred_from: str


@dataclass(frozen=True)
class Policy:
    """Holds a chosen policy: its chain of K runs, the score, and the thresholds [K - 1] float64, natural logarithms."""

    chain: tuple[Member, ...]
    score: str
    thresholds: np.ndarray
    path: np.ndarray  # [T, K - 1], of which `thresholds` is the row `place`
    place: int
    promise: Promise
    compared: int  # candidates


@dataclass(frozen=True)
class Uncertified:
    """Says why no threshold could be certified, and what would help."""

    least_epsilon: float  # with which something can be
    examples_needed: int | None  # of the certify part for the wanted ε; None where no number helps
    examples: int  # of the certify part
    in_clusters: bool = False  # then the number of clusters counts, not that of examples


def cut_in_parts(examples: int, shares: Sequence[float], seed: int, clusters: np.ndarray | None = None) -> Parts:
    """Draws the three parts of n examples at random, by `shares`, which add up to 1.

    Examples that share a cluster, a number in `clusters` [n], are in one part. Raises ValueError where a part is left
    with fewer than FEWEST.
    """
    groups = np.arange(examples) if clusters is None else clusters
    count = int(groups.max()) + 1
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(16,)))
    place = np.empty(count, np.int64)  # of each group in a drawn order
    place[rng.permutation(count)] = np.arange(count)
    order = np.argsort(place[groups], kind="stable")
    cuts = np.round(np.cumsum(shares[:-1]) * examples).astype(int)
    if clusters is not None:  # each cut goes on to the next group's first example
        starts = np.append(np.flatnonzero(np.diff(place[groups][order], prepend=-1)), examples)
        cuts = starts[np.searchsorted(starts, cuts)]
    parts = [np.sort(part) for part in np.split(order, cuts)]
    for name, part in zip(PART_NAMES, parts, strict=True):
        if len(part) < FEWEST:
            raise ValueError(f"the part {name} has {len(part)} of {examples} examples, expected {FEWEST} or more")
    select, certify, evaluate = parts
    return Parts(select, certify, evaluate, clusters, seed)


def choose(
    members: Mapping[str, Sequence[Member]],
    scores: Sequence[str],
    goal: Goal,
    parts: Parts,
    longest: int = 4,
) -> Policy | Uncertified:
    """Chooses the candidate and its thresholds for a goal.

    `members` maps each size, smallest first, to its runs. The last stage is the run of the largest size with the best
    quality on the select part. Candidates are every run of every smaller size before it, by each score; then chains of
    up to `longest` sizes, of each size the run that did best in a pair. The candidate is chosen on the select part. The
    thresholds of the goals cost, match and best are too; those of budget and certified are the ones that pass the test
    on the certify part.
    """
    best: tuple[tuple[float, float], tuple[Member, ...], str, np.ndarray, PathOutcome, int] | None = None
    compared = 0
    last = max(members[list(members)[-1]], key=lambda member: mean_quality(member.quality[parts.select]))
    by_run: dict[tuple[str, int], tuple[float, float]] = {}

    def consider(chain: tuple[Member, ...]) -> None:
        """Compares a chain by each score with the best so far."""
        nonlocal best, compared
        for score in scores:
            path = path_of(chain, score, parts.select)
            outcome = path_outcome(chain, score, path, parts.select)
            place, value = _place_and_value(outcome, chain, goal, len(parts.certify))
            compared += 1
            first = chain[0].size, chain[0].seed
            by_run[first] = max(by_run.get(first, value), value)
            if best is None or value > best[0]:
                best = value, chain, score, path, outcome, place

    smaller = list(members)[:-1]
    for size in smaller:
        for member in members[size]:
            consider((member, last))
    leaders = {size: max(members[size], key=lambda m: by_run[m.size, m.seed]) for size in smaller}
    for sizes in longer_chains(smaller, longest - 1):
        consider((*(leaders[size] for size in sizes), last))
    assert best is not None
    _, chain, score, path, selected, place = best
    certify = _evidence(chain, score, path, parts.certify, parts)
    if goal.name == "certified":
        place = certify.certified_place(goal.limit, goal.delta)
        if place == 0:
            return Uncertified(
                certify.least_epsilon(goal.delta),
                certify.fewest_examples(goal.limit, goal.delta),
                len(parts.certify),
                in_clusters=parts.clusters is not None,
            )
    elif goal.name == "budget":
        first = certify.budget_place(goal.limit, goal.delta)
        place = first + int(np.argmax(selected.quality[first:]))
    evaluate = _evidence(chain, score, path[place : place + 1], parts.evaluate, parts)
    promise = _promise(goal, chain, certify, place, evaluate)
    return Policy(chain, score, path[place], path, place, promise, compared)


def _evidence(chain: Sequence[Member], score: str, path: np.ndarray, rows: np.ndarray, parts: Parts) -> Evidence:
    """Returns what the examples `rows` [m] prove of a path, by whole clusters where they come in clusters."""
    if parts.clusters is None:
        return ByExamples(path_outcome(chain, score, path, rows))
    return ByClusters.of_path(chain, score, path, rows, parts.clusters, parts.seed)


def longer_chains(smaller: Sequence[str], longest: int) -> Iterator[tuple[str, ...]]:
    """Yields every choice of two to `longest` of the smaller sizes, in their order."""
    for count in range(2, longest + 1):
        yield from combinations(smaller, count)


def _place_and_value(
    outcome: PathOutcome, chain: Sequence[Member], goal: Goal, certify_examples: int
) -> tuple[int, tuple[float, float]]:
    """Returns the place on the path that suits the goal on the select part, and how good it is (larger is better)."""
    cost = outcome.cost([member.cost for member in chain])
    quality = outcome.quality
    if goal.name == "certified":
        # what the test would say if the certify part's examples came out as these
        scale = certify_examples / outcome.examples
        worse, better = (np.rint(count * scale).astype(np.int64) for count in (outcome.worse, outcome.better))
        place = certified_place(worse, better, certify_examples, goal.limit, goal.delta)
        limit = loss_limit(worse, better, certify_examples, goal.delta)
        return place, (-float(cost[place]), -float(limit[min(1, len(limit) - 1)]))
    if goal.name == "match":
        place = _best_of(quality >= quality[0], -cost, quality)
        return place, (-float(cost[place]), float(quality[place]))
    allowed = np.ones(len(quality), bool)
    if goal.name == "budget":
        allowed = outcome.deferred <= goal.limit
    elif goal.name == "cost":
        allowed = cost <= goal.limit * chain[-1].cost
    if not allowed.any():  # even the smallest alone costs more
        return len(quality) - 1, (-np.inf, -float(cost[-1]))
    place = _best_of(allowed, quality, -cost)
    return place, (float(quality[place]), -float(cost[place]))


def _best_of(allowed: np.ndarray, first: np.ndarray, second: np.ndarray) -> int:
    """Returns the allowed place with the largest `first`, and of several with the largest `second`."""
    places = np.flatnonzero(allowed)
    return int(places[np.lexsort((second[places], first[places]))[-1]])


def _promise(goal: Goal, chain: Sequence[Member], certify: Evidence, place: int, evaluate: Evidence) -> Promise:
    """Returns what holds of the place with 1 - δ: by the part that didn't choose it, or by the test that did."""
    loss: float | None = None
    loss_from, deferred_from = "certify", "certify"
    if goal.name == "certified":
        loss, deferred_from = goal.limit, "evaluate"
        deferred = evaluate.deferred_limit(0, goal.delta)
    elif goal.name == "budget":
        deferred, loss_from = goal.limit, "evaluate"
    else:
        deferred = certify.deferred_limit(place, goal.delta)
    if loss is None and chain[-1].right_or_wrong:
        loss = evaluate.loss_limit(0, goal.delta) if goal.name == "budget" else certify.loss_limit(place, goal.delta)
    return Promise(loss, loss_from, deferred, deferred_from)


def matched_runs(chain: Sequence[Member], members: Mapping[str, Sequence[Member]]) -> Iterator[tuple[Member, ...]]:
    """Yields chains of the same sizes: of each seed that all of them have, else of all combinations of runs."""
    by_seed = [{member.seed: member for member in members[stage.size]} for stage in chain]
    shared = sorted(set.intersection(*(set(runs) for runs in by_seed)))
    if shared:
        yield from (tuple(runs[seed] for runs in by_seed) for seed in shared)
    else:
        yield from product(*(runs.values() for runs in by_seed))
