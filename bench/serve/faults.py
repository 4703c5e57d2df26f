"""Disturbs real servers as clients, proxies and restarts do, and checks what is promised: `just bench-faults`.

python -m bench.serve.faults [--page docs/serving.md] [--seconds N] [NAME[=COUNT] ...]: without names, all. The servers,
nginx, slowhttptest, promtool and whoever sends the requests share this machine.
"""

import argparse
import asyncio
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.marked_page import write_between_marks
from bench.serve.load import Answered, closed_loop, open_loop
from bench.serve.measure import IN_FLIGHT, capacity, requests_of
from bench.serve.models import Work, make_work
from bench.serve.proxy import Proxy
from bench.serve.sides import Server, edgewise, needed
from conf.machine import cores

MARKS = ("<!-- faults: made by `just bench-faults` -->", "<!-- end of faults -->")
SOAK_MARKS = ("<!-- soak: made by `just bench-faults soak` -->", "<!-- end of soak -->")  # so that it can be done alone
MIB = 2**20
CALM = 0.3  # of the capacity: a load at which latencies are normal
LIMIT = 10.0  # seconds within which an overloaded server's answer is good
PATIENT = 40.0  # seconds after which a request is lost; nginx asks the next server after 15


@dataclass(frozen=True)
class Finding:
    """Says of one promise what was done, what was measured, what was wanted, and whether that was reached."""

    done: str
    measured: str
    wanted: str
    reached: bool


@dataclass(frozen=True)
class Setting:
    """Holds what the campaigns share: the switcher and its texts, a folder, and how long a load lasts."""

    work: Work
    folder: Path
    seconds: float
    schemathesis: str

    def server(self, *overrides: str, port: int | None = None) -> Server:
        """Starts a server of the switcher, on any free port unless one is given."""
        return Server(edgewise(self.work.bundle, self.folder / "runs", *overrides), self.folder / "log", port)

    def requests(self, server: Server) -> list[bytes]:
        """Returns requests of one input each."""
        return requests_of(server.side, self.work.texts, 1)


def rolling_restarts(setting: Setting, count: int) -> list[Finding]:
    """Restarts two servers behind nginx in turn, so many times, under a load of 64 requests in flight."""
    servers = [setting.server() for _ in range(2)]
    requests = setting.requests(servers[0])
    statuses: list[int | None] = []
    with Proxy([server.port for server in servers], setting.folder) as proxy:
        stop = threading.Event()
        found: list[Answered] = []

        def load() -> None:
            while not stop.is_set():
                found.append(asyncio.run(closed_loop(proxy.port, requests, 1, IN_FLIGHT, 1.0, patience=PATIENT)))

        sender = threading.Thread(target=load)
        sender.start()
        try:
            for number in range(count):
                place = number % 2
                statuses.append(servers[place].end())
                servers[place] = setting.server(port=servers[place].port)
        finally:
            stop.set()
            sender.join()
            for server in servers:
                server.end()
    answered = sum(one.good for one in found)
    lost = [status for one in found for status in one.statuses if status != 200]
    kinds = ", ".join(f"{lost.count(kind)} with status {kind}" for kind in sorted(set(lost)))
    exits = "" if set(statuses) == {0} else f"; servers ended with {sorted(map(str, set(statuses)))}"
    return [
        Finding(
            f"{count} restarts of two servers behind nginx, {IN_FLIGHT} requests in flight",
            f"{answered:,} answered, {len(lost)} lost{f' ({kinds})' if kinds else ''}{exits}",
            "0 lost",
            not lost and set(statuses) == {0},
        )
    ]


def overload(setting: Setting, connections: int) -> list[Finding]:
    """Sends three times what a server can answer over so many connections, and a calm load before and afterwards."""
    server = setting.server()
    requests = setting.requests(server)
    try:
        most = capacity(server, setting.work.texts, 1, max(setting.seconds / 6, 2.0)).rate

        def load(share: float, seconds: float, seed: int) -> Answered:
            rate = share * most
            return asyncio.run(open_loop(server.port, requests, 1, rate, seconds, seed, connections, wait=False))

        calm = max(setting.seconds / 6, 2.0)
        before, memory = load(CALM, calm, 1), resident(server.process.pid)
        peak = Peak(server.process.pid)
        with peak:
            under = load(3.0, setting.seconds, 2)
        time.sleep(5)
        after = load(CALM, calm, 3)
    finally:
        server.end()
    goodput, grown = under.within(LIMIT) / most, (peak.most - memory) / MIB
    refused = sum(status == 429 for status in under.statuses)
    ratio = after.quantile(0.99) / before.quantile(0.99)
    load_text = f"{connections} connections at 3 × capacity ({most:.0f} inputs/s) for {setting.seconds:.0f} s"
    return [
        Finding(
            load_text,
            f"goodput {100 * goodput:.0f} % of capacity; {refused:,} of {len(under.statuses):,} refused",
            "90 %",
            goodput >= 0.9,
        ),
        Finding("the same: memory", f"{grown:+.0f} MiB", "at most +100 MiB", grown <= 100),
        Finding(
            "the same: p99 5 s later against before",
            f"{1000 * after.quantile(0.99):.0f} ms, {ratio:.2f} ×",
            "normal (at most 1.5 ×)",
            ratio <= 1.5,
        ),
    ]


def slow_clients(setting: Setting, connections: int) -> list[Finding]:
    """Has slowhttptest drip headers, then bodies, over so many connections, beside a calm load of others."""
    program = needed("slowhttptest")
    server = setting.server()
    requests = setting.requests(server)
    findings = []
    try:
        most = capacity(server, setting.work.texts, 1, max(setting.seconds / 6, 2.0)).rate
        rate, seconds = CALM * most, max(setting.seconds / 4, 12.0)
        before = asyncio.run(open_loop(server.port, requests, 1, rate, seconds, 1))
        for what, flags in (("headers", ("-H",)), ("bodies", ("-B", "-s", "8192"))):
            url = f"http://127.0.0.1:{server.port}{server.side.path}"
            command = [program, *flags, "-c", str(connections), "-r", str(connections), "-i", "1", "-l", "40"]
            command += ["-t", "POST", "-f", "application/json", "-x", "8", "-u", url]
            dripping = Dripping(command)
            during = asyncio.run(open_loop(server.port, requests, 1, rate, seconds, 2))
            closed = dripping.seconds()
            ratio = during.quantile(0.99) / before.quantile(0.99)
            drips = f"{connections} connections that drip {what} (slowhttptest)"
            findings.append(Finding(drips, f"all closed after {closed:.0f} s", "within 10 s", closed <= 10))
            findings.append(
                Finding(
                    "the same: p99 of others against before",
                    f"{1000 * during.quantile(0.99):.0f} ms, {ratio:.2f} ×",
                    "at most 2 ×",
                    ratio <= 2,
                )
            )
    finally:
        server.end()
    return findings


# A deadline of two milliseconds passes, as the description says: 504 is an answer, a 500 is not. A bad input among good
# ones has an error of its own in an answer of status 200.
FUZZING = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]

[[operations]]
include-path = "/v1/predict"
checks.negative_data_rejection.expected-statuses = ["200", "4xx", "503", "504"]
"""


def fuzzed(setting: Setting, cases: int) -> list[Finding]:
    """Has schemathesis make requests of the server's own description, about so many."""
    server = setting.server()
    try:
        operations = 12
        (setting.folder / "schemathesis.toml").write_text(FUZZING)
        command = [setting.schemathesis, "run", f"http://127.0.0.1:{server.port}/openapi.json"]
        command += ["--max-examples", str(max(1, cases // operations)), "--seed", "1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=setting.folder, check=False)
        alive = server.ask("/v2/health/ready")[0] == 200
    finally:
        server.end()
    made = re.search(r"(\d+) generated", done.stdout)
    failures = re.search(r"(\d+) (?:unique )?failures?", done.stdout)
    said = f"{made[1] if made else '?'} cases, {failures[1] if failures else 0} failures, status {done.returncode}"
    if done.returncode:
        (setting.folder / "schemathesis.txt").write_text(done.stdout + done.stderr)
        print(done.stdout[-3000:])
    return [Finding(f"schemathesis, {cases:,} cases", said, "0 failures", not done.returncode and alive)]


def prometheus(setting: Setting, count: int) -> list[Finding]:
    """Has promtool read the server's metrics, after some answers, so many times."""
    program = needed("promtool")
    server = setting.server()
    said = []
    try:
        for _ in range(count):
            asyncio.run(closed_loop(server.port, setting.requests(server), 1, 4, 0.5))
            _, metrics = server.ask("/metrics")
            done = subprocess.run([program, "check", "metrics"], input=metrics, capture_output=True, check=False)
            said.append((done.returncode, (done.stdout + done.stderr).decode().strip()))
    finally:
        server.end()
    bad = next((text for status, text in said if status), "")
    return [Finding("`promtool check metrics`", bad or "passes", "passes", not bad)]


def soak(setting: Setting, minutes: int) -> list[Finding]:
    """Answers half of the capacity for so many minutes; memory and descriptors must stay what they were."""
    server = setting.server()
    requests = setting.requests(server)
    memory, files = [], []
    try:
        most = capacity(server, setting.work.texts, 1, max(setting.seconds / 6, 2.0)).rate
        parts = max(4, 2 * minutes)
        lost = 0
        for part in range(parts):
            one = asyncio.run(open_loop(server.port, requests, 1, 0.5 * most, 60 * minutes / parts, part))
            lost += len(one.statuses) - one.good
            memory.append(resident(server.process.pid) / MIB)
            files.append(descriptors(server.process.pid))
    finally:
        server.end()
    quarter = len(memory) // 4
    grown, more = memory[-1] - memory[quarter], files[-1] - files[quarter]
    return [
        Finding(
            f"{minutes} minutes at half of the capacity",
            f"memory {memory[quarter]:.0f} → {memory[-1]:.0f} MiB, descriptors {files[quarter]} → {files[-1]}, "
            f"{lost} lost",
            "constant (± 2 %)",
            abs(grown) <= 0.02 * memory[quarter] and abs(more) <= 2 and not lost,
        )
    ]


class Dripping:
    """Runs slowhttptest, which ends when the server has closed all its connections."""

    def __init__(self, command: Sequence[str]):
        """Starts it."""
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def seconds(self) -> float:
        """Waits for its end, and returns after how many seconds no connection was open; infinity where one stayed."""
        said, _ = self._process.communicate()
        ended = re.search(r"Test ended on (\d+)", said)
        return float(ended[1]) if ended and "No open connections left" in said else float("inf")


class Peak:
    """Watches the memory of a process while a block runs; `most` is the most that it held, in bytes."""

    def __init__(self, pid: int):
        self._pid, self._stop = pid, threading.Event()
        self.most = 0

    def __enter__(self) -> "Peak":
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.most = max(self.most, resident(self._pid))


def resident(pid: int) -> int:
    """Returns how much memory a process holds, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
    return int(found[1]) * 1024 if found else 0


def descriptors(pid: int) -> int:
    """Counts the open files and connections of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


CAMPAIGNS: dict[str, tuple[Callable[[Setting, int], list[Finding]], int]] = {
    "restarts": (rolling_restarts, 20),
    "overload": (overload, 500),
    "slow": (slow_clients, 200),
    "fuzz": (fuzzed, 2000),
    "prometheus": (prometheus, 3),
    "soak": (soak, 10),
}


def section(findings: Sequence[Finding], seconds: float, command: str) -> str:
    """Returns the table between the page's marks, made by `command`."""
    lines = ["| Done to it | Measured | Wanted | |", "| --- | --- | --- | --- |"]
    for one in findings:
        lines.append(f"| {one.done} | {one.measured} | {one.wanted} | {'reached' if one.reached else 'missed'} |")
    where = f"{cores()} cores that servers, proxies and the senders of requests share"
    return "\n".join([*lines, "", f"Made by `{command}` in {seconds / 60:.0f} minutes, on {where}."])


def main() -> int:
    """Runs the campaigns, prints what came of them, and returns 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.faults", description=__doc__.splitlines()[0])
    parser.add_argument("chosen", nargs="*", metavar="NAME[=COUNT]", help=", ".join(CAMPAIGNS))
    parser.add_argument("--page", type=Path, help="the page to write the table into, such as docs/serving.md")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload (default: 60)")
    parser.add_argument("--schemathesis", default="schemathesis", help="the program (default: %(default)s)")
    options = parser.parse_args()
    counts = dict(one.partition("=")[::2] for one in options.chosen) or dict.fromkeys(CAMPAIGNS, "")
    if unknown := sorted(set(counts) - set(CAMPAIGNS)):
        parser.error(f"{', '.join(unknown)}: no such campaign; expected {', '.join(CAMPAIGNS)}")
    console, begin = Console(highlight=False, markup=False, soft_wrap=True), time.monotonic()
    found: dict[tuple[str, str], list[Finding]] = {}  # by the marks between which they are written
    spent: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-faults-") as name:
        folder = Path(name)
        setting = Setting(make_work(folder), folder, options.seconds, options.schemathesis)
        for campaign, count in counts.items():
            run, default = CAMPAIGNS[campaign]
            marks, start = SOAK_MARKS if campaign == "soak" else MARKS, time.monotonic()
            for finding in run(setting, int(count or default)):
                found.setdefault(marks, []).append(finding)
                verdict, since = "reached" if finding.reached else "MISSED", time.monotonic() - begin
                console.print(
                    f"[{since:4.0f} s] {finding.done}: {finding.measured} (wanted: {finding.wanted}) {verdict}"
                )
            spent[marks] = spent.get(marks, 0.0) + time.monotonic() - start
    for marks, findings in found.items() if options.page else ():
        command = "just bench-faults soak" if marks == SOAK_MARKS else "just bench-faults"
        write_between_marks(options.page, marks, section(findings, spent[marks], command))
    return int(not all(one.reached for findings in found.values() for one in findings))


if __name__ == "__main__":
    raise SystemExit(main())
