"""Compares training and label scoring with Hugging Face's T5 in torch: `just bench-torch OVERRIDES…`.

Both sides have the same weights, examples, batches and precision, and are checked to give the same loss and scores;
each is a process of its own that works only when it is asked to. The jobs that are compared take turns, so that
whatever else the machine does slows all of them alike. The table has the median of each job's rounds, and the median of
the rounds' ratios. The first round compiles all shapes and is not counted.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.sides import JobFailed, Worker, memory_limits
from bench.work import composed, write_work
from train.step import dtype_of

BENCH = Path(__file__).parent
JOBS = {  # the names that the workers know; Edgewise's own job comes first
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
# With torch's attention by cuDNN alone, which it has on a GPU; by default torch chooses. It may refuse.
CUDNN_JOBS = {
    "train": ("train eager, cudnn", "train compiled, cudnn"),
    "score": ("score once, keys once, cudnn", "score once, keys once, compiled, cudnn"),
}
TOLERANCE = {
    "float32": 1e-4,
    "bfloat16": 2e-2,
}  # relative: losses and log-likelihoods of the two sides may differ by so much

Answers = dict[str, list[dict[str, Any]]]  # a job's name to its answers, one a round


def compare(jobs: tuple[str, ...], ours: Worker, theirs: Worker, rounds: int, limit: float) -> Answers:
    """Returns the answers of every job, after one round that is not counted.

    A job that fails, or takes more than `limit` seconds, has no further round and no answers; the others go on.
    Raises JobFailed where it is Edgewise's own.
    """
    answers: Answers = {job: [] for job in jobs}
    for i in range(rounds + 1):
        for job in list(answers):
            try:
                answer = (ours if job == jobs[0] else theirs).run(job, limit)
            except JobFailed as failure:
                print(failure, file=sys.stderr, flush=True)
                if job == jobs[0]:
                    raise
                del answers[job]
                continue
            print(f"{job}: {answer['seconds']:.1f} s{'' if i else ' with compilation'}", file=sys.stderr, flush=True)
            if i:
                answers[job].append(answer)
    return answers


def table_rows(jobs: tuple[str, ...], answers: Answers, flops: float, peak: float) -> list[tuple[str, ...]]:
    """Returns a row for each job: its name, examples a second, FLOP/s as a percentage of the peak, the ratio to ours.

    `flops` are the model's own floating-point operations for one example, `peak` is in FLOP/s. A job without answers
    has a row that says so.
    """
    # seconds an example
    seconds = {job: [answer["seconds"] / answer["examples"] for answer in found] for job, found in answers.items()}
    rows: list[tuple[str, ...]] = []
    for job in jobs:
        if job not in answers:
            rows.append((job, "none", "", "see above"))
            continue
        rate = 1 / median(seconds[job])
        ratio = median(theirs / ours for theirs, ours in zip(seconds[job], seconds[jobs[0]], strict=True))
        name, compared = (f"{job} (ours)", "") if job == jobs[0] else (job, f"{ratio:.2f} ×")
        rows.append((name, f"{rate:.2f}", f"{rate * flops / peak:.0%}", compared))
    return rows


def require_equal(what: str, ours: float, theirs: float, dtype: str) -> None:
    """Raises SystemExit where the two sides' numbers differ by more than the dtype's tolerance."""
    if abs(ours - theirs) > TOLERANCE[dtype] * max(abs(theirs), 1.0):
        raise SystemExit(
            f"{what}: Edgewise computes {ours}, torch {theirs}: they don't do the same work, so their times can't be "
            "compared; look for a difference in precision, dropout or padding"
        )


def main() -> None:
    """Runs the comparison that the command line asks for, and prints its table."""
    parser = argparse.ArgumentParser(prog="just bench-torch", description=__doc__)
    parser.add_argument("overrides", nargs="+", help="config overrides: dataset=imdb size=small train.batch_size=32 …")
    parser.add_argument(
        "--python", default=str(BENCH / ".venv/bin/python"), help="a Python that has bench/requirements.txt installed"
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="torch's device; JAX takes the fastest that it finds"
    )
    parser.add_argument("--steps", type=int, default=3, help="training batches in a round")
    parser.add_argument("--scored", type=int, default=384, help="examples scored in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are counted")
    parser.add_argument(
        "--peak", type=float, default=0, help="TFLOP/s of the device; by default those of a matrix product"
    )
    parser.add_argument("--only", choices=list(JOBS), help="compare this alone")
    parser.add_argument(
        "--limit", type=float, default=1800, help="seconds that a job's round may take, compilation included"
    )
    parser.add_argument("--share", type=float, default=0.45, help="what each side may take of a GPU's memory")
    parser.add_argument("--json", type=Path, help="a file for the rates, written after each comparison")
    options = parser.parse_args()
    # this process only makes weights: it leaves a GPU's memory to the workers
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    config = composed(options.overrides)
    labels = list(composed(["dataset=yahoo_answers"]).dataset.classes.values())
    dtype = dtype_of(config)
    table = Table(title=f"{config.dataset.name}, {config.size.name}, batches of {config.train.batch_size}")
    for column in ("what", "examples/s", "of peak", "ours is as fast"):
        table.add_column(column)
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as sides:
        flops = write_work(
            config,
            labels,
            Path(folder),
            steps=options.steps,
            scored=options.scored,
            device=options.device,
            memory_share=options.share,
        )
        limits = memory_limits(options.device, options.share)
        ours = Worker(
            sys.executable, "-m", "bench.ours", folder, *options.overrides, folder=BENCH.parent, environment=limits
        )
        sides.callback(ours.close)
        theirs = Worker(options.python, str(BENCH / "hf.py"), folder, folder=BENCH.parent, environment={})
        sides.callback(theirs.close)
        our_loss, their_loss = (side.run("loss", options.limit)["loss"] for side in (ours, theirs))
        require_equal("loss", our_loss, their_loss, dtype)
        peak = options.peak * 1e12
        if not peak:
            peak = ours.run("matrix product", options.limit)["flops_per_second"]
        for name in [options.only] if options.only else JOBS:
            jobs = JOBS[name] + (CUDNN_JOBS[name] if options.device == "cuda" else ())
            answers = compare(jobs, ours, theirs, options.rounds, options.limit)
            for job in list(answers)[1:] if name == "score" else ():
                for mine, other in zip(answers["score"][0]["scores"], answers[job][0]["scores"], strict=True):
                    for a, b in zip(mine, other, strict=True):
                        require_equal(job, a, b, dtype)
            for row in table_rows(jobs, answers, flops[name], peak):
                table.add_row(*row)
            table.add_section()
            rates[name] = {
                job: median(answer["examples"] / answer["seconds"] for answer in found)
                for job, found in answers.items()
            }
            if options.json:
                options.json.write_text(json.dumps({"peak": peak, "flops": flops, "examples_per_second": rates}))
    table.caption = (
        f"{options.device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; peak {peak / 1e12:.3f} TFLOP/s"
    )
    Console(width=100).print(table)


if __name__ == "__main__":
    try:
        main()
    except JobFailed as failure:
        sys.exit(str(failure))
