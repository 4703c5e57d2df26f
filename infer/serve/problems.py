"""Defines what the server answers where it can't answer: problem details, as RFC 9457 has them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MEDIA_TYPE = "application/problem+json"


@dataclass(eq=False)
class Problem(Exception):
    """Reports why a request is not answered; `detail` says what was given, what was expected and what to do.

    It never holds the text of an input.

    Attributes:
        status: the HTTP status.
        name: the kind of problem, in lower case and hyphens; its `type` is `urn:edgewise:NAME`.
        title: the kind of problem, for people.
        detail: this problem.
        headers: what goes with the answer, such as Retry-After.
        more: further members of the answer.
        bad: how many inputs can't be answered, where it is that none can.

    """

    status: int
    name: str
    title: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    bad: int = 0

    def __str__(self) -> str:
        return f"{self.status} {self.title}: {self.detail}"

    def members(self) -> dict[str, Any]:
        """Returns the members of the JSON object."""
        return {
            "type": f"urn:edgewise:{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }

    def body(self) -> bytes:
        """Returns the JSON object, in ASCII. `error` is there for clients of the Open Inference Protocol."""
        return json.dumps({**self.members(), "error": self.detail}).encode()

    def response(self) -> bytes:
        """Returns a whole HTTP/1.1 response that ends the connection, for where there is no application to answer."""
        body = self.body()
        head = [f"HTTP/1.1 {self.status} {self.title}", f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*head, "connection: close", "", ""]).encode() + body


def not_json(detail: str) -> Problem:
    """Reports a body that is not JSON."""
    return Problem(400, "not-json", "Not JSON", detail)


def wrong_body(detail: str, errors: list[dict[str, Any]] | None = None, bad: int = 0) -> Problem:
    """Reports JSON that is not what this path takes; `errors` name the `bad` inputs that can't be answered."""
    more = {"errors": errors} if errors else {}
    return Problem(422, "wrong-body", "Unprocessable Content", detail, more=more, bad=bad)


def too_large(detail: str) -> Problem:
    """Reports a body or a list of inputs above the limit."""
    return Problem(413, "too-large", "Content Too Large", detail)


def unsupported(detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Reports a media type or an encoding that the server doesn't read."""
    return Problem(415, "unsupported-media-type", "Unsupported Media Type", detail, headers or {})


def queue_full(detail: str, retry_after: int) -> Problem:
    """Reports that too much waits; it may be tried again after so many seconds."""
    return Problem(429, "queue-full", "Too Many Requests", detail, {"retry-after": str(retry_after)})


def unavailable(name: str, detail: str, retry_after: int = 1) -> Problem:
    """Reports that the server doesn't answer now: it loads, ends, or its switcher can't be used."""
    return Problem(503, name, "Service Unavailable", detail, {"retry-after": str(retry_after)})


def draining() -> Problem:
    """Reports that the server is ending, and has the client's connection closed, which it could not use again."""
    detail = "the server is ending; ask another one, or again when it is back"
    return Problem(503, "draining", "Service Unavailable", detail, {"retry-after": "1", "connection": "close"})


def deadline_passed(detail: str) -> Problem:
    """Reports that an answer would come too late."""
    return Problem(504, "deadline-passed", "Gateway Timeout", detail)


def client_left() -> Problem:
    """Reports that nobody waits for the answer any more; nobody reads this."""
    return Problem(499, "client-left", "Client Closed Request", "the connection was closed before the answer")


def broken() -> Problem:
    """Reports a mistake of the server itself."""
    detail = "the server failed at this request; its log names the place in the code"
    return Problem(500, "broken", "Internal Server Error", detail)
