"""Writes the servers' measurements into docs/serving.md, with the goals that were reached and those that were not."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from bench.serve.measure import LIMIT, LOAD, MANY, Measured
from conf.machine import cores

MARKS = ("<!-- servers: made by `just bench-serve` -->", "<!-- end of servers -->")
SERVERS = (
    "Server",
    "Batch",
    "Capacity, inputs/s",
    "p50, ms",
    "p99, ms",
    "Goodput, inputs/s",
    "Server, µs",
    "Sender, µs",
)


def goals(ours: Measured, theirs: Sequence[Measured], apply_rate: float) -> list[tuple[str, float, float]]:
    """Returns each goal of capacity: what is compared, the ratio that was measured, and the least that was wanted."""
    one, many = ours.median("capacity"), ours.median("capacity_many")
    found = [
        (f"`infer.apply`, at {MANY} inputs a request", many / apply_rate, 0.8),
        ("`infer.apply`, at one input a request", one / apply_rate, 0.6),
    ]
    for side in theirs:
        found.append((side.name, one / side.median("capacity"), 3.0 if side.name.endswith("alone") else 1.5))
    return found


def section(
    ours: Measured, theirs: Sequence[Measured], apply_rate: float, facts: dict[str, float], seconds: float
) -> str:
    """Returns the text between the marks; `facts` are of the work: tokens, deferred, common_rate, rounds, alike."""
    file = ["`infer.apply`, a file", "–", f"{apply_rate:.0f}", *"–––––"]
    many = [f"Edgewise, {MANY} inputs a request", "–", f"{ours.median('capacity_many'):.0f}", *"–––"]
    many += _microseconds(ours, "_many")
    reached = [
        (what, f"{ratio:.2f}", f"{least:g}", "reached" if ratio >= least else "missed")
        for what, ratio, least in goals(ours, theirs, apply_rate)
    ]
    lines = [
        f"tiny → mini with random weights in float32, {100 * facts['deferred']:.0f} % deferred, texts of "
        f"{facts['tokens']:.0f} tokens on average, {cores()} cores that the servers share with the process that sends "
        f"the requests (load {os.getloadavg()[1]:.1f}); {facts['rounds']:.0f} rounds, medians. The other servers run "
        "the same weights by Hugging Face's T5 in torch, in their better batch size; at least "
        f"{100 * facts['alike']:.1f} % of the answers were the same. Capacity is what was answered while more was "
        f"always waiting; latencies are of open-loop Poisson arrivals at {100 * LOAD:.0f} % of the server's own "
        f"capacity; goodput is what was answered within {LIMIT:g} s at {facts['common_rate']:.0f} inputs a second. The "
        "last columns are the processor time an input at capacity, of all cores together: the server's, and that of "
        "the process that sends the requests, the same for all.",
        "",
        *markdown_table(SERVERS, [file, many, *(_cells(side) for side in (ours, *theirs))]),
        "",
        *markdown_table(("Edgewise's capacity against", "Times", "Goal", ""), reached, (0, 3)),
        "",
        f"Made by `just bench-serve` in {seconds / 60:.0f} minutes.",
    ]
    return "\n".join(lines)


def _cells(side: Measured) -> list[str]:
    """Returns a server's row, for requests of one input."""
    name = side.name if side.batch is not None else f"{side.name}, one input a request"
    cells = [str(side.batch or "–"), f"{side.median('capacity'):.0f}"]
    cells += [f"{1000 * side.median(of):.0f}" for of in ("p50", "p99")]
    return [name, *cells, f"{side.median('goodput'):.0f}", *_microseconds(side)]


def _microseconds(side: Measured, requests: str = "") -> list[str]:
    """Returns the cells of the processor time an input; `requests` is "_many" for requests of many inputs."""
    values = (side.median(name + requests) for name in ("server_seconds", "sender_seconds"))
    return ["–" if math.isnan(value) else f"{1e6 * value:.0f}" for value in values]


def write_page(page: Path, text: str) -> None:
    """Replaces what stands between the page's marks."""
    write_between_marks(page, MARKS, text)
