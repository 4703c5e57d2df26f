"""Holds what a check of one relation found, and writes findings as text and JSON."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metrics.tables.escape import text_of_spreadsheet

# Sums of up to millions of counts, divided: far above float64's rounding and far below one example of 10 million.
TOLERANCE = 1e-9

# ROUNDED: it doesn't hold of numbers rounded to the nearest digit, but it may of numbers rounded up or down.
HOLDS, ROUNDED, CANNOT, UNDECIDED = "holds", "rounded differently", "cannot hold", "undecided"
VERDICTS = (HOLDS, ROUNDED, CANNOT, UNDECIDED)


@dataclass
class Finding:
    """Holds one relation on one group of cells: whether it holds there, and by how much."""

    relation: str
    formula: str
    cells: str
    verdict: str  # one of VERDICTS
    detail: str
    by: float | None = None  # distance to the relation's edge: slack where it holds, excess where it can't
    identity: bool = True  # False: a claim about models, which numbers may contradict without being wrong


def checked(relation: str, formula: str, cells: str, excess: float, identity: bool = True) -> Finding:
    """Returns the finding of a relation that holds where `excess`, the amount beyond its edge, is not above 0.

    Up to TOLERANCE is taken for rounding. NaN, which comes of a number that isn't there, decides nothing.
    """
    verdict = UNDECIDED if math.isnan(excess) else CANNOT if excess > TOLERANCE else HOLDS
    if math.isnan(excess):
        detail = "lacks a number"
    else:
        detail = f"off by {excess:.3g}" if excess > TOLERANCE else f"{-excess:.3g} to spare" if excess < 0 else "exact"
    return Finding(relation, formula, cells, verdict, detail, excess, identity)


def same_rows(directory: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Finding:
    """Checks that a table's CSV holds the rows that summary.json does."""
    with (directory / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    differing = abs(len(read) - len(rows)) + sum(
        any(text_of_spreadsheet(one[key]) != ("" if value is None else str(value)) for key, value in other.items())
        for one, other in zip(read, rows, strict=False)
    )
    return checked(
        "One set of numbers",
        "tables/*.csv and summary.json hold the same rows",
        f"{name}, {len(rows)} rows",
        float(differing),
    )


def violated(findings: Iterable[Finding]) -> bool:
    """Tells whether an identity, not merely a claim, is violated."""
    return any(one.identity and one.verdict == CANNOT for one in findings)


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Returns the findings for JSON; a number that isn't finite becomes null."""
    return [
        {**asdict(one), "by": None if one.by is None or not math.isfinite(one.by) else float(one.by)}
        for one in findings
    ]


def as_text(findings: Sequence[Finding]) -> str:
    """Writes the findings relation by relation; cells where it holds are listed only if there are at most ten."""
    blocks = []
    for relation in dict.fromkeys(one.relation for one in findings):
        group = [one for one in findings if one.relation == relation]
        counts = {_shown(one): sum(_shown(other) == _shown(one) for other in group) for one in _by_verdict(group)}
        lines = [
            f"{relation}{'' if group[0].identity else ' (a claim, no identity)'}",
            f"  {group[0].formula}",
            "  " + ", ".join(f"{verdict}: {count}" for verdict, count in counts.items()),
        ]
        for one in group:
            if len(group) <= 10 or one.verdict != HOLDS:
                lines.append(f"  - {one.cells}: {_shown(one)}. {one.detail}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _by_verdict(findings: Sequence[Finding]) -> list[Finding]:
    """Returns the findings in the order of VERDICTS."""
    return sorted(findings, key=lambda one: VERDICTS.index(one.verdict))


def _shown(finding: Finding) -> str:
    """Returns the verdict as it is printed: models may contradict a claim, so that its numbers are not impossible."""
    return "does not hold here" if finding.verdict == CANNOT and not finding.identity else finding.verdict
