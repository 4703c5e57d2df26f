"""Sends requests over HTTP: as many at a time as there are connections, or at random moments, whoever answers.

Open-loop arrivals come by a Poisson process and wait for nobody, as many independent users do. A latency counts from
the moment at which the request was to be sent, so that a slow server can't slow its own load down.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools
import numpy as np

MOST_CONNECTIONS = 512  # of open-loop load; what comes beyond waits for one, which counts
PATIENCE = 5.0  # seconds after the last arrival in which answers still count


@dataclass
class Answered:
    """Holds what came of requests: for each its status (0: no answer) and its latency in seconds."""

    seconds: float  # that the load lasted
    inputs: int  # of a request
    statuses: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def add(self, status: int, latency: float) -> None:
        """Adds a request that was answered, or given up."""
        self.statuses.append(status)
        self.latencies.append(latency)

    @property
    def good(self) -> int:
        """Counts the requests that were answered with status 200."""
        return sum(status == 200 for status in self.statuses)

    @property
    def rate(self) -> float:
        """Returns the inputs that were answered a second."""
        return self.good * self.inputs / self.seconds

    def within(self, limit: float) -> float:
        """Returns the goodput: inputs a second that were answered within `limit` seconds."""
        pairs = zip(self.statuses, self.latencies, strict=True)
        return sum(status == 200 and latency <= limit for status, latency in pairs) * self.inputs / self.seconds

    def quantile(self, share: float) -> float:
        """Returns the latency, in seconds, that this share of the good answers had at most; NaN without any."""
        good = [latency for status, latency in zip(self.statuses, self.latencies, strict=True) if status == 200]
        return float(np.quantile(good, share)) if good else float("nan")


class Connection(asyncio.Protocol):
    """Represents a connection to a server that is kept open from request to request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self.body = b""

    @classmethod
    async def opened(cls, host: str, port: int) -> "Connection":
        """Returns a connection. Raises OSError where the server takes none."""
        loop = asyncio.get_running_loop()
        _, connection = await asyncio.wait_for(loop.create_connection(cls, host, port), PATIENCE)
        return connection

    @property
    def is_open(self) -> bool:
        """Tells whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> int:
        """Sends a request and returns the status of the answer, whose body is in `body`; 0 where none comes."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._parser, self.body = httptools.HttpResponseParser(self), b""
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Closes it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Notes the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Reads a part of an answer."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError):
            self.close()

    def on_body(self, body: bytes) -> None:
        """Adds a part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Hands the status to whoever asked."""
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        if not keep and self._transport is not None:
            self._transport.close()
        self._end(status)

    def connection_lost(self, error: Exception | None) -> None:
        """Gives up what waits."""
        self._transport = None
        self._end(0)

    def _end(self, status: int) -> None:
        """Lets the request that waits go on."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


def http_request(path: str, body: bytes, host: str = "127.0.0.1") -> bytes:
    """Returns the bytes of a POST of JSON."""
    headers = (f"host: {host}", "content-type: application/json", f"content-length: {len(body)}")
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "\r\n"]).encode() + body


async def closed_loop(
    port: int,
    requests: Sequence[bytes],
    inputs: int,
    connections: int,
    seconds: float,
    warm: float = 0.0,
    patience: float = PATIENCE,
) -> Answered:
    """Keeps so many requests in flight for so many seconds, after `warm` seconds that don't count.

    What is not answered `patience` seconds after the last was sent is given up.

    What was answered a second then is the capacity. A request that gets no answer counts with status 0, and another
    connection is opened. An answer that comes later counts where it is not a good one, so that none is lost unseen.
    """
    begin = time.perf_counter() + warm
    answered, end = Answered(seconds, inputs), begin + seconds
    opened: list[Connection] = []

    async def client(number: int) -> None:
        connection, place = None, number
        while (sent := time.perf_counter()) < end:
            status = 0
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.opened("127.0.0.1", port)
                    opened.append(connection)
                status = await connection.ask(requests[place % len(requests)])
            except (OSError, TimeoutError):
                await asyncio.sleep(0.05)
            place += connections
            now = time.perf_counter()
            if now >= begin and (now <= end or status != 200):
                answered.add(status, now - sent)

    clients = [asyncio.ensure_future(client(number)) for number in range(connections)]
    _, waiting = await asyncio.wait(clients, timeout=warm + seconds + patience)
    for _ in waiting:
        answered.add(0, patience)
    await _end(clients, opened)
    return answered


async def open_loop(
    port: int,
    requests: Sequence[bytes],
    inputs: int,
    rate: float,
    seconds: float,
    seed: int = 0,
    most: int = MOST_CONNECTIONS,
    wait: bool = True,
) -> Answered:
    """Sends requests at the moments of a Poisson process of `rate` inputs a second, for so many seconds.

    One that finds all of the `most` connections in use waits for one, which its latency counts; without `wait` it is
    not sent.
    """
    rng = np.random.default_rng(seed)
    arrivals: list[float] = []
    moment = 0.0
    while (moment := moment + rng.exponential(inputs / rate)) < seconds:
        arrivals.append(moment)
    answered, free = Answered(seconds, inputs), asyncio.Semaphore(most)
    idle: list[Connection] = []
    opened: list[Connection] = []
    begin = time.perf_counter()

    async def send(place: int, planned: float) -> None:
        status = 0
        try:
            async with free:
                while idle and not idle[-1].is_open:
                    idle.pop()
                if idle:
                    connection = idle.pop()
                else:
                    connection = await Connection.opened("127.0.0.1", port)
                    opened.append(connection)
                status = await connection.ask(requests[place % len(requests)])
                if connection.is_open:
                    idle.append(connection)
        except (OSError, TimeoutError):
            pass
        finally:
            in_flight.discard(place)
            answered.add(status, time.perf_counter() - begin - planned)

    in_flight: set[int] = set()
    sending: list[asyncio.Task[None]] = []
    for place, planned in enumerate(arrivals):
        early = begin + planned - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        if not wait and len(in_flight) >= most:
            continue
        in_flight.add(place)
        sending.append(asyncio.ensure_future(send(place, planned)))
    if sending:
        await asyncio.wait(sending, timeout=PATIENCE)
    await _end(sending, opened)
    return answered


async def _end(tasks: Sequence[asyncio.Task[None]], connections: Sequence[Connection]) -> None:
    """Gives up what is not answered, and closes the connections."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for connection in connections:
        connection.close()
    await asyncio.sleep(0)  # in which the loop closes them
