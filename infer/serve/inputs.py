"""Reads the inputs of `POST /v1/predict`, one by one, and writes the answers to them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infer.serve.body import kind_of, shown_name
from infer.serve.problems import too_large, wrong_body
from infer.serve.ticket import Ticket
from metrics.rows.text import invalid_unicode

LONGEST_ID = 256  # characters
ALIAS = "text"  # what the field of a template with a single one may be called


@dataclass
class Inputs:
    """Holds the n inputs of a request: those that can be answered, and what is wrong with each of the others.

    Attributes:
        ids: what names each input in the answer, [n]; its place, where none was given.
        columns: the template's fields of the inputs that can be answered.
        places: which those are.
        errors: a sentence for each of the others, by its place.
        deadline_ms: within how many milliseconds the answer is wanted; None where that isn't said.

    """

    ids: list[str | int]
    columns: dict[str, list[str]]
    places: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    deadline_ms: int | None = None


def read_inputs(body: Mapping[str, Any], fields: Sequence[str], most: int) -> Inputs:
    """Reads the inputs of a request's JSON object; `fields` are the columns of the switcher's template.

    An input that can't be answered gets an error of its own. Raises Problem for a body whose inputs can't be told
    apart, for none, for more than `most`, and where none of them can be answered.
    """
    for name in body:
        if name not in ("inputs", "deadline_ms"):
            raise wrong_body(f"unknown member {shown_name(name)}; expected inputs, and deadline_ms if you like")
    values = body.get("inputs")
    if not isinstance(values, list):
        given = kind_of(values) if "inputs" in body else "nothing"
        raise wrong_body(f"inputs: {given}; expected a list such as {example(fields)}")
    if not values:
        raise wrong_body("inputs: an empty list; expected one input or more")
    if len(values) > most:
        raise too_large(f"{len(values):,} inputs; expected at most {most:,}: send several requests")
    found = Inputs([], {name: [] for name in fields}, deadline_ms=_deadline(body.get("deadline_ms")))
    seen: set[str | int] = set()
    for place, value in enumerate(values):
        found.ids.append(place)
        if (error := _add(found, place, value, fields, seen)) is not None:
            found.errors[place] = error
    if not found.places:
        raise wrong_body(
            f"none of the {len(values):,} inputs can be answered; the first: {found.errors[0]}",
            [error_object(found.ids[place], detail) for place, detail in found.errors.items()],
            bad=len(values),
        )
    return found


def _add(found: Inputs, place: int, value: Any, fields: Sequence[str], seen: set[str | int]) -> str | None:
    """Adds an input, or returns what is wrong with it. One without an id of its own has its place as its id."""
    if not (isinstance(value, dict) and "id" in value):
        if place in seen:
            return f"id: another input of this request has its place, {place}; give it an id of its own"
        seen.add(place)
    if not isinstance(value, dict):
        return f"{kind_of(value)}; expected an object such as {example(fields)[1:-1]}"
    if "id" in value:
        given = _whole(value["id"])
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            return f"id: {kind_of(given)}; expected text or a whole number"
        if isinstance(given, str) and (len(given) > LONGEST_ID or invalid_unicode(given) is not None):
            return f"id: expected at most {LONGEST_ID} characters of valid Unicode"
        if isinstance(given, int) and abs(given) >= 1 << 53:
            return "id: expected a whole number below 2**53, which JSON's readers agree on, or text"
        found.ids[place] = given
        if given in seen:
            return "id: another input of this request has it"
        seen.add(given)
    names = list(fields)
    if len(fields) == 1 and fields[0] not in value and ALIAS in value:
        names = [ALIAS]
    for name in value:
        if name != "id" and name not in names:
            return f"unknown field {shown_name(name)}; expected id, {', '.join(fields)}"
    for name in names:
        text = value.get(name)
        if not isinstance(text, str):
            return f"{name}: {kind_of(text) if name in value else 'missing'}; expected text"
        if not text.isascii() and (reason := invalid_unicode(text)) is not None:
            return f"{name}: not valid Unicode ({reason})"
    for name, column in zip(names, fields, strict=True):
        found.columns[column].append(value[name])
    found.places.append(place)
    return None


def _whole(value: Any) -> Any:
    """Returns a number that JSON writes with a point, such as 3.0, as the whole number that it is; others as given."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _deadline(value: Any) -> int | None:
    """Returns the deadline that a request asks for; raises Problem for what is none."""
    if value is None:
        return None
    value = _whole(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise wrong_body("deadline_ms: expected a whole number of milliseconds, 1 or more")
    return value


def example(fields: Sequence[str]) -> str:
    """Returns inputs as they are expected, for a message."""
    pairs = "".join(f', "{name}": "…"' for name in fields)
    return f'[{{"id": "1"{pairs}}}]'


def error_object(id: str | int, detail: str, name: str = "bad-input", title: str = "Bad input") -> dict[str, Any]:
    """Returns what is answered for an input that can't be."""
    return {"id": id, "error": {"type": f"urn:edgewise:{name}", "title": title, "detail": detail}}


def answer_body(inputs: Inputs, ticket: Ticket, certified: bool) -> bytes:
    """Returns the JSON of a request's answers: an entry for each input, in their order."""
    deployment = ticket.deployment
    names, thresholds = deployment.names, deployment.natural_thresholds
    outputs: list[dict[str, Any]] = [{}] * len(inputs.ids)
    for i, place in enumerate(inputs.places):
        if i in ticket.errors:
            outputs[place] = error_object(inputs.ids[place], ticket.errors[i], "device-failed", "Device failed")
            continue
        stage, log_score = ticket.stages[i], ticket.log_scores[i]
        outputs[place] = {
            "id": inputs.ids[place],
            "prediction": ticket.predictions[i],
            "model": names[stage],
            "score": None if math.isnan(log_score) else math.exp(log_score),
            "threshold": thresholds[stage],
            "deferred": stage > 0,
        }
    for place, detail in inputs.errors.items():
        outputs[place] = error_object(inputs.ids[place], detail)
    answer = {
        "switcher": deployment.ref,
        "digest": deployment.digest,
        "certified": certified,
        "degraded": ticket.small,
        "outputs": outputs,
    }
    return json.dumps(answer).encode()
