"""Reads the published Tables 1-3 as intervals: each number stands for all that would be printed the same."""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LARGER = ("BASE", "LARGE", "3B")
SIZES = ("SMALL", *LARGER)
SCORES = ("margin", "cmt_margin", "entropy", "cmt_entropy", "churn", "cmt_churn")
BINARY = ("Wikipedia", "IMDb")
RUNS = {"SQuAD": 9}  # of the churning size, 3B; 10 of every other dataset
_HALF_UNIT = {"table1": 0.05, "table2": 0.005, "table3": 0.05, "se": 0.005}


@dataclass(frozen=True)
class Printed:
    """Holds a printed number and the interval of what it may have been, in the unit it is printed in."""

    value: float
    low: float
    high: float
    digits: int  # after the point

    def __str__(self) -> str:
        return f"{self.value:.{self.digits}f}"

    @property
    def however_rounded(self) -> tuple[float, float]:
        """Returns the open interval of what the number may have been if it was rounded to the nearest, up or down."""
        unit = 10.0**-self.digits
        negative_zero = self.value == self.high == 0  # which rounding down gives only of what is below 0
        return round(self.value - unit, 9), 0.0 if negative_zero else round(self.value + unit, 9)

    @property
    def interval(self) -> str:
        """Writes the number and its interval: `12.3 (12.25 to 12.35)`."""
        return f"{self} ({self.low:g} to {self.high:g})"


@dataclass(frozen=True)
class Bucket:
    """Holds one cell of Table 2, in percent."""

    churn: Printed
    se: Printed


def printed(value: float, half_unit: float) -> Printed:
    """Returns a number ± half a unit of its last digit; a printed -0.0 was at most 0."""
    negative_zero = value == 0 and math.copysign(1.0, value) < 0
    high = 0.0 if negative_zero else round(value + half_unit, 9)
    return Printed(value, round(value - half_unit, 9), high, digits=round(-math.log10(2 * half_unit)))


@cache
def tables() -> dict[str, Any]:
    """Returns the published numbers from paper_tables.json, which names their source."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8"))
    return content


def datasets() -> list[str]:
    """Returns the names of the paper's datasets."""
    return list(tables()["table2"])


def gain(table: str, dataset: str, larger: str, score: str) -> Printed | None:
    """Returns a mean of Table 1 or 3 in percent; None where it can't be read."""
    cell = tables()[table][dataset][larger][score]
    return None if cell is None else printed(cell[0], _HALF_UNIT[table])


def gain_se(table: str, dataset: str, larger: str, score: str) -> Printed | None:
    """Returns a standard error of Table 1 or 3 in percent; None where it can't be read."""
    cell = tables()[table][dataset][larger][score]
    return None if cell is None else printed(cell[1], _HALF_UNIT["se"])


def buckets(dataset: str, size: str) -> list[Bucket]:
    """Returns a dataset's cells of Table 2, Q1 to Q5, by the uncertainty of `size`."""
    row = tables()["table2"][dataset]["rows"][size]
    return [
        Bucket(printed(churn, _HALF_UNIT["table2"]), printed(se, _HALF_UNIT["se"]))
        for churn, se in zip(row["churn_pct"], row["se_pct"], strict=True)
    ]


def examples(dataset: str) -> int:
    """Returns how many examples a dataset's test split has."""
    return int(tables()["table2"][dataset]["n_test"])
