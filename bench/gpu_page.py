"""Writes the compiler's table of a GPU's train step into docs/performance.md: `just gpu-page`.

Each row is one way to compile T5's step of 128 rows × 512 for an H200, on a machine without a GPU; it needs JAX's CUDA
plugin. The compiler's reports are kept in out/gpu/ and used again; with `--kept`, rows whose report is not there are
left out of the table instead of being compiled.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.kept_report import kept_report
from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from tests.support import REPO

MARKS = ("<!-- gpu-compiled -->", "<!-- end of gpu-compiled -->")
COMMON = ("topology=h200", "dataset=yahoo_answers", "train.batch_size=128", "compile.step=train", "compile.json=true")
SMALLER_MEMORY = 80 * 2**30  # bytes of an H100's
HEADER = (
    "size, attention, layers",
    "temporaries",
    "all, of an H100's memory",
    "HBM traffic",
    "launches",
    "compiled in",
)


@dataclass(frozen=True)
class Row:
    """Holds one way to compile the step: its size, its attention, and whether layers are written out."""

    size: str
    attention: str
    unroll: bool

    @property
    def overrides(self) -> list[str]:
        """Returns the overrides of `python -m train.compile` that compile it."""
        own = (f"size={self.size}", f"train.attention={self.attention}", f"train.unroll={str(self.unroll).lower()}")
        return [*COMMON, *own]

    @property
    def file(self) -> str:
        """Returns the name of the kept report."""
        return f"{self.size}_{self.attention}_{'unrolled' if self.unroll else 'loop'}.json"


ROWS = (
    Row("base", "plain", False),
    Row("base", "plain", True),
    Row("base", "cudnn", False),
    Row("base", "cudnn", True),
    Row("base", "kernel", False),
    Row("base", "kernel", True),
    Row("large", "plain", False),
    Row("large", "cudnn", True),
    Row("large", "kernel", True),
)


def page_table(rows: Sequence[Row], steps: Sequence[dict[str, Any]]) -> str:
    """Returns the table, a row for each way to compile the step."""
    lines = []
    for row, step in zip(rows, steps, strict=True):
        name = f"{row.size}, {row.attention}, {'written out' if row.unroll else 'a loop'}"
        if step["temporaries"] is None:
            lines.append([name, "more than there is", "", "", "", f"{step['seconds']:.0f} s"])
            continue
        lines.append(
            [
                name,
                f"{step['temporaries'] / 2**30:.1f} GiB",
                f"{step['memory'] / SMALLER_MEMORY:.0%}",
                f"{step['accessed'] / 1e9:.0f} GB",
                f"{step['launches']:,}",
                f"{step['seconds']:.0f} s",
            ]
        )
    return "\n".join(markdown_table(HEADER, lines))


def main() -> None:
    """Compiles what is missing, and writes the table into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="just gpu-page", description=__doc__)
    parser.add_argument("--kept", action="store_true", help="compile nothing: make the table of the kept reports")
    options = parser.parse_args()
    kept = REPO / "out/gpu"
    rows = [row for row in ROWS if not options.kept or (kept / row.file).exists()]
    reports = [kept_report(kept / row.file, row.overrides) for row in rows]
    text = page_table(rows, [report["steps"][0] for report in reports])
    write_between_marks(REPO / "docs/performance.md", MARKS, text)
    print(text)


if __name__ == "__main__":
    main()
