"""Writes a switcher's card: what it does, what it promises and what to expect, for people to read."""

import math
from typing import Any

from infer.switcher.policy import Policy

MEASURES = {"classification": "accuracy", "span_qa": "exact match", "translation": "BLEU"}
GOALS = {
    "budget": "defers at most {limit:.4g} % of the examples",
    "cost": "has the best quality at about {limit:.4g} % of the largest model's cost",
    "match": "is the cheapest that reaches the largest model",
    "certified": "is the cheapest that loses at most {limit:.4g} points against the largest model",
    "best": "has the best quality",
}


def goal_sentence(policy: Policy) -> str:
    """Says what the switcher was chosen for, such as "defers at most 20 % of the examples"."""
    return GOALS[policy.goal["name"]].format(limit=100 * policy.goal["limit"])


def expectation_lines(policy: Policy) -> list[str]:
    """Returns what to expect, a line each: what the evaluate part shows, and what is promised."""
    expected, unit = policy.expected, "" if policy.task == "translation" else " %"
    measure, largest = MEASURES[policy.task], policy.stages[-1].name
    points = "points" if policy.task != "translation" else "BLEU"
    lines = [
        f"on {expected['examples']:,} examples that chose nothing: {_interval(expected['deferred'], ' %')} deferred, "
        f"{measure} {_interval(expected['quality'], unit)}",
        f"{largest} alone {_interval(expected['quality_of_largest'], unit)}, {policy.stages[0].name} alone "
        f"{_interval(expected['quality_of_smallest'], unit)}; loss {_interval(expected['loss'], f' {points}')}",
        f"cost {_interval(expected['cost_share'], ' %')} of {largest} alone, in {policy.goal['unit']}",
    ]
    return [*lines, promise_line(policy)]


def promise_line(policy: Policy) -> str:
    """Says what is promised, and with which probability."""
    sure = f"{100 * (1 - policy.goal['delta']):g} %"
    deferred, loss = policy.certificate["deferred"]["at_most"], policy.certificate["loss"]["at_most"]
    said = f"with probability {sure} each, on examples like these: at most {100 * deferred:.3g} % deferred"
    if loss is None:
        return f"{said}; {policy.certificate['loss']['reason']}"
    against = policy.certificate["reference"]
    if loss <= 0:
        return f"{said}; at least {-100 * loss:.2g} points better than {against}"
    return f"{said}; at most {100 * loss:.3g} points below {against}"


def card(policy: Policy, picture: str) -> str:
    """Returns the card as Markdown; `picture` is the file of the curve beside it."""
    seeds = policy.over_seeds
    return "\n".join(
        [
            f"# {policy.name}",
            "",
            f"Answers {policy.dataset} ({policy.task}) by {policy.chain}: it {goal_sentence(policy)}.",
            "",
            f"![Quality against cost]({picture})",
            "",
            "| Stage | Model | Parameters | Score | Goes on at |",
            "| --- | --- | ---: | --- | ---: |",
            *(
                f"| {stage.name} | {stage.model} | {stage.parameters:,} | {stage.score or '–'} | "
                f"{natural(stage.threshold)} |"
                for stage in policy.stages
            ),
            "",
            "An example goes on to the next stage where its score is at least that. Margin is 1 - (p₁ - p₂), entropy "
            "is in nats; of written answers, a mean over tokens.",
            "",
            "## What to expect",
            "",
            *(f"- {line[0].upper()}{line[1:]}." for line in expectation_lines(policy)),
            f"- With other seeds of the same sizes ({seeds['runs']}), deferring the same shares: loss "
            f"{100 * seeds['loss']['mean']:.2f} on average, {100 * seeds['loss']['least']:.2f} to "
            f"{100 * seeds['loss']['most']:.2f}.",
            "",
            "## How it was chosen",
            "",
            f"{policy.goal['candidates']} candidates; of the {policy.parts['split']} split's examples "
            f"{policy.parts['select']:,} selected, {policy.parts['certify']:,} certified, "
            f"{policy.parts['evaluate']:,} evaluated (seed {policy.parts['seed']}). Activations in {policy.dtype}. "
            f"Scores of {len(policy.inputs)} runs.",
            "",
        ]
    )


def natural(threshold: float | None) -> str:
    """Writes a threshold in the score's own unit, from its natural logarithm; a dash for none."""
    if threshold is None:
        return "–"
    if math.isinf(threshold):
        return "all" if threshold < 0 else "none"
    return f"{math.exp(threshold):.4g}"


def _interval(number: dict[str, Any], unit: str) -> str:
    """Writes a share as percent with its interval, such as `18.3 % (15.2 to 21.7)`."""
    return f"{100 * number['value']:.2f}{unit} ({100 * number['low']:.2f} to {100 * number['high']:.2f})"
