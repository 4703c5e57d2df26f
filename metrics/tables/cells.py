"""Holds what a cell of a table shows, in whatever form the table is written."""

import math
from dataclasses import dataclass

from metrics.bootstrap.resampling import Estimate

MISSING = "-"  # where there is no number
ON_PAGE = "z.2f"  # the page never shows "-0.00"; the paper's tables, and so the files, keep the sign


@dataclass(frozen=True)
class Cell:
    """Holds what one cell shows, and what its column is sorted by on the page.

    A cell with a number in `order` is a number: the page sets its signs as minus signs, and a missing one as a dash.
    """

    text: str
    below: str = ""  # on the page, on a line of its own: an interval
    order: float | str | None = None  # None: the text
    drawing: str = ""  # markup of the page's own, shown instead of the text; all else is escaped
    beside: str = ""  # on the page, smaller: a standard error
    reference: str = ""  # on the page, on a further line: what to compare the number with

    @property
    def line(self) -> str:
        """Returns all that the cell says on one line, as files show it: `1.23 (0.045) [1.00, 1.40]`."""
        return " ".join(filter(None, (self.text, self.beside, self.below, self.reference)))


def number_cell(
    value: float,
    form: str = ".2f",
    limits: tuple[float, float] = (math.nan, math.nan),
    standard_error: float = math.nan,
) -> Cell:
    """Returns the cell of a number in `form`, Python's format language, with what is known of its uncertainty.

    NaN stands for what isn't there.
    """
    low, high = limits
    return Cell(
        MISSING if math.isnan(value) else format(value, form),
        below="" if math.isnan(low) else f"[{format(low, form)}, {format(high, form)}]",
        order=float(value),
        beside="" if math.isnan(standard_error) else f"({standard_error:.3f})",
    )


def estimate_cell(estimate: Estimate, digits: int = 2, sign: bool = False, scale: float = 100) -> Cell:
    """Returns the cell of `scale` times an estimate, with its interval, for the page; `sign` shows a plus too."""
    if math.isnan(estimate.value):
        return number_cell(math.nan)
    form = f"z.{digits}f"
    limits = "" if math.isnan(estimate.low) else f"[{scale * estimate.low:{form}}, {scale * estimate.high:{form}}]"
    return Cell(f"{scale * estimate.value:{'+' if sign else ''}{form}}", limits, estimate.value)


def count_cell(value: int) -> Cell:
    """Returns the cell of a whole number, its thousands set apart by commas."""
    return Cell(f"{value:,}", order=float(value))
