"""Receives the body of a request within a limit, and reads JSON strictly."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from infer.serve.problems import Problem, client_left, not_json, too_large, unsupported

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


async def read_body(receive: Receive, headers: Mapping[str, str], most: int) -> bytes:
    """Returns the body, of at most `most` bytes.

    What is longer is refused by its Content-Length, or as soon as more has come; no more than that is ever held. Raises
    Problem, also for a Content-Encoding.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise unsupported(
            "Content-Encoding: expected the body as it is, without compression", {"accept-encoding": "identity"}
        )
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18:
        raise Problem(400, "bad-content-length", "Bad Request", "Content-Length: expected a number of bytes")
    if int(length) > most:
        raise too_large(f"a body of {int(length):,} bytes: expected at most {most:,}; send fewer inputs at a time")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise client_left()
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large(f"a body of more than {most:,} bytes; send fewer inputs at a time")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def check_media_type(headers: Mapping[str, str]) -> None:
    """Raises Problem unless the body is said to be JSON in UTF-8."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise unsupported("Content-Type: expected application/json", {"accept-post": "application/json"})
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise unsupported("Content-Type: JSON is in UTF-8; expected application/json without another charset")


def read_json(body: bytes) -> dict[str, Any]:
    """Returns the JSON object that a body holds.

    Raises Problem for what is no JSON as RFC 8259 defines it (no NaN, no infinity, UTF-8), nested too deeply, or no
    object. Its detail never quotes the body.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise not_json(f"the body is not UTF-8 (at byte {error.start:,}); expected JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        what = {"Extra data": "something follows the JSON value"}.get(error.msg, error.msg.partition(":")[0])
        raise not_json(f"{what}, at line {error.lineno:,}, column {error.colno:,}; expected a JSON object") from None
    except RecursionError:
        raise not_json("the JSON is nested too deeply; expected an object with a list of inputs") from None
    except ValueError:
        raise not_json("the JSON has a number that is none, or has too many digits") from None
    if not isinstance(value, dict):
        raise not_json(f"expected a JSON object, not {kind_of(value)}")
    return value


def kind_of(value: Any) -> str:
    """Names the kind of a JSON value, without the value: it may be private."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "something else")


def shown_name(name: str) -> str:
    """Returns a field's name for a message: at most 40 characters, in ASCII."""
    return ascii(name[:40]) if isinstance(name, str) else "?"


def _refuse_constant(_: str) -> NoReturn:
    """Refuses NaN, Infinity and -Infinity, which JSON doesn't have."""
    raise ValueError("no JSON")
