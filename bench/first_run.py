"""Records a newcomer's first terminal session into docs/first-run.md: `just first-run`.

It clones the checkout into a temporary folder, writes a CSV of 5,000 reviews there, and types what README.md says,
command by command. What the page shows is what the terminal showed, shortened where it says so.
"""

import argparse
import csv
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.marked_page import write_between_marks
from conf.machine import cores
from conf.schema import Dataset
from tests.support import REPO
from train.data import demo

PAGE = REPO / "docs" / "first-run.md"
MARKS = ("<!-- session: made by `just first-run` -->", "<!-- end of session -->")
ROWS = 5_000
SHOWN_LINES = 40  # of one command's output; of a longer one the first and the last half of them
HOME = "/home/me"  # what the page calls the temporary folder
WIDTH = 110  # columns of the terminal


@dataclass(frozen=True)
class Step:
    """Holds a command that a person types, what she wants of it, and which status it is to end with."""

    why: str
    command: str
    status: int = 0


STEPS = (
    Step("A file of 5,000 reviews, as a spreadsheet saves it.", "head -n 4 ../reviews.csv"),
    Step("Have a look at it, and its dataset's YAML written.", ".venv/bin/python -m conf.init ../reviews.csv"),
    Step(
        "Ask what a sweep would meet and how long it would take, before it starts.",
        "just sweep -m dataset=reviews size=words_s,words_m 'seed=range(3)' sweeps.check=true",
    ),
    Step(
        "Train and score two sizes with three seeds each.",
        "just sweep -m dataset=reviews size=words_s,words_m 'seed=range(3)'",
    ),
    Step("Look at the grid.", "just status"),
    Step("Look at what there is.", ".venv/bin/python -m tracking ls"),
    Step("Look at one run: its settings and how it ended.", ".venv/bin/python -m tracking show {run}"),
    Step("Look at how its loss fell.", ".venv/bin/python -m tracking history {run} --plot"),
    Step("The same sweep again does nothing.", "just sweep -m dataset=reviews size=words_s,words_m 'seed=range(3)'"),
    Step(
        "Make the tables again, with the prices of the two models in place of FLOPs.",
        ".venv/bin/python -m metrics dataset=reviews 'metrics.price={words_s: 0.1, words_m: 0.4}'",
    ),
    Step(
        "A report without anybody's text, to forward.",
        ".venv/bin/python -m metrics dataset=reviews report.text=false metrics.out=out/to-forward",
    ),
    Step("Ask where the tables came from.", ".venv/bin/python -m tracking lineage metrics-reviews"),
    Step(
        "A slip of the pen is answered with the line to type.",
        "just sweep -m dataset=text_classification dataset.name=mine dataset.path=../reviews.csv "
        "dataset.classes='{\"0\": neg}'",
        status=1,
    ),
)


def write_reviews(path: Path) -> None:
    """Writes 5,000 made-up reviews as a CSV with semicolons: columns id, review and verdict, in shuffled order."""
    rows = demo.rows("train", Dataset(name="reviews", train_examples=ROWS))
    random.Random(0).shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "review", "verdict"])
        for number, row in enumerate(rows):
            writer.writerow([number, row["text"], {"positive": "pos", "negative": "neg"}[row["label"]]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Records the session and writes the page; returns 1 where a command does not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    page = parser.parse_args(arguments).page
    with tempfile.TemporaryDirectory(prefix="first-run-") as name:
        folder = Path(name)
        checkout = folder / "edgewise"
        subprocess.run(["git", "clone", "--quiet", str(REPO), str(checkout)], check=True)
        write_reviews(folder / "reviews.csv")
        environment = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONUNBUFFERED": "1"}
        set_up = Step("Set the packages up, once.", "just setup")
        begun, load = time.monotonic(), os.getloadavg()[0]
        blocks = []
        for step in (set_up, *STEPS):
            command = step.command.format(run=_last_run(checkout)) if "{run}" in step.command else step.command
            start = time.monotonic()
            result = subprocess.run(
                ["sh", "-c", command],
                cwd=checkout,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            print(f"{time.monotonic() - start:6.1f} s  {command}", flush=True)
            if result.returncode != step.status:
                print(result.stdout, file=sys.stderr)
                print(f"error: {command} ended with {result.returncode}, not {step.status}", file=sys.stderr)
                return 1
            blocks.append(_block(step.why, command, result.stdout, time.monotonic() - start, str(folder)))
        minutes = (time.monotonic() - begun) / 60
    made = f"{len(STEPS) + 1} commands in {minutes:.1f} minutes, {cores()} cores, load {load:.0f} before."
    write_between_marks(page, MARKS, "\n\n".join([made, *blocks]))
    return 0


def _last_run(checkout: Path) -> str:
    """Returns the id of the training run that ended last in the checkout's store."""
    from tracking.store import Store

    runs = Store(checkout / "runs").runs(job_type="train")
    return max(runs, key=lambda run: run.ended or 0).id


def _block(why: str, command: str, output: str, seconds: float, folder: str) -> str:
    """Returns a step as Markdown: why, the command and its output, and how long it took."""
    lines = shown_lines(output, folder)
    if len(lines) > SHOWN_LINES:
        half = SHOWN_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines more …", *lines[-half:]]
    return "\n".join([f"{why} ({seconds:.0f} s)", "", "```text", f"$ {command}", *lines, "```"])


def shown_lines(output: str, folder: str) -> list[str]:
    """Returns the lines that a terminal shows: without colours, and without what a carriage return wrote over."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.replace(folder, HOME))
    return [line.split("\r")[-1].rstrip() for line in plain.rstrip("\n").split("\n")]


if __name__ == "__main__":
    sys.exit(main())
