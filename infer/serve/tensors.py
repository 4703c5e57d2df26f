"""Reads and writes the tensors of the Open Inference Protocol, with its binary tensor extension.

Sources: https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infer.serve.body import kind_of, read_json, shown_name
from infer.serve.inputs import Inputs, example
from infer.serve.problems import Problem, too_large, wrong_body
from infer.serve.ticket import Ticket
from metrics.rows.text import invalid_unicode

JSON_LENGTH = "inference-header-content-length"
OUTPUTS = {  # name -> datatype; each has the shape [n]
    "prediction": "BYTES",
    "model": "BYTES",
    "score": "FP64",
    "threshold": "FP64",
    "deferred": "BOOL",
    "error": "BYTES",
}
LARGEST = 1.7976931348623157e308  # JSON has no infinity


@dataclass
class TensorRequest:
    """Holds an inference request: its inputs, and which outputs are wanted, True for those in binary."""

    id: str | None
    inputs: Inputs
    outputs: dict[str, bool]


def metadata(name: str, versions: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
    """Returns the model metadata of the protocol."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": "edgewise_jax",
        "inputs": [{"name": field, "datatype": "BYTES", "shape": [-1]} for field in fields],
        "outputs": [{"name": output, "datatype": kind, "shape": [-1]} for output, kind in OUTPUTS.items()],
    }


def read_tensors(body: bytes, json_length: str | None, fields: Sequence[str], most: int) -> TensorRequest:
    """Reads an inference request; `json_length` is the header that says how much of a body with binary data is JSON.

    Raises Problem for what the protocol doesn't allow, for other inputs than `fields`, and for more than `most`.
    """
    if json_length is None:
        request, binary = read_json(body), b""
    else:
        if not json_length.isdecimal() or len(json_length) > 18 or int(json_length) > len(body):
            raise Problem(
                400,
                "bad-header-length",
                "Bad Request",
                f"Inference-Header-Content-Length: expected a number of bytes, at most the body's {len(body):,}",
            )
        request, binary = read_json(body[: int(json_length)]), body[int(json_length) :]
    columns, errors = _columns(request, binary, fields, most)
    n = len(columns[fields[0]])
    places = [place for place in range(n) if place not in errors]
    if not places:
        raise wrong_body(f"none of the {n:,} inputs can be answered; the first: {errors[0]}", bad=n)
    parameters = _object(request.get("parameters"), "parameters")
    kept = {name: [column[place] for place in places] for name, column in columns.items()}
    inputs = Inputs(list(range(n)), kept, places, errors, _timeout(parameters))
    given = request.get("id")
    if given is not None and (not isinstance(given, str) or invalid_unicode(given) is not None):
        raise wrong_body(f"id: {kind_of(given)}; expected valid text")
    return TensorRequest(given, inputs, _wanted(request.get("outputs"), bool(parameters.get("binary_data_output"))))


def _columns(
    request: Mapping[str, Any], binary: bytes, fields: Sequence[str], most: int
) -> tuple[dict[str, list[str]], dict[int, str]]:
    """Returns the texts of each field, and what is wrong with a place."""
    tensors = request.get("inputs")
    if not isinstance(tensors, list):
        raise wrong_body(f"inputs: {kind_of(tensors)}; expected a list with a tensor for each of {', '.join(fields)}")
    columns: dict[str, list[str]] = {}
    errors: dict[int, str] = {}
    start = 0
    for tensor in tensors:
        tensor = _object(tensor, "inputs")
        name, shape, parameters = (
            tensor.get("name"),
            tensor.get("shape"),
            _object(tensor.get("parameters"), "parameters"),
        )
        if name not in fields or name in columns:
            raise wrong_body(f"inputs: a tensor {shown_name(str(name))}; expected one for each of {', '.join(fields)}")
        if tensor.get("datatype") != "BYTES":
            raise wrong_body(f"{name}: expected the datatype BYTES")
        n = _rows(shape)
        if n is None:
            raise wrong_body(f"{name}: expected a shape [n], or [n, 1], with n of 1 or more")
        if n > most:
            raise too_large(f"{n:,} inputs; expected at most {most:,}: send several requests")
        if "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            if type(size) is not int or not 0 <= size <= len(binary) - start or "data" in tensor:
                raise wrong_body(f"{name}: binary_data_size: expected at most the bytes after the JSON, and no data")
            values: list[Any] = _elements(binary[start : start + size], name)
            start += size
        else:
            values = tensor.get("data")  # type: ignore[assignment]  # checked in the next lines
            if not isinstance(values, list):
                raise wrong_body(f"{name}: data: {kind_of(values)}; expected a list of {n:,} texts")
            values = [one for row in values for one in (row if isinstance(row, list) else [row])]
        if len(values) != n:
            raise wrong_body(f"{name}: {len(values):,} texts; expected {n:,}, as its shape says")
        columns[str(name)] = [_text(value, str(name), place, errors) for place, value in enumerate(values)]
    if missing := [name for name in fields if name not in columns]:
        raise wrong_body(f"inputs: no tensor {', '.join(missing)}; expected one for each of {', '.join(fields)}")
    if start != len(binary):
        raise wrong_body(f"{len(binary) - start:,} bytes follow the tensors; expected none")
    if len({len(column) for column in columns.values()}) > 1:
        raise wrong_body("inputs: tensors of different lengths; expected one shape")
    return columns, errors


def _rows(shape: Any) -> int | None:
    """Returns the n of a shape [n] or [n, 1]; None for any other."""
    if not isinstance(shape, list) or any(type(size) is not int for size in shape):
        return None
    return shape[0] if shape and shape[0] >= 1 and shape[1:] in ([], [1]) else None


def _elements(data: bytes, name: Any) -> list[bytes]:
    """Returns the elements of a binary tensor: each has its length before it, four bytes, the lowest first."""
    elements = []
    start = 0
    while start < len(data):
        if len(data) - start < 4:
            raise wrong_body(f"{name}: the binary data ends in the midst of a length")
        (size,) = struct.unpack_from("<I", data, start)
        if size > len(data) - start - 4:
            raise wrong_body(f"{name}: the binary data ends in the midst of an element")
        elements.append(data[start + 4 : start + 4 + size])
        start += 4 + size
    return elements


def _text(value: Any, name: str, place: int, errors: dict[int, str]) -> str:
    """Returns an element as text, "" with a note in `errors` where it is none."""
    problem = None
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            problem = f"{name}: not UTF-8"
    elif not isinstance(value, str):
        problem = f"{name}: {kind_of(value)}; expected text"
    elif (reason := invalid_unicode(value)) is not None:
        problem = f"{name}: not valid Unicode ({reason})"
    else:
        return value
    errors.setdefault(place, problem)
    return ""


def _wanted(outputs: Any, binary: bool) -> dict[str, bool]:
    """Returns which outputs are wanted, and whether in binary; without a list, all."""
    if outputs is None or outputs == []:
        return dict.fromkeys(OUTPUTS, binary)
    if not isinstance(outputs, list):
        raise wrong_body(f"outputs: {kind_of(outputs)}; expected a list")
    wanted: dict[str, bool] = {}
    for output in outputs:
        output = _object(output, "outputs")
        name = output.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            raise wrong_body(f"outputs: {shown_name(str(name))}; expected some of {', '.join(OUTPUTS)}")
        wanted[name] = bool(_object(output.get("parameters"), "parameters").get("binary_data", binary))
    return wanted


def _timeout(parameters: Mapping[str, Any]) -> int | None:
    """Returns the deadline in milliseconds of a request that gives `timeout`, which Triton has in microseconds."""
    value = parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise wrong_body("parameters: timeout: expected a whole number of microseconds, 1 or more")
    return max(1, value // 1000)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    """Returns a JSON object, empty where there is none; raises Problem for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_body(f"{where}: {kind_of(value)}; expected an object, such as the inputs {example(['text'])}")
    return value


def answer_tensors(name: str, request: TensorRequest, ticket: Ticket, certified: bool) -> tuple[bytes, int | None]:
    """Returns the body of an inference response, and how much of it is JSON where binary data follows."""
    deployment = ticket.deployment
    n = len(request.inputs.ids)
    columns: dict[str, list[Any]] = {
        "prediction": [""] * n,
        "model": [""] * n,
        "score": [0.0] * n,
        "threshold": [0.0] * n,
        "deferred": [False] * n,
        "error": [""] * n,
    }
    for i, place in enumerate(request.inputs.places):
        if i in ticket.errors:
            columns["error"][place] = ticket.errors[i]
            continue
        stage, log_score = ticket.stages[i], ticket.log_scores[i]
        threshold = deployment.natural_thresholds[stage]
        columns["prediction"][place] = ticket.predictions[i]
        columns["model"][place] = deployment.names[stage]
        columns["score"][place] = 0.0 if math.isnan(log_score) else math.exp(log_score)
        columns["threshold"][place] = LARGEST if threshold is None else threshold
        columns["deferred"][place] = stage > 0
    for place, error in request.inputs.errors.items():
        columns["error"][place] = error
    outputs, binary = [], b""
    for output, in_binary in request.outputs.items():
        entry: dict[str, Any] = {"name": output, "datatype": OUTPUTS[output], "shape": [n]}
        if in_binary:
            data = _binary(OUTPUTS[output], columns[output])
            entry["parameters"] = {"binary_data_size": len(data)}
            binary += data
        else:
            entry["data"] = columns[output]
        outputs.append(entry)
    answer: dict[str, Any] = {
        "model_name": name,
        "model_version": deployment.version,
        "outputs": outputs,
        "parameters": {"certified": certified, "degraded": ticket.small},
    }
    if request.id is not None:
        answer["id"] = request.id
    head = json.dumps(answer).encode()
    return head + binary, len(head) if binary else None


def _binary(datatype: str, values: Sequence[Any]) -> bytes:
    """Returns the elements of an output in binary, little-endian."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return struct.pack(f"<{len(values)}{'d' if datatype == 'FP64' else '?'}", *values)
