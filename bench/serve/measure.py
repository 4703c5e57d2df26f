"""Lets the servers take turns: each is started, measured and ended, and in the next round the next one begins."""

import asyncio
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.serve.load import Answered, closed_loop, open_loop
from bench.serve.models import Work
from bench.serve.processor import measured_processor_time
from bench.serve.sides import REPO, Server, Side

IN_FLIGHT = 64  # requests of one input that are in flight at capacity; of many inputs, MANY_IN_FLIGHT
MANY, MANY_IN_FLIGHT = 32, 8
LOAD = 0.7  # of a capacity, for latencies
LIMIT = 1.0  # seconds within which an answer is good
BATCHES = (8, 32)  # of the other servers; the better one is taken
WARM = 2.0  # seconds of load before what counts
APPLY_ROWS = (512, 8704)  # the difference of both times is that of the rows between, without the start
Progress = Callable[[str], None]


@dataclass
class Measured:
    """Holds what was measured of a server, an entry a round; capacities in inputs a second, latencies in seconds."""

    name: str
    batch: int | None = None  # of the other servers
    capacity: list[float] = field(default_factory=list)
    capacity_many: list[float] = field(default_factory=list)  # of requests of MANY inputs
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    goodput: list[float] = field(default_factory=list)
    server_seconds: list[float] = field(default_factory=list)  # of processor time an input, at capacity
    sender_seconds: list[float] = field(default_factory=list)  # the same of the process that sends the requests
    server_seconds_many: list[float] = field(default_factory=list)  # of requests of MANY inputs
    sender_seconds_many: list[float] = field(default_factory=list)

    def median(self, of: str) -> float:
        """Returns the median over rounds; NaN without any."""
        values: list[float] = getattr(self, of)
        return median(values) if values else float("nan")


def requests_of(side: Side, texts: Sequence[str], inputs: int) -> list[bytes]:
    """Returns the requests that hold the texts in order, so many in each."""
    return [side.request(texts[start : start + inputs]) for start in range(0, len(texts) - inputs + 1, inputs)]


@dataclass(frozen=True)
class Capacity:
    """Holds what a server answers where there is always more to answer.

    Attributes:
        rate: inputs a second.
        server_seconds: processor time of the server an input; NaN where nothing was answered.
        sender_seconds: the same of the process that sends the requests.

    """

    rate: float
    server_seconds: float
    sender_seconds: float


def capacity(server: Server, texts: Sequence[str], inputs: int, seconds: float) -> Capacity:
    """Measures what a server answers where there is always more to answer, and the processor time that it takes."""
    flights = IN_FLIGHT if inputs == 1 else MANY_IN_FLIGHT
    requests = requests_of(server.side, texts, inputs)

    async def load() -> Capacity:
        taken = asyncio.ensure_future(measured_processor_time(server.process.pid, WARM, seconds))
        answered = await closed_loop(server.port, requests, inputs, flights, seconds, WARM)
        processor, count = await taken, answered.good * inputs
        if not count:
            return Capacity(0.0, float("nan"), float("nan"))
        return Capacity(answered.rate, processor.server / count, processor.sender / count)

    return asyncio.run(load())


def at_rate(server: Server, texts: Sequence[str], rate: float, seconds: float, seed: int) -> Answered:
    """Measures a server where requests of one input come at random moments, `rate` a second."""
    return asyncio.run(open_loop(server.port, requests_of(server.side, texts, 1), 1, rate, seconds, seed))


def apply_rate(work: Work, folder: Path) -> float:
    """Returns the inputs that `infer.apply` answers a second, without its start."""
    seconds = []
    for rows in APPLY_ROWS:
        source = folder / f"rows-{rows}.csv"
        with source.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text"])
            writer.writerows([work.texts[row % len(work.texts)]] for row in range(rows))
        places = (f"apply.input={source}", f"apply.output={folder / f'answered-{rows}.csv'}")
        command = [sys.executable, "-m", "infer.apply", f"switcher.ref={work.bundle}", *places]
        command += [f"tracking.root={folder / 'runs'}", "force=true"]
        begin = time.perf_counter()
        subprocess.run(command, cwd=REPO, check=True, capture_output=True)
        seconds.append(time.perf_counter() - begin)
    return (APPLY_ROWS[1] - APPLY_ROWS[0]) / (seconds[1] - seconds[0])


def best_batch(make: Callable[[int], Side], work: Work, seconds: float, folder: Path, progress: Progress) -> int:
    """Returns which of BATCHES a server answers most with."""
    rates = {}
    for batch in BATCHES:
        server = Server(make(batch), folder / "log")
        try:
            rates[batch] = capacity(server, work.texts, 1, seconds).rate
        finally:
            server.end()
        progress(f"{server.side.name}, batches of {batch}: {rates[batch]:.0f} inputs/s")
    return max(rates, key=lambda batch: rates[batch])


def measure_side(
    side: Side,
    measured: Measured,
    work: Work,
    seconds: float,
    common_rate: float | None,
    seed: int,
    folder: Path,
    compared: Sequence[str] = (),
) -> list[dict[str, object]]:
    """Starts a server, adds a round's measurements to `measured`, and ends it; returns its answers to `compared`.

    Latencies are at LOAD of its own capacity, and the goodput at `common_rate`, by default the same.
    """
    server = Server(side, folder / "log")
    try:
        answers = server.answers(compared) if compared else []
        if side.many:
            many = capacity(server, work.texts, MANY, seconds)
            measured.capacity_many.append(many.rate)
            measured.server_seconds_many.append(many.server_seconds)
            measured.sender_seconds_many.append(many.sender_seconds)
        one = capacity(server, work.texts, 1, seconds)
        measured.capacity.append(one.rate)
        measured.server_seconds.append(one.server_seconds)
        measured.sender_seconds.append(one.sender_seconds)
        own = LOAD * measured.capacity[-1]
        answered = at_rate(server, work.texts, own, seconds, seed)
        measured.p50.append(answered.quantile(0.5))
        measured.p99.append(answered.quantile(0.99))
        if common_rate is not None:
            answered = at_rate(server, work.texts, common_rate, seconds, seed + 1)
        measured.goodput.append(answered.within(LIMIT))
    finally:
        server.end()
    return answers


def same_answers(first: Sequence[dict[str, object]], second: Sequence[dict[str, object]]) -> float:
    """Returns the share of inputs on which two switches answer and defer alike."""
    keys = ("prediction", "deferred")
    return sum(all(a[key] == b[key] for key in keys) for a, b in zip(first, second, strict=True)) / len(first)
