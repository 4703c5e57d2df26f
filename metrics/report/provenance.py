"""Says where every number comes from: the choices, the code, each run's scores and model, and how it was trained."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from conf.schema import Metrics
from conf.version import product_version
from metrics.analysis.dataset import Analysis
from metrics.grid.mismatch import OWN_TO_A_RUN
from metrics.output.summary import NUMBERS
from metrics.scores import ScoresMetadata
from metrics.tables.cells import Cell, count_cell
from metrics.tables.html import table
from metrics.tables.table import Head

_PROJECT = Path(__file__).resolve().parents[2]
_CODE = ("conf", "metrics")  # the rooms whose sources can change a number once the scores are there


class Trail(NamedTuple):
    """Leads from a kind of number to the files that hold it, the scores it is made of, and the sources that make it."""

    numbers: str
    files: str  # beside the page
    scores: str
    sources: tuple[str, ...]  # files and folders of the project


TRAILS = (
    Trail(
        "Tables 1 and 3, the curves, Figures 4 to 6",
        "tables/table1.csv, tables/table3.csv, curves/switcher.parquet",
        "every run of the two sizes in a row",
        (
            "metrics/statistics/switcher.py",
            "metrics/statistics/bleu_switcher.py",
            "metrics/statistics/uncertainty.py",
        ),
    ),
    Trail(
        "Table 2",
        "tables/table2.csv",
        "every run of the size that churns and of the size that ranks",
        ("metrics/statistics/churn.py",),
    ),
    Trail(
        "Figures 1 to 3",
        "figures/fig1.csv to fig3.csv",
        "every run of the smallest and of the shown sizes",
        ("metrics/analysis/buckets.py",),
    ),
    Trail(
        "Past the paper",
        "tables/, each table's CSV; summary.json, under beyond",
        "every run of the sizes in a row",
        ("metrics/beyond/",),
    ),
    Trail("Slices", "summary.json, under slices", "every run of every size", ("metrics/analysis/slices.py",)),
    Trail("Intervals", "ci_low and ci_high, beside each number", "the same runs, resampled", ("metrics/bootstrap/",)),
)
_KEY_VALUE = [Head("Key", text=True), Head("Value", text=True)]


def provenance(
    analyses: Sequence[Analysis],
    inputs: Sequence[Mapping[str, Any]],
    metadata: Sequence[ScoresMetadata],
    config: Metrics,
    signature: str,
) -> str:
    """Returns the section's HTML. `inputs` are the entries of summary.json, one a run."""
    version, digest = code_version()
    settings: list[list[Cell | str]] = [
        [f"metrics.{key}", str(value)] for key, value in asdict(config).items() if key in NUMBERS
    ]
    scores = "".join(
        f"<dt>Scores of {escape(analysis.grid.dataset)}</dt><dd><code>{escape(text)}</code></dd>"
        for analysis in analyses
        for text in analysis.grid.signatures
    )
    parts = [
        "<p>Every number on this page is a function of the scores listed below, of the choices in the signature, and "
        "of the code. The same three give the same page, byte for byte.</p>",
        f'<dl class="facts"><dt>Signature</dt><dd><code>{escape(signature)}</code></dd>',
        f"<dt>Code</dt><dd>Edgewise {escape(version)}, sources of {' and '.join(_CODE)} "
        f"<code>sha256:{digest}</code></dd>{scores}</dl>",
        table(
            "trails",
            "From a number to its file, its inputs and its code",
            "",
            [Head(title, text=True) for title in ("What", "File beside this page", "Made of", "By")],
            [[one.numbers, one.files, one.scores, ", ".join(one.sources)] for one in TRAILS],
            wrapped=True,
        ),
        _inputs(inputs),
        _lineage(analyses),
        table("settings", "Settings that can change a number", "", _KEY_VALUE, settings),
        _configs(metadata),
    ]
    return "".join(parts)


@cache
def code_version() -> tuple[str, str]:
    """Returns the project's version, and one SHA-256 over the paths and contents of the sources that make numbers."""
    digest = hashlib.sha256()
    for room in _CODE:
        for path in sorted((_PROJECT / room).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(_PROJECT).as_posix()} {len(content)}\n".encode() + content)
    return product_version(), digest.hexdigest()


def _inputs(inputs: Sequence[Mapping[str, Any]]) -> str:
    columns = [Head(title, text=True) for title in ("Scores", "Digest", "Dataset", "Split", "Size")]
    columns += [Head("Seed"), Head("Examples"), Head("Model", text=True), Head("Data", text=True)]
    rows: list[list[Cell | str]] = [
        [
            str(one["name"]),
            _digest(one["digest"]),
            *(str(one[key]) for key in ("dataset", "split", "size")),
            Cell(str(one["seed"]), order=float(one["seed"])),
            count_cell(one["examples"]),
            _digest(one["model"]),
            _digest(one["data"]),
        ]
        for one in inputs
    ]
    return table("inputs", "Every run's scores that these numbers come from", "", columns, rows)


def _digest(text: str) -> Cell:
    return Cell(text, drawing=f"<code>{escape(text)}</code>")


def _lineage(analyses: Sequence[Analysis]) -> str:
    commands = "\n".join(f"python -m tracking lineage metrics-{analysis.grid.dataset}" for analysis in analyses)
    return (
        "<p>Where the scores are tracked artifacts, the store knows the rest of the way, down to the data, the config "
        f"and the commit of each run:</p><pre><code>{escape(commands)}</code></pre>"
    )


def _configs(metadata: Sequence[ScoresMetadata]) -> str:
    """Returns what each size was trained and scored with: once where its runs agree, else once a group that agrees."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for run in metadata:
        groups.setdefault((run.dataset, run.size, _settings(run)), []).append(run.seed)
    parts = []
    for (dataset, size, text), seeds in groups.items():
        many = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        body = f"<pre><code>{escape(text)}</code></pre>" if text != "{}" else "<p>The scores don't say.</p>"
        parts.append(
            f"<details><summary>How {escape(dataset)} {escape(size)} was trained and scored, {many}</summary>"
            f"{body}</details>"
        )
    return "".join(parts)


def _settings(run: ScoresMetadata) -> str:
    """Returns a run's config as JSON, without what differs from run to run by design, such as the seed."""
    shared = {
        section: {k: v for k, v in values.items() if k not in OWN_TO_A_RUN.get(section, set()) - {"size"}}
        if isinstance(values, Mapping)
        else values
        for section, values in run.config.items()
    }
    return json.dumps(shared, indent=1, sort_keys=True, ensure_ascii=False)
