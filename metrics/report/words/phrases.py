"""Writes numbers, intervals and names as the report's sentences have them."""

import math
from collections.abc import Sequence

from metrics.analysis.dataset import WHOSE_TOKENS, Analysis
from metrics.analysis.pairs import SizePair
from metrics.bootstrap.resampling import Estimate
from metrics.tables.paper import SCORE_TITLES


def percent(fraction: float, digits: int = 1) -> str:
    """Writes a fraction as a percentage: 0.25 as `25.0 %`."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def percent_rounded_up(fraction: float, digits: int = 1) -> str:
    """Writes a fraction as a percentage that is never below it: 0.3341 as `33.5 %`."""
    return percent(math.ceil(fraction * 10 ** (2 + digits) - 1e-6) / 10 ** (2 + digits), digits)


def points(fraction: float, sign: bool = False, digits: int = 2) -> str:
    """Writes a difference of fractions in percentage points, with a true minus sign and never as '-0.00'."""
    rounded = round(100 * fraction, digits) + 0.0
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def within(estimate: Estimate, digits: int = 2) -> str:
    """Writes an estimate's interval, × 100 and with a space before it: ` [1.23, 2.34]`; "" without an interval."""
    if math.isnan(estimate.low):
        return ""
    low, high = points(estimate.low, digits=digits), points(estimate.high, digits=digits)
    return f" [{low},\N{NO-BREAK SPACE}{high}]"


def example_count(examples: float) -> str:
    """Writes how many examples a number rests on: `(n = 1,234)`, unbroken."""
    return f"(n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{examples:,.0f})"


def pairs_of_runs(pair: SizePair) -> str:
    """Writes over how many pairs of runs a number is averaged."""
    count = pair.gaps.size
    return f"{count} pair{'s' if count != 1 else ''} of runs"


def context_note(analyses: Sequence[Analysis]) -> str:
    """Returns a sentence on whose tokens the uncertainty of sequences is of; "" where all tasks are classification."""
    sequences = [analysis for analysis in analyses if analysis.context is not None]
    if not sequences:
        return ""
    names = ""
    if len(sequences) < len(analyses):
        names = f" of {', '.join(analysis.grid.dataset for analysis in sequences)}"
    return f"Uncertainty{names} is that of {WHOSE_TOKENS[sequences[0].context or 'gold']}."


def slice_name(column: str) -> str:
    """Returns a slice column's name for reading: `slice_kind` becomes `kind`."""
    return column.removeprefix("slice_").replace("_", " ")


def score_title(score: str) -> str:
    """Returns a score's name for reading: `committee_margin` becomes `committee margin`."""
    return SCORE_TITLES.get(score, score.replace("_", " ")).replace("Cmt.", "committee").lower()
