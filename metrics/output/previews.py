"""Logs the tables, curves, figures and report of a metrics output to its run, for people to look at."""

import csv
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from metrics.output.replace import MARK
from metrics.tables.escape import text_of_spreadsheet
from tracking.interface import Run

MOST_OF_A_TABLE = 10_000  # rows: the file with all of them is in the artifact


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
    return text_of_spreadsheet(text)
