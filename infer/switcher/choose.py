"""Chooses a switcher from a dataset's scores artifacts: reads them, makes the candidates, and says what came of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import DEPLOYABLE_SCORES, Switcher
from infer.switcher.policy import Policy, Stage
from metrics.grid.collect import collect_grids
from metrics.grid.runs import Grid, SizeRuns
from metrics.scores import TokenScores
from metrics.statistics.policies import candidates
from metrics.statistics.policies.candidates import FEWEST, Goal, Parts, Uncertified, choose, cut_in_parts
from metrics.statistics.policies.expectations import curve, disagreement, expectations, over_seeds
from metrics.statistics.policies.routing import Member, stage_reached
from metrics.statistics.policies.scores import likelihood_score, token_score
from tracking.interface import Artifact

MOST_CALIBRATION = 10_000  # of a stage's sorted scores; of more, so many at equal steps


@dataclass(frozen=True)
class Chosen:
    """Holds a policy, its curve on the evaluate part (`metrics.statistics.policies.expectations.curve`), and notes."""

    policy: Policy
    curve: dict[str, np.ndarray]
    place: int  # of the policy on the curve
    notes: list[str]


@dataclass(frozen=True)
class Candidate:
    """Holds a scores artifact whose model is at hand."""

    scores: Artifact
    model: Artifact
    self_check: dict[str, Any] | None


def choose_switcher(
    runs: Sequence[Candidate], settings: Switcher, measured: Mapping[str, float] | None = None
) -> Chosen:
    """Chooses the switcher that `settings` ask for from the runs of one dataset and split.

    Costs are FLOPs, or, where given, the `measured` milliseconds of an example by size.
    Raises EdgewiseError where the runs don't fit together, for scores that can't be deployed, and where what was asked
    for can't be certified, with the least ε that can and the examples that the wanted one needs.
    """
    (grid,) = collect_grids([run.scores.file("scores.parquet") for run in runs])
    check_deployable(grid, settings)
    if len(grid.sizes) < 2:
        raise EdgewiseError(
            f"dataset {grid.dataset} has scores of {grid.sizes[0].name} alone: a switcher needs two sizes; train and "
            f"score a larger one (python -m sweeps -m dataset={grid.dataset} size=A,B)"
        )
    goal = _goal(grid, settings)
    parts = _parts(grid, settings)
    scores = scores_of(grid, settings)
    unit, costs = example_costs(grid, measured)
    members = {size.name: members_of(size, scores, costs[size.name]) for size in grid.sizes}
    found = choose(members, scores, goal, parts, settings.longest)
    if isinstance(found, Uncertified):
        raise EdgewiseError(_not_certified(found, settings))
    least_cost = found.chain[0].cost / found.chain[-1].cost
    if goal.name == "cost" and least_cost > goal.limit:
        raise EdgewiseError(
            f"switcher.cost={goal.limit:g}: {found.chain[0].size} alone costs {least_cost:.3g} of what "
            f"{found.chain[-1].size} alone does, in {unit}, and no candidate costs less; give it at least that, or "
            "score a smaller size"
        )
    if found.place == 0:
        raise EdgewiseError(
            f"switcher.goal={goal.name}: of {found.compared} candidates none does as well as {found.chain[-1].size} "
            "alone while it keeps any example: deploy that model by itself, or ask for less (switcher.goal=budget)"
        )
    by_run = {(run.scores.metadata["size"], run.scores.metadata["seed"]): run for run in runs}
    chain = [by_run[member.size, member.seed] for member in found.chain]
    described = _description(grid, [(member.size, member.seed) for member in found.chain])
    sizes = {size.name: size for size in grid.sizes}
    thresholds = [*map(float, found.thresholds), None]
    policy = Policy(
        dataset=grid.dataset,
        task=grid.task,
        **described,
        stages=[
            Stage(
                size=member.size,
                seed=member.seed,
                model=run.model.digest,
                parameters=sizes[member.size].parameters,
                flops_per_example=sizes[member.size].flops_per_example,
                score=found.score if threshold is not None else None,
                threshold=threshold,
            )
            for member, run, threshold in zip(found.chain, chain, thresholds, strict=True)
        ],
        goal={"name": goal.name, "limit": goal.limit, "delta": goal.delta, "candidates": found.compared, "unit": unit},
        certificate=_certificate(found, grid, parts),
        expected=_expected(found, sizes, parts, settings),
        over_seeds=over_seeds(found, members, parts),
        parts={name: len(getattr(parts, name)) for name in candidates.PART_NAMES}
        | {"split": grid.split, "seed": settings.seed},
        calibration=_calibration(found, parts),
        self_check=_self_checks(chain),
        inputs={run.scores.name: run.scores.digest for run in runs},
    )
    return Chosen(policy, curve(found, parts.evaluate), found.place, _notes(grid, policy))


def members_of(size: SizeRuns, scores: Sequence[str], cost: float) -> list[Member]:
    """Returns the runs of a size as members of a chain, with these scores and this cost of each example."""
    members = []
    for i, seed in enumerate(size.seeds):
        if size.task == "classification":
            likelihoods = cast(np.ndarray, size.runs[i].field("class_log_likelihoods"))
            uncertainty = {score: likelihood_score(score, likelihoods) for score in scores}
        else:
            tokens = cast(TokenScores, size.runs[i].field("self_tokens"))
            uncertainty = {score: token_score(score, tokens) for score in scores}
        if size.bleu_stats is not None:
            quality = size.bleu_stats[i]
        else:
            assert size.correct is not None
            quality = size.correct[i][:, None]
        members.append(Member(size.name, seed, cost, uncertainty, quality))
    return members


def example_costs(grid: Grid, measured: Mapping[str, float] | None) -> tuple[str, dict[str, float]]:
    """Returns the unit of costs, and what an example costs each size: measured ms, FLOPs, or parameters in their place.

    Raises EdgewiseError where a size wasn't measured.
    """
    sizes = [size.name for size in grid.sizes]
    if measured is not None:
        if missing := [name for name in sizes if name not in measured]:
            there = ", ".join(measured)
            raise EdgewiseError(
                f"switcher.measured has no milliseconds of {', '.join(missing)}, it has those of {there}: limit the "
                f"candidates (switcher.sizes=[{there}]), or evaluate a switcher of all of them"
            )
        return "ms", {name: measured[name] for name in sizes}
    if all(size.flops_per_example > 0 for size in grid.sizes):
        return "FLOPs", {size.name: size.flops_per_example for size in grid.sizes}
    return "parameters", {size.name: float(size.parameters) for size in grid.sizes}


def scores_of(grid: Grid, settings: Switcher) -> list[str]:
    """Returns the scores to compare: of two classes the entropy orders as the margin does and is left out beside it."""
    scores = list(dict.fromkeys(settings.scores))
    if len(grid.classes) == 2 and "margin" in scores:
        scores = [score for score in scores if score != "entropy"]
    return scores


def check_deployable(grid: Grid, settings: Switcher) -> None:
    """Raises EdgewiseError for scores that new text can't have, or that cost every run of a size, with that cost."""
    if settings.context == "gold" and grid.task != "classification":
        raise EdgewiseError(
            "switcher.context=gold: scores of the gold answer read the label, which new text doesn't have: leave "
            "switcher.context=self, the scores of the model's own output"
        )
    refused = [score for score in settings.scores if score not in DEPLOYABLE_SCORES]
    if refused:
        small, large = grid.sizes[0], grid.sizes[-1]
        passes = len(small.seeds)
        share = passes * small.flops_per_example / large.flops_per_example if large.flops_per_example > 0 else None
        cost = f", {100 * share:.3g} % of one of {large.name}" if share is not None else ""
        raise EdgewiseError(
            f"switcher.scores: {', '.join(refused)} of an example needs a pass of every run of the size: with the "
            f"{passes} runs of {small.name}, {passes} passes{cost}. A switcher runs one of them; choose among "
            f"{', '.join(DEPLOYABLE_SCORES)}"
        )


def _goal(grid: Grid, settings: Switcher) -> Goal:
    """Returns the goal, with its limit."""
    assert settings.goal is not None
    if settings.goal == "certified" and grid.task == "translation":
        raise EdgewiseError(
            "switcher.goal=certified: a translation is neither right nor wrong, so there is no accuracy to certify; "
            "choose budget, whose share deferred is promised, or cost, match or best"
        )
    limits = {"budget": settings.budget, "cost": settings.cost, "certified": settings.epsilon}
    return Goal(settings.goal, limits.get(settings.goal) or 0.0, settings.delta)


def _parts(grid: Grid, settings: Switcher) -> Parts:
    """Cuts the examples in three; raises EdgewiseError where one would be too small."""
    try:
        return cut_in_parts(grid.examples, settings.parts, settings.seed, grid.clusters)
    except ValueError as error:
        raise EdgewiseError(
            f"switcher.parts={settings.parts}: {error}; score more examples, or give it a larger share (each part has "
            f"{FEWEST} examples or more)"
        ) from None


def _not_certified(found: Uncertified, settings: Switcher) -> str:
    """Says that nothing was certified, and what would help."""
    epsilon = settings.epsilon
    if found.in_clusters:
        needed = "they come in clusters, of which it needs more, or smaller ones"
    elif found.examples_needed is None:
        needed = "no number of examples would do, because the loss seen is not below it"
    else:
        scored = int(np.ceil(found.examples_needed / settings.parts[1]))
        needed = (
            f"it needs about {found.examples_needed:,} examples to certify with ({scored:,} scored ones with these "
            "switcher.parts), by the losses seen"
        )
    return (
        f"switcher.epsilon={epsilon:g} can't be certified with switcher.delta={settings.delta:g} by {found.examples:,} "
        f"examples: {needed}. The least that can be is switcher.epsilon={_rounded_up(found.least_epsilon):g}"
    )


def _rounded_up(value: float) -> float:
    """Returns a number with four decimals that is no less than `value`."""
    return float(np.ceil(value * 1e4 + 1e-9) / 1e4)


def _description(grid: Grid, chain: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Returns how text becomes an answer, as the runs of the chain were scored; EdgewiseError where they differ."""
    runs = {(run.metadata.size, run.metadata.seed): run.metadata for size in grid.sizes for run in size.runs}
    found: dict[str, dict[str, Any]] = {}
    for size, seed in chain:
        metadata = runs[size, seed]
        scoring = metadata.config.get("scoring")
        if not isinstance(scoring, dict) or not isinstance(scoring.get("dataset"), dict):
            raise EdgewiseError(
                f"the scores of {metadata.run_name} don't say how text was made of its rows; score it again "
                "(python -m infer force=true)"
            )
        dataset = scoring["dataset"]
        dtype = re.search(r"dtype:(\w+)", metadata.signature)
        found[joined_name(size, f"s{seed}")] = {
            "labels": dataset["classes"] or [],
            "template": dataset["template"],
            "max_input_length": dataset["max_input_length"],
            "max_target_length": dataset.get("max_target_length"),
            "decoding": {key: scoring[key] for key in ("beams", "length_penalty") if key in scoring},
            "dtype": dtype.group(1) if dtype else "float32",
        }
    (first, described), *others = found.items()
    for name, other in others:
        for key, value in other.items():
            if value != described[key]:
                raise EdgewiseError(
                    f"{first} and {name} of {grid.dataset} were scored with another {key}: {described[key]!r} and "
                    f"{value!r}; score them alike"
                )
    return described


def _certificate(found: candidates.Policy, grid: Grid, parts: Parts) -> dict[str, Any]:
    """Returns what is promised, in JSON values; what isn't is null, with the reason."""
    promise = found.promise
    loss: dict[str, Any] = {"at_most": promise.loss}
    if promise.loss is None:
        loss["reason"] = f"{grid.task} has no right or wrong answers, so no accuracy can be certified"
    else:
        loss |= {"examples": len(getattr(parts, promise.loss_from)), "part": promise.loss_from}
    return {
        "loss": loss,
        "deferred": {
            "at_most": promise.deferred,
            "examples": len(getattr(parts, promise.deferred_from)),
            "part": promise.deferred_from,
        },
        "method": "fixed-sequence testing of one path; "
        + ("exact trinomial and Clopper-Pearson limits" if grid.clusters is None else "bets on sums of whole clusters")
        + "; each by itself",
        "clusters": None if grid.clusters is None else int(grid.clusters.max()) + 1,
        "reference": joined_name(found.chain[-1].size, f"s{found.chain[-1].seed}"),
    }


def _expected(
    found: candidates.Policy, sizes: Mapping[str, SizeRuns], parts: Parts, settings: Switcher
) -> dict[str, Any]:
    """Returns what to expect, with the disagreement that the watch compares with."""
    runs = [(sizes[member.size], member.seed) for member in found.chain]
    predictions = [size.prediction[size.seeds.index(seed)] for size, seed in runs]
    return expectations(found, parts, settings.confidence, settings.seed) | {
        "disagreement": disagreement(found, predictions, parts, settings.confidence)
    }


def _calibration(found: candidates.Policy, parts: Parts) -> list[list[float]]:
    """Returns the certify part's sorted scores that reach each stage but the last."""
    scores = [member.uncertainty[found.score][parts.certify] for member in found.chain[:-1]]
    stage = stage_reached(scores, found.thresholds)
    sorted_scores = [np.sort(values[stage >= k]) for k, values in enumerate(scores)]
    return [
        (values[np.linspace(0, len(values) - 1, MOST_CALIBRATION).round().astype(int)]).tolist()
        if len(values) > MOST_CALIBRATION
        else values.tolist()
        for values in sorted_scores
    ]


def _self_checks(chain: Sequence[Candidate]) -> list[dict[str, Any]] | None:
    """Returns each stage's self-check; None where one has none."""
    checks = [run.self_check for run in chain]
    return [check for check in checks if check is not None] if all(check is not None for check in checks) else None


def _notes(grid: Grid, policy: Policy) -> list[str]:
    """Returns what whoever deploys it should know."""
    notes = []
    if policy.goal["unit"] == "parameters":
        notes.append("Not every scores file says FLOPs: costs are ratios of parameters.")
    if grid.clusters is not None:
        notes.append(
            f"The examples lie in {policy.certificate['clusters']:,} clusters, each in one part; the promises bet on "
            "whole clusters instead of counting examples, and hold for clusters up to the size of the largest of these."
        )
    if policy.self_check is None:
        notes.append(
            "The scores are from before self-checks were kept: whether a machine computes as theirs did can't be "
            "checked; python -m infer … force=true adds them."
        )
    if policy.expected["cost_share"]["value"] >= 1:
        notes.append(
            f"It costs {100 * policy.expected['cost_share']['value']:.0f} % of {policy.stages[-1].size} alone: that "
            "model by itself is cheaper."
        )
    return notes
