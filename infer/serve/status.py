"""Says what the page shows: which switcher answers, what it promises, what was answered, what the watch sees."""

from typing import Any

from infer.serve.service import Service
from infer.switcher.card import MEASURES, expectation_lines, goal_sentence, promise_line
from infer.switcher.policy import Policy


def status_of(service: Service) -> dict[str, Any]:
    """Returns the state of the server as JSON values; never the text of an input."""
    deployment = service.ready()
    policy, watching = deployment.policy, deployment.watching
    return {
        "switcher": deployment.ref,
        "digest": deployment.digest,
        "chain": policy.chain,
        "device": deployment.engine.device,
        "goal": _said(goal_sentence, policy),
        "expected": _expected(policy),
        "promise": _said(promise_line, policy),
        "certified": deployment.certified,
        "promised": deployment.promised,
        "fields": deployment.fields,
        "models": deployment.names,
        "waiting": len(deployment.queue),
        "counts": service.history.counts(),
        "history": service.history.intervals(),
        "alarms": [] if watching is None else [alarm._asdict() for alarm in watching.watch.alarms],
        "watch": {} if watching is None else watching.watch.gauges(),
    }


def _said(sentence: Any, policy: Policy) -> str | None:
    """Returns a sentence about a policy; None where what it says isn't known."""
    try:
        return str(sentence(policy))
    except (KeyError, TypeError):
        return None


def _expected(policy: Policy) -> dict[str, Any] | None:
    """Returns what was expected when the switcher was chosen: shares, and the lines that say it."""
    if not policy.expected:
        return None
    limit = policy.certificate.get("deferred") or {}
    return {
        "deferred": policy.expected["deferred"],
        "deferred_at_most": limit.get("at_most"),
        "cost_share": policy.expected["cost_share"],
        "measure": MEASURES[policy.task],
        "lines": expectation_lines(policy)[:-1],
    }
