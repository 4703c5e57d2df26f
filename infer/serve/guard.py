"""Stands before the application: says who may ask, counts requests, and keeps mistakes from being told to anyone."""

import hashlib
import hmac
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import Request, Response

from conf.errors import EdgewiseError
from infer.serve.measures import Measures
from infer.serve.problems import MEDIA_TYPE, Problem, broken

LOG = logging.getLogger("edgewise.serve")
OPEN_PATHS = ("/", "/v2/health/live", "/v2/health/ready")  # no token is needed for: they hold no data
SHORTEST_TOKEN = 16  # characters

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Guard:
    """Represents the application with what is asked of every request."""

    def __init__(
        self,
        app: App,
        measures: Measures,
        paths: set[str],
        token: str | None,
        direct: Mapping[tuple[str, str], Endpoint],
    ):
        """Takes the application and the paths that it has, which are counted by name.

        `direct` are endpoints by method and path that are called without the application's layers, which take as long
        as all the rest of a small request.
        """
        self._app, self._measures, self._paths, self._direct = app, measures, paths, direct
        self._token = None if token is None else hashlib.sha256(token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._token is not None and path not in OPEN_PATHS:
                self._check_token(scope)
            if (endpoint := self._direct.get((scope["method"], path))) is not None:
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, counted)
            else:
                await self._app(scope, receive, counted)
        except Exception as error:  # told to the log without its message, which may quote an input
            problem = error if isinstance(error, Problem) else broken()
            if not isinstance(error, Problem):
                place = traceback.extract_tb(error.__traceback__)[-1]
                LOG.error("%s at %s:%s", type(error).__name__, Path(place.filename).name, place.lineno)
            if not status:
                await send_problem(problem, counted)
        finally:
            shown = path if path in self._paths else "/v2/models" if path.startswith("/v2/models/") else "other"
            self._measures.requested(shown, status or 499)

    def _check_token(self, scope: Scope) -> None:
        """Raises Problem unless the request brings the token; takes as long for a wrong one as for the right one."""
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, given = value.partition(b" ")
                if scheme.lower() == b"bearer" and hmac.compare_digest(
                    hashlib.sha256(given.strip()).digest(), self._token or b""
                ):
                    return
        raise Problem(
            401,
            "unauthorized",
            "Unauthorized",
            "expected the header Authorization: Bearer TOKEN, with the token of serve.token_file",
            {"www-authenticate": "Bearer"},
        )


async def send_problem(problem: Problem, send: Send) -> None:
    """Sends a problem as the answer."""
    body = problem.body()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def read_token(file: str | None) -> str | None:
    """Returns the token in a file, without white space around it; None without a file.

    Raises EdgewiseError for a file that can't be read, and for a token that is too short or not plain ASCII.
    """
    if file is None:
        return None
    try:
        token = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise EdgewiseError(f"serve.token_file={file}: {reason}; expected a file that holds a token") from None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise EdgewiseError(
            f"serve.token_file={file}: expected {SHORTEST_TOKEN} printable ASCII characters or more, without spaces; "
            "make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token
