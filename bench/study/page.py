"""Writes docs/study.md's measured part from the metrics outputs of a study, so that no number is typed in."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from bench.study.claims import Claim, Output, claims
from bench.study.published import NAMES
from metrics.text_baseline import NAME
from tracking.interface import Tracker

Row = dict[str, Any]


@dataclass(frozen=True)
class PretrainedSize:
    """Holds what is said of a size's pre-training: its steps and batch, its last losses (nats a token), its minutes.

    Those are of the steps alone, as the log has them: a training that was cut off and goes on counts no pause.
    """

    size: str
    steps: int
    batch_size: int
    loss: float
    validation_loss: float
    minutes: float


def pretrained_sizes(tracker: Tracker, text: str) -> list[PretrainedSize]:
    """Returns the finished pre-trainings on the plain text of this name, in the order in which they were run."""
    found = []
    for run in tracker.runs(job_type="train", state="finished"):
        if run.config.get("dataset", {}).get("name") != text:
            continue
        history = tracker.history(run.id)
        last = {key: value for point in history for key, value in point.items()}
        found.append(
            PretrainedSize(
                run.config["size"]["name"],
                run.config["train"]["steps"],
                run.config["train"]["batch_size"],
                last.get("loss", float("nan")),
                last.get("validation_loss", float("nan")),
                _minutes(history, run.config["train"]["batch_size"]),
            )
        )
    return found


def _minutes(history: Sequence[Mapping[str, float]], batch_size: int) -> float:
    """Returns the minutes that the steps of a log took, by the examples a second of each of its points."""
    points = [point for point in history if "examples_per_second" in point]
    steps = np.diff([0, *(point["step"] for point in points)])
    rates = np.array([point["examples_per_second"] for point in points])
    return float((steps * batch_size / rates).sum() / 60) if points else math.nan


def sizes_table(pretrained: Row, scratch: Row | None) -> list[str]:
    """Returns the sizes' accuracies, pre-trained and from scratch, as the lines of a Markdown table."""
    rows = []
    from_scratch = {} if scratch is None else {size["name"]: size for size in scratch["sizes"]}
    for size in pretrained["sizes"]:
        other = from_scratch.get(size["name"])
        by_seed = ", ".join(f"{100 * value:.2f}" for value in size["accuracy_by_seed"])
        cells = [size["name"], f"{size['parameters']:,}", str(len(size["seeds"])), _accuracy(size)]
        rows.append([*cells, "–" if other is None else _accuracy(other), by_seed])
    heads = ["Size", "Parameters", "Seeds", "Accuracy pre-trained, %", "From scratch, %", "By seed, pre-trained"]
    return markdown_table(heads, rows, (0, 5))


def _pretraining_cells(one: PretrainedSize) -> list[str]:
    """Returns a size's row of the table of pre-training."""
    losses = [_shown(one.loss), _shown(one.validation_loss)]
    return [one.size, f"{one.steps:,} × {one.batch_size}", *losses, f"{one.minutes:.1f}"]


def _shown(loss: float) -> str:
    return "–" if math.isnan(loss) else f"{loss:.3f}"


def _accuracy(size: Row) -> str:
    value = size["accuracy"]
    shown = f"{100 * value['value']:.2f}"
    return shown if value["ci_low"] is None else f"{shown} [{100 * value['ci_low']:.2f}, {100 * value['ci_high']:.2f}]"


def claim_lines(claim: Claim, beside: Claim | None, dataset: str) -> list[str]:
    """Returns a claim's answer, its numbers, the paper's and its picture; `beside` is of the sizes from scratch."""
    lines = [f"### ({claim.number}) {claim.text}", "", claim.answer(), *_evidence_lines(claim)]
    if beside is not None:
        lines += ["", f"From scratch: {beside.answer()}", *_evidence_lines(beside)]
    if claim.published is not None and dataset in NAMES:
        lines += ["", f"In the paper: {claim.published(dataset)}."]
    return [*lines, "", f"Measured: {claim.measure}.", "", f"![{claim.text}]({picture(dataset, claim.figure)})", ""]


def _evidence_lines(claim: Claim) -> list[str]:
    """Returns a claim's numbers as a list; no lines where there are none."""
    return ["", *(f"- {one.line()}" for one in claim.evidence)] if claim.evidence else []


def study_text(
    name: str,
    output: Output,
    scratch: Output | None,
    trained: Sequence[PretrainedSize],
    command: str,
    machine: str,
) -> str:
    """Returns the measured part of the page for one dataset, as Markdown.

    `command` makes it all again, and `machine` says what it ran on.
    """
    dataset = output.dataset
    introduction = f"{name}, {dataset['examples']:,} examples of {dataset['split']}, on {machine}."
    lines = ["```", command, "```", "", introduction, ""]
    if trained:
        heads = ("Size", "Pre-training, steps × batch", "Loss", "Held-out loss", "Minutes of steps")
        lines += [*markdown_table(heads, map(_pretraining_cells, trained)), ""]
    lines += [*sizes_table(dataset, None if scratch is None else scratch.dataset), ""]
    if rows := output.rows("baseline"):
        lines += [f"{NAME}: {rows[0]['baseline']:.2f} %.", ""]
    others = [None] * 7 if scratch is None else claims(scratch)
    for claim, other in zip(claims(output), others, strict=False):
        lines += claim_lines(claim, other, output.name)
    return "\n".join(lines).rstrip()


def write_study(page: Path, output: Output, text: str, out: Path) -> None:
    """Copies the claims' pictures beside the page, and writes the text between the dataset's marks in it.

    `out` is the metrics output that `output` was read from. Raises ValueError for a page without the marks.
    """
    for figure in {claim.figure for claim in claims(output)}:
        shutil.copyfile(out / "figures" / f"{figure}.png", page.parent / picture(output.name, figure))
    write_between_marks(page, marks(output.name), text)


def picture(dataset: str, figure: str) -> str:
    """Returns the name of a figure's file beside the page."""
    return f"study_{dataset}_{figure}.png"


def marks(dataset: str) -> tuple[str, str]:
    """Returns the marks between which a dataset's measured part stands in the page."""
    return f"<!-- study {dataset} -->", f"<!-- end of study {dataset} -->"
