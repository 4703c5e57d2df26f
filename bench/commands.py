"""Measures the commands that have to be quick, each beside its limit: `just bench`.

Run it on an otherwise idle machine: the times depend on the machine as well as on the code. No test asserts on them.
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


def wall_seconds(*arguments: str, environment: dict[str, str] | None = None) -> float:
    """Returns the wall time of `python -m` with these arguments; raises CalledProcessError where it fails."""
    start = time.monotonic()
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, cwd=REPO, env={**os.environ, **(environment or {})}, check=True, capture_output=True)
    return time.monotonic() - start


def peak_gigabytes() -> float:
    """Returns the most memory, in GiB, that any finished child process has held."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def shares_of_wall_time(root: Path, wall: float) -> tuple[float, float]:
    """Returns which share of a sweep's `wall` seconds its runs took, and which share the steps and the scoring took.

    The time of training steps is computed from the logged rates, up to a run's last log; the start and the end of a run
    are not counted in it.
    """
    store = Store(root)
    runs = store.runs(job_type="train") + store.runs(job_type="infer")
    inside = sum((run.ended or run.started) - run.started for run in runs)
    steps = 0.0
    for run in store.runs(job_type="train"):
        batch, before = run.config["train"]["batch_size"], 0.0
        for point in store.history(run.id):
            if "examples_per_second" in point:
                steps += batch * (point["step"] - before) / point["examples_per_second"]
                before = point["step"]
    scoring = sum((run.ended or run.started) - run.started for run in store.runs(job_type="infer"))
    return inside / wall, (steps + scoring) / wall


def measure(folder: Path) -> list[tuple[str, str, str]]:
    """Returns a row for each thing measured: its name, the measurement, and its limit or nothing."""
    runs, out = f"tracking.root={folder / 'runs'}", f"metrics.out={folder / 'out'}"
    demo = ("sweeps", "sweep=demo", runs, out)
    cold = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax")}
    rows = [("demo, nothing compiled yet", f"{wall_seconds(*demo, environment=cold):.0f} s", "240 s")]
    rows.append(("its peak memory", f"{peak_gigabytes():.2f} GiB", "4 GB"))
    warm = folder / "warm"
    wall = wall_seconds(
        "sweeps", "sweep=demo", f"tracking.root={warm}", f"metrics.out={folder / 'out2'}", environment=cold
    )
    in_runs, in_steps = shares_of_wall_time(warm, wall)
    rows.append(("demo, compiled before", f"{wall:.0f} s", ""))
    rows.append(("its time in train and infer runs", f"{in_runs:.0%}", "80 % or more"))
    rows.append(("its time in training steps and scoring", f"{in_steps:.0%}", "80 % or more"))
    again = wall_seconds(*demo)
    rows.append(("demo again, all done", f"{again:.1f} s", "15 s"))
    few = wall_seconds("sweeps", "-m", "dataset=demo", "size=nano", "seed=0", "sweeps.metrics=false", runs)
    many = wall_seconds(
        "sweeps", "-m", "dataset=demo", "size=nano,micro", "seed=range(5)", "sweeps.metrics=false", runs
    )
    rows.append(("skipping a finished cell", f"{(many - few) / 9:.2f} s", "0.5 s"))
    rows.append(
        ("python -m tracking ls", f"{wall_seconds('tracking', '--root', str(folder / 'runs'), 'ls'):.2f} s", "1 s")
    )
    status = wall_seconds("sweeps.status", "--root", str(folder / "runs"))
    rows.append(("python -m sweeps.status", f"{status:.2f} s", "1 s"))
    write_grid(synthetic_grid(seeds=10, examples=25_000), folder / "scores")
    files = f"metrics.scores={folder / 'scores'}/**/*.parquet"
    took = wall_seconds("metrics", files, f"metrics.out={folder / 'grid'}")
    rows.append(("metrics of 2 sizes × 10 seeds × 25,000 examples", f"{took:.1f} s", "10 s"))
    return rows + metrics_rows(folder) + report_rows(folder)


def main() -> None:
    """Prints the table of measurements."""
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
