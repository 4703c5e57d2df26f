"""Receives requests within limits: deadlines for headers and bodies, the size of headers, the number of connections.

uvicorn has none of them: a client that sends a byte a second would keep a connection for good.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from conf.schema import Serve
from infer.serve.problems import Problem, unavailable

LEFT = "edgewise.left"  # of a request's scope: what to call where its client leaves
MOST_HEADER_BYTES = 64 * 1024


def limited_protocol(settings: Serve) -> type[HttpToolsProtocol]:
    """Returns the class of connections, one object each, that keep to these limits."""
    seconds, most = settings.receive_ms / 1000, settings.most_connections

    class LimitedProtocol(HttpToolsProtocol):
        """Represents a connection: a request's headers, and then its body, must arrive within `receive_ms`."""

        _timer: asyncio.TimerHandle | None = None
        _in_headers = True
        _header_bytes = 0

        def connection_made(self, transport: Any) -> None:
            """Takes a connection, or refuses it where there are too many."""
            super().connection_made(transport)
            if len(self.connections) > most:
                detail = f"{most:,} connections are open; close some, or try again later"
                self._refuse(unavailable("too-many-connections", detail))
                return
            self._expect("headers")

        def connection_lost(self, exc: Exception | None) -> None:
            """Tells the request that waits that nobody waits for it."""
            self._received()
            super().connection_lost(exc)
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                leave: Callable[[], None] | None = cycle.scope.get(LEFT)  # type: ignore[assignment]  # not uvicorn's key
                if leave is not None:
                    leave()

        def data_received(self, data: bytes) -> None:
            """Takes bytes; refuses headers without end."""
            if self.transport.is_closing():
                return
            if self._in_headers:
                if self._timer is None:  # the first bytes of another request on the same connection
                    self._expect("headers")
                self._header_bytes += len(data)
            super().data_received(data)
            if self._in_headers and self._header_bytes > MOST_HEADER_BYTES:
                detail = f"headers of more than {MOST_HEADER_BYTES:,} bytes"
                self._refuse(Problem(431, "headers-too-large", "Request Header Fields Too Large", detail))

        def on_headers_complete(self) -> None:
            """Expects the body."""
            self._in_headers = False
            self._expect("body")
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            """Expects nothing more of this request."""
            self._received()
            self._in_headers, self._header_bytes = True, 0
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            """Answers what is no HTTP."""
            detail = "the request is not HTTP/1.1 as RFC 9112 defines it (a header, a length or a chunk is malformed)"
            self._refuse(Problem(400, "not-http", "Bad Request", detail))

        def timeout_keep_alive_handler(self) -> None:
            """Closes a connection that is idle, also where its client doesn't read what it was sent."""
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            super().timeout_keep_alive_handler()

        def _expect(self, what: str) -> None:
            """Starts the deadline of what is to be received next."""
            self._received()
            self._timer = self.loop.call_later(seconds, self._too_slow, what)

        def _received(self) -> None:
            """Ends the deadline."""
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_slow(self, what: str) -> None:
            """Closes a connection whose client sends too slowly."""
            if self.flow.read_paused and self.pipeline:  # the server itself doesn't read on yet
                self._expect(what)
                return
            self._timer = None
            detail = f"the {what} did not arrive within {1000 * seconds:.0f} ms"
            self._refuse(Problem(408, "too-slow", "Request Timeout", detail))

        def _refuse(self, problem: Problem) -> None:
            """Answers with a problem where no answer has begun, and closes the connection."""
            self._received()
            if self.transport.is_closing():
                return
            cycle = self.cycle
            unanswered = cycle is None or not cycle.response_started
            if unanswered or (self._in_headers and cycle.response_complete):  # not in the midst of another answer
                self.transport.write(problem.response())
            self.transport.close()
            self.loop.call_later(1.0, self.transport.abort)  # where nobody reads the answer

    return LimitedProtocol
