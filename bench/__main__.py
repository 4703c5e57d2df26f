"""`just bench-torch OVERRIDES…`: training and label scoring beside Hugging Face's T5 in torch, in one run.

Both sides have the same weights, examples, batches and precision, and are checked to give the same loss and scores;
each is a process of its own that works only when asked. What is compared takes turns, so that a machine that others use
disturbs all alike; printed are each one's median and the median of the rounds' ratios. The first round compiles all
shapes and is not counted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.work import composed, write_work
from train.step import dtype_of

BENCH = Path(__file__).parent
ENVIRONMENT = dict(os.environ)  # the workers'
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # of a GPU, this process takes no more than it makes weights in
JOBS = {  # ours comes first
    "train": ("train", "train eager", "train compiled"),
    "score": (
        "score",
        "score once",
        "score once, keys once",
        "score once, compiled",
        "score once, keys once, compiled",
        "score each class",
    ),
}
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # relative, of what both sides have computed

Answers = dict[str, list[dict[str, Any]]]  # of each job, round by round


class Side:
    """A worker process."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, cwd=BENCH.parent, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, job: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(job, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{job}: the worker ended with status {self._process.wait()}; its error is above")
        return json.loads(answer)


def compare(jobs: tuple[str, ...], ours: Side, theirs: Side, rounds: int) -> Answers:
    """The answers of every job, after one round that is not counted."""
    found: Answers = {job: [] for job in jobs}
    for i in range(rounds + 1):
        for job in jobs:
            answer = (ours if job == jobs[0] else theirs)(job)
            print(f"{job}: {answer['seconds']:.1f} s{'' if i else ' with compilation'}", file=sys.stderr, flush=True)
            if i:
                found[job].append(answer)
    return found


def rows(jobs: tuple[str, ...], found: Answers, flops: float, peak: float) -> list[tuple[str, ...]]:
    """(what, examples a second, the model's operations as a share of what the device can do, how ours compares)."""
    seconds = {job: [answer["seconds"] / answer["examples"] for answer in found[job]] for job in jobs}  # of an example
    lines: list[tuple[str, ...]] = []
    for job in jobs:
        rate = 1 / median(seconds[job])
        ratio = median(theirs / ours for theirs, ours in zip(seconds[job], seconds[jobs[0]], strict=True))
        name, compared = (f"{job} (ours)", "") if job == jobs[0] else (job, f"{ratio:.2f} ×")
        lines.append((name, f"{rate:.2f}", f"{rate * flops / peak:.0%}", compared))
    return lines


def agree(what: str, ours: float, theirs: float, dtype: str) -> None:
    """Ends the comparison where the two sides don't compute the same."""
    if abs(ours - theirs) > TOLERANCE[dtype] * max(abs(theirs), 1.0):
        raise SystemExit(f"{what}: ours gives {ours}, torch {theirs}: they don't do the same work")


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench-torch", description=__doc__)
    parser.add_argument("overrides", nargs="+", help="of the config: dataset=imdb size=small train.batch_size=32 …")
    parser.add_argument("--python", default=str(BENCH / ".venv/bin/python"), help="where bench/requirements.txt is")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="torch's; JAX takes what there is")
    parser.add_argument("--steps", type=int, default=3, help="training batches a round")
    parser.add_argument("--scored", type=int, default=384, help="examples a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device; without it, what a product of matrices has")
    parser.add_argument("--only", choices=list(JOBS))
    options = parser.parse_args()
    config = composed(options.overrides)
    labels = list(composed(["dataset=yahoo_answers"]).dataset.classes.values())
    dtype = dtype_of(config)
    table = Table(title=f"{config.dataset.name}, {config.size.name}, batches of {config.train.batch_size}")
    for column in ("what", "examples/s", "of peak", "ours is as fast"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        flops = write_work(
            config, labels, Path(folder), steps=options.steps, scored=options.scored, device=options.device
        )
        ours = Side(sys.executable, "-m", "bench.ours", folder, *options.overrides)
        theirs = Side(options.python, str(BENCH / "hf.py"), folder)
        agree("loss", ours("loss")["loss"], theirs("loss")["loss"], dtype)
        peak = options.peak * 1e12 if options.peak else ours("product")["flops_per_second"]
        for name in [options.only] if options.only else JOBS:
            found = compare(JOBS[name], ours, theirs, options.rounds)
            for job in JOBS[name][1:] if name == "score" else ():
                for mine, other in zip(found["score"][0]["scores"], found[job][0]["scores"], strict=True):
                    for a, b in zip(mine, other, strict=True):
                        agree(job, a, b, dtype)
            for line in rows(JOBS[name], found, flops[name], peak):
                table.add_row(*line)
            table.add_section()
    table.caption = (
        f"{options.device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; peak {peak / 1e12:.3f} TFLOP/s"
    )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
