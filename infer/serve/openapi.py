"""Describes for `/openapi.json` the bodies that `inputs.py` and `tensors.py` read by hand."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from infer.serve.inputs import ALIAS, LONGEST_ID

_LARGEST_ID = 2**53 - 1
_ID = {
    "anyOf": [
        {"type": "string", "maxLength": LONGEST_ID},
        {"type": "integer", "minimum": -_LARGEST_ID, "maximum": _LARGEST_ID},
    ]
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_STATUSES = {
    400: "Not HTTP or not JSON",
    401: "No token, or a wrong one",
    404: "No such path, model or version",
    405: "Not this method",
    408: "The request came too slowly",
    413: "Too long, or too many inputs",
    415: "Not this media type or encoding",
    422: "JSON that is not what the path takes",
    429: "Too much waits",
    503: "Not ready, or ending",
    504: "The deadline passed",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/problem+json": {"schema": _PROBLEM}}}
    for status, text in _STATUSES.items()
}

_INPUT = {
    "type": "object",
    "description": "The columns of the switcher's template, each a text; where it has one, it may be called text.",
    "properties": {"id": _ID, "text": {"type": "string"}},
    "additionalProperties": {"type": "string"},
}
_OUTPUT = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": _ID,
        "prediction": {"type": "string"},
        "model": {"type": "string", "description": "Which run answered."},
        "score": {"type": ["number", "null"], "description": "The uncertainty that decided."},
        "threshold": {"type": ["number", "null"], "description": "From which score on it is passed on; null: never."},
        "deferred": {"type": "boolean", "description": "Whether the smallest model passed it on."},
        "error": {"type": "object", "description": "Why there is no answer; then there is nothing else."},
    },
}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a JSON body that has a schema."""
    return {"content": {"application/json": {"schema": schema}}}


def _operation(body: Mapping[str, Any], answer: Mapping[str, Any], said: str) -> dict[str, Any]:
    """Returns the description of a path that takes one JSON object and answers with another, which `said` describes."""
    return {
        "requestBody": {"required": True, **_json(body)},
        "responses": {"200": {"description": said, **_json(answer)}},
    }


PREDICT = _operation(
    {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "inputs": {"type": "array", "minItems": 1, "items": _INPUT},
            "deadline_ms": {"type": ["integer", "null"], "minimum": 1},
        },
    },
    {
        "type": "object",
        "required": ["switcher", "digest", "certified", "degraded", "outputs"],
        "properties": {
            "switcher": {"type": "string"},
            "digest": {"type": "string"},
            "certified": {"type": "boolean"},
            "degraded": {"type": "boolean"},
            "outputs": {"type": "array", "items": _OUTPUT},
        },
    },
    "An entry for each input, in their order",
)

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
INFER = _operation(
    {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        },
    },
    {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {"outputs": {"type": "array", "items": _TENSOR}},
    },
    "The outputs' tensors",
)


def with_fields(description: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Returns an OpenAPI description whose inputs have the fields of a switcher's template, and no others."""
    described: dict[str, Any] = copy.deepcopy(dict(description))
    body = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    text = {"type": "string"}
    ways = [list(fields)]
    if len(fields) == 1 and fields[0] != ALIAS:
        ways.append([ALIAS])
    inputs = [
        {
            "type": "object",
            "required": names,
            "properties": {"id": _ID, **dict.fromkeys(names, text)},
            "additionalProperties": False,
        }
        for names in ways
    ]
    body["properties"]["inputs"]["items"] = inputs[0] if len(inputs) == 1 else {"anyOf": inputs}
    return described
