"""Writes the campaigns' figures into docs/reliability.md, between its markers, so that no number is typed in."""

import os
import platform
from pathlib import Path
from typing import NamedTuple

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from bench.torture.outcome import Outcome, described
from conf.machine import cores

MARKS = ("<!-- torture -->", "<!-- end -->")


class Line(NamedTuple):
    """Holds what came of one campaign."""

    title: str
    outcome: Outcome
    seconds: float

    def cells(self) -> tuple[str, str, str, str, str]:
        """Returns the table's cells: title, attempts, what came of them, faults, seconds."""
        tried, faults = f"{self.outcome.tried:,}", f"{len(self.outcome.faults):,}"
        return self.title, tried, described(self.outcome.counts), faults, f"{self.seconds:,.0f}"


def write_figures(page: Path, lines: list[Line], seconds: float) -> None:
    """Replaces what stands between the page's markers; `seconds` is what it took altogether.

    Raises ValueError for a page without markers.
    """
    heads = ("Done to it", "Tried", "What came of it", "Faults", "Seconds")
    table = markdown_table(heads, (line.cells() for line in lines), (0, 2))
    where = f"{platform.system()} on {platform.machine()}, {cores()} cores, Python {platform.python_version()}"
    made = "\n".join(
        [
            *table,
            "",
            f"Made by `just torture` in {seconds / 60:.0f} minutes, two campaigns at a time: {where}, load {_load()}.",
        ]
    )
    write_between_marks(page, MARKS, made)


def _load() -> str:
    """Returns how many processes wanted to run over the last 15 minutes: on an idle machine, about 2."""
    return f"{os.getloadavg()[2]:.0f}"
