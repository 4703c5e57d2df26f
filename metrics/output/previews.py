"""What a run logs to look at: of scores the most uncertain rows, of metrics tables, curves, figures and the report."""

import csv
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from metrics.output.directory import MARK
from metrics.scores import Scores
from metrics.statistics.uncertainty import log_entropy, log_margin, log_softmax, sequence_entropy, sequence_margin
from tracking.interface import Run

MOST_ROWS = 200  # of a preview: the scores themselves are the artifact
MOST_OF_A_TABLE = 10_000  # rows: the file with all of them is in the artifact
_LONGEST = 500  # characters of a text in a preview


def most_uncertain(scores: Scores, most: int = MOST_ROWS) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the examples that a run is least certain of, least certain first.

    `margin` is p₁ - p₂ and `entropy` is in nats; of a sequence both are means over the tokens of the model's own output
    where the scores have it, of the gold answer where not.
    """
    if scores.class_log_likelihoods is not None:
        log_p = log_softmax(scores.class_log_likelihoods.astype(np.float64))
        uncertainty, entropy = log_margin(log_p), log_entropy(log_p)
        names, extra = [f"log p({c})" for c in scores.metadata.classes or []], log_p
    else:
        tokens = scores.self_tokens or scores.gold_tokens
        assert tokens is not None
        uncertainty, entropy = sequence_margin(tokens), sequence_entropy(tokens)
        names, extra = ["tokens"], tokens.lengths[:, None]
    slices = sorted(scores.slices)
    columns = ["example_id", "target", "prediction", "correct", "margin", "entropy", *names, *slices]
    rows = []
    for row in np.argsort(-uncertainty, kind="stable")[:most]:
        rows.append(
            [
                str(scores.example_id[row]),
                str(scores.target[row])[:_LONGEST],
                str(scores.prediction[row])[:_LONGEST],
                None if scores.correct is None else bool(scores.correct[row]),
                1.0 - math.exp(uncertainty[row]),
                math.exp(entropy[row]),
                *extra[row].tolist(),
                *(None if scores.slices[name][row] is None else str(scores.slices[name][row]) for name in slices),
            ]
        )
    return columns, rows


def log_output(run: Run, out: Path) -> None:
    """Logs what a metrics output holds to look at: every table, the curves as charts, the figures, the report.

    The table `inputs` names the digest of each scores artifact that the others were made of.
    """
    inputs = json.loads((out / MARK).read_text(encoding="utf-8"))["inputs"]
    columns = list(inputs[0])
    run.log_table("inputs", columns, [[entry.get(column) for column in columns] for entry in inputs])
    for path in sorted((out / "tables").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        run.log_table(f"tables/{path.stem}", header, [[_value(text) for text in row] for row in rows[:MOST_OF_A_TABLE]])
    for path in sorted((out / "curves").glob("*.parquet")):
        log_curves(run, path)
    for path in sorted((out / "figures").glob("*.png")):
        run.log_image(f"figures/{path.stem}", path)
    run.log_html("report", out / "report" / "index.html")


def log_curves(run: Run, path: Path) -> None:
    """Logs a chart for each pair of sizes: the mean over pairs of runs of the switcher curve by each score."""
    # ParquetFile, not read_table: that one takes a `=` in a folder's name for a column
    with pq.ParquetFile(path) as file:
        table = file.read()
    names = [np.asarray(table.column(name).to_pylist(), dtype=object) for name in ("small", "large", "score")]
    fraction, value = (table.column(name).to_numpy() for name in ("fraction", "value"))
    fractions, place = np.unique(fraction, return_inverse=True)
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    keys = list(zip(*names, strict=True))
    for small, large, score in dict.fromkeys(keys):
        own = np.array([key == (small, large, score) for key in keys])
        sums = np.bincount(place[own], value[own], len(fractions))
        means = sums / np.bincount(place[own], minlength=len(fractions))
        groups.setdefault((small, large), {})[score] = means.tolist()
    for (small, large), lines in groups.items():
        run.log_lines(
            f"curves/{path.stem}/{small}-{large}",
            fractions.tolist(),
            lines,
            title=f"{small} → {large}: what deferral gives, by score",
            x_name="share deferred to the larger model",
        )


def _value(text: str) -> str | float | int | None:
    """Returns a cell of a CSV table as the number that it is, as text where it is none, as None where it is empty."""
    if text == "":
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
