"""`just bench`: how long the things take that have to be quick, each beside what it must stay under.

Run it on an otherwise idle machine: the times are of the machine as well as of the code. Nothing asserts on them.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.metrics_grid import metrics_rows
from bench.report_page import report_rows
from tests.support import REPO
from tests.synthetic_scores import synthetic_grid, write_grid
from tracking.store import Store


def seconds(*arguments: str, environment: dict[str, str] | None = None) -> float:
    """The wall time of a command; CalledProcessError with its output where it fails."""
    start = time.monotonic()
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, cwd=REPO, env={**os.environ, **(environment or {})}, check=True, capture_output=True)
    return time.monotonic() - start


def peak_gigabytes() -> float:
    """The most memory that any finished child process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def shares(root: Path, wall: float) -> tuple[float, float]:
    """Of the `wall` seconds of a sweep: the share inside its train and infer runs, and inside steps and scoring alone.

    Steps are counted by the logged rates, up to a run's last log; a run's own start and end are not among them.
    """
    store = Store(root)
    runs = store.runs(job_type="train") + store.runs(job_type="infer")
    inside = sum((run.ended or run.started) - run.started for run in runs)
    steps = 0.0
    for run in store.runs(job_type="train"):
        batch, before = run.config["train"]["batch_size"], 0
        for point in store.history(run.id):
            if "examples_per_second" in point:
                steps += batch * (point["step"] - before) / point["examples_per_second"]
                before = point["step"]
    scoring = sum((run.ended or run.started) - run.started for run in store.runs(job_type="infer"))
    return inside / wall, (steps + scoring) / wall


def measure(folder: Path) -> list[tuple[str, str, str]]:
    """(what, measured, limit) of each."""
    runs, out = f"tracking.root={folder / 'runs'}", f"metrics.out={folder / 'out'}"
    demo = ("sweeps", "sweep=demo", runs, out)
    cold = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax")}
    rows = [("demo, nothing compiled yet", f"{seconds(*demo, environment=cold):.0f} s", "240 s")]
    rows.append(("its peak memory", f"{peak_gigabytes():.2f} GiB", "4 GB"))
    warm = folder / "warm"
    wall = seconds("sweeps", "sweep=demo", f"tracking.root={warm}", f"metrics.out={folder / 'out2'}", environment=cold)
    in_runs, in_steps = shares(warm, wall)
    rows.append(("demo, compiled before", f"{wall:.0f} s", ""))
    rows.append(("its time in train and infer runs", f"{in_runs:.0%}", "80 % or more"))
    rows.append(("its time in training steps and scoring", f"{in_steps:.0%}", "80 % or more"))
    again = seconds(*demo)
    rows.append(("demo again, all done", f"{again:.1f} s", "15 s"))
    few = seconds("sweeps", "-m", "dataset=demo", "size=nano", "seed=0", "sweeps.metrics=false", runs)
    many = seconds("sweeps", "-m", "dataset=demo", "size=nano,micro", "seed=range(5)", "sweeps.metrics=false", runs)
    rows.append(("skipping a finished cell", f"{(many - few) / 9:.2f} s", "0.5 s"))
    rows.append(("python -m tracking ls", f"{seconds('tracking', '--root', str(folder / 'runs'), 'ls'):.2f} s", "1 s"))
    status = seconds("sweeps.status", "--root", str(folder / "runs"))
    rows.append(("python -m sweeps.status", f"{status:.2f} s", "1 s"))
    write_grid(synthetic_grid(seeds=10, examples=25_000), folder / "scores")
    files = f"metrics.scores={folder / 'scores'}/**/*.parquet"
    took = seconds("metrics", files, f"metrics.out={folder / 'grid'}")
    rows.append(("metrics of 2 sizes × 10 seeds × 25,000 examples", f"{took:.1f} s", "10 s"))
    return rows + metrics_rows(folder) + report_rows(folder)


def main() -> None:
    argparse.ArgumentParser(prog="just bench", description=__doc__).parse_args()
    table = Table(title=f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    for column in ("what", "measured", "must stay under"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(Path(folder)):
            table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
