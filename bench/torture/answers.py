"""Kills the command that answers a file's rows at random moments: the same command must end with the same bytes."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.torture.jobs import LONGEST, started, sweep
from bench.torture.outcome import Outcome
from tests.support import REPO

ROWS, CHUNK = 20_000, 500
KILLS_OF_A_FILE = 6  # then the command may end
WORDS = ("the", "plot", "felt", "very", "dull", "but", "cast", "was", "warm", "never", "bright")


def killed_applies(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Kills `python -m infer.apply` at random moments, and compares the bytes in the end with an undisturbed run's.

    The moments are spread evenly over what an undisturbed run takes.
    """
    outcome, rng = Outcome(), random.Random(seed)
    source, whole = folder / "rows.csv", folder / "whole.csv"
    write_rows(source, rng)
    grid = sweep(folder, "dataset.test_examples=600", "sweeps.metrics=false")
    subprocess.run(grid, cwd=REPO, check=True, capture_output=True, timeout=LONGEST)
    root = f"tracking.root={folder / 'runs'}"
    goal = ("dataset=demo", "switcher.goal=budget", "switcher.budget=0.3")
    choosing = [sys.executable, "-m", "infer.switcher", *goal, root]
    subprocess.run(choosing, cwd=REPO, check=True, capture_output=True, timeout=LONGEST)

    def applied(output: Path) -> list[str]:
        ref = "switcher.ref=switcher-demo-nano-micro:latest"
        places = (f"apply.input={source}", f"apply.output={output}", f"apply.chunk_rows={CHUNK}")
        return [sys.executable, "-m", "infer.apply", ref, root, *places, "force=true"]

    for _ in range(2):  # the second has everything compiled, as those that are killed
        begin = time.monotonic()
        subprocess.run(applied(whole), cwd=REPO, check=True, capture_output=True, timeout=LONGEST)
        length = time.monotonic() - begin
    expected, files = whole.read_bytes(), 0
    while outcome.tried < count:
        output, log = folder / f"answered-{files}.csv", folder / f"log-{files}"
        command = [part for part in applied(output) if part != "force=true"]
        status = None
        for _ in range(min(KILLS_OF_A_FILE, count - outcome.tried)):
            process = started(command, log)
            try:
                status = process.wait(rng.uniform(0.0, length))
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if output.exists() and output.read_bytes() != expected:
                outcome.add_fault("after a kill: an output that is not whole")
            else:
                outcome.add("kills that left no output or the whole one")
        if status is None:
            status = started(command, log).wait(LONGEST)
        if status:
            outcome.faults.append(f"a killed command does not end: status {status}: {log.read_text()[-200:]}")
        elif output.read_bytes() != expected:
            outcome.faults.append(f"file {files}: other bytes than undisturbed")
        left = list(folder.glob(f".{output.name}*"))
        outcome.faults += [f"left beside the output: {path.name}" for path in left]
        files += 1
    outcome.counts[f"files that ended with the bytes of an undisturbed run ({ROWS:,} rows)"] = files
    return outcome


def write_rows(path: Path, rng: random.Random) -> None:
    """Writes a file of rows to answer, of a few words each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([number, " ".join(rng.choices(WORDS, k=rng.randint(2, 12)))] for number in range(ROWS))
