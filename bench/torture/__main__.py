"""Runs the fault campaigns, prints what came of them and writes it into a page: `just torture`.

python -m bench.torture [--page docs/reliability.md] [NAME=COUNT ...]: without names, all campaigns with the counts of
the published page. Each runs in a process of its own: one that a fault ends is a fault, and not the end of all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.torture.campaigns import CAMPAIGNS
from bench.torture.outcome import Outcome, described
from bench.torture.page import Line, write_figures
from tests.support import REPO

LIMIT = 3600  # seconds for one campaign


def main() -> int:
    """Runs the campaigns; returns 1 where any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.torture", description=__doc__.splitlines()[0])
    parser.add_argument("chosen", nargs="*", metavar="NAME[=COUNT]", help=", ".join(CAMPAIGNS))
    parser.add_argument("--page", type=Path, help="the page to write the figures into where all campaigns were run")
    parser.add_argument("--seed", type=int, default=0, help="what the random moments and places are drawn from")
    parser.add_argument("--jobs", type=int, default=2, help="how many campaigns run at once (default: 2)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    counts = dict(one.partition("=")[::2] for one in given.chosen) or dict.fromkeys(CAMPAIGNS, "")
    if unknown := sorted(set(counts) - set(CAMPAIGNS)):
        parser.error(f"{', '.join(unknown)}: no such campaign; expected {', '.join(CAMPAIGNS)}")
    if given.one:
        [(name, count)] = counts.items()
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            print(CAMPAIGNS[name].run(int(count), Path(folder), given.seed).dumped())
        return 0
    console = Console(highlight=False, markup=False)

    def run(name: str) -> Line:
        campaign, begin = CAMPAIGNS[name], time.monotonic()
        outcome = in_a_process(name, int(counts[name] or campaign.attempts), given.seed)
        console.print(f"{name}: {outcome.tried:,} tried: {described(outcome.counts)}; {len(outcome.faults)} faults")
        for fault in outcome.faults[:20]:
            console.print(f"  {fault}")
        return Line(campaign.title, outcome, time.monotonic() - begin)

    begin = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:  # each thread waits for a process
        lines = list(pool.map(run, counts))
    table = Table("campaign", "tried", "came of it", "faults", "seconds")
    for line in lines:
        table.add_row(*line.cells())
    console.print(table)
    if given.page and set(counts) == set(CAMPAIGNS):
        write_figures(given.page, lines, time.monotonic() - begin)
    return int(any(line.outcome.faults for line in lines))


def in_a_process(name: str, count: int, seed: int) -> Outcome:
    """Runs one campaign in a process of its own; one that dies or takes too long is a fault."""
    command = [sys.executable, "-m", "bench.torture", "--one", "--seed", str(seed), f"{name}={count}"]
    try:
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(0, {}, [f"the campaign took more than {LIMIT} seconds"])
    if done.returncode:
        return Outcome(0, {}, [f"the process ended with status {done.returncode}: {done.stderr.strip()[-500:]}"])
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
