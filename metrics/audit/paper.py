"""Checks the published tables against every relation that constrains them, and carries each number's rounding along.

Accuracies, gaps and disagreements are in no table, so some relations say only what those must have been. All numbers
are in percent and percentage points. A relation that holds for each pair of runs holds for the published means where
it is linear, or where its bound is concave in what is averaged (Jensen). Table 1's peak is taken to be the curve's, as
the paper names no grid of fractions.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from metrics.audit import published
from metrics.audit.finding import CANNOT, HOLDS, ROUNDED, UNDECIDED, Finding
from metrics.audit.published import BINARY, LARGER, SCORES, SIZES, Printed, buckets, datasets, gain, gain_se
from metrics.statistics.churn import BUCKETS

SHARES = np.array([upper - lower for _, lower, upper in BUCKETS])
_FLOAT = 1e-9  # slack for sums of decimals in binary


def audit_paper() -> list[Finding]:
    """Runs every check on the published tables."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        bucket_weights,
        churn_and_error,
        binary_churn,
        standard_errors,
        trials,
        equal_columns,
        gaps,
        gaps_if_relative,
        concavity,
        perfect_router,
        churn_beats_margin,
        own_beats_committee,
        out_of_reach,
    )
    return [finding for check in checks for finding in check()]


def overall_churn(dataset: str, however_rounded: bool = False) -> tuple[float, float]:
    """Returns the interval, (low, high) in percent, that all rows of Table 2 allow for 3B's churn over all examples.

    The numbers are taken to be rounded to the nearest, or to the nearest, up or down (`however_rounded`). low > high
    where the rows contradict one another.
    """
    rows = [[bucket.churn for bucket in buckets(dataset, size)] for size in SIZES]
    limits = [[churn.however_rounded if however_rounded else (churn.low, churn.high) for churn in row] for row in rows]
    low = max(float(SHARES @ [low for low, _ in row]) for row in limits)
    high = min(float(SHARES @ [high for _, high in row]) for row in limits)
    return low, high


def bucket_weights() -> Iterator[Finding]:
    """Checks that all rows of a dataset in Table 2 add up to one churn over all examples."""
    for dataset in datasets():
        sums = [float(SHARES @ [bucket.churn.value for bucket in buckets(dataset, size)]) for size in SIZES]
        low, high = overall_churn(dataset)
        totals = ", ".join(f"{size} {total:.4f}" for size, total in zip(SIZES, sums, strict=True))
        if low <= high + _FLOAT:
            verdict, detail = HOLDS, f"{(low + high) / 2:.4f} % ({low:.4f} to {high:.4f})"
        else:
            least, most = overall_churn(dataset, however_rounded=True)
            verdict = ROUNDED if least < most else CANNOT
            detail = f"the rows are {low - high:.4f} points further apart than rounding to the nearest allows"
        yield Finding(
            "Bucket weights",
            ".5 Q1 + .25 Q2 + .15 Q3 + .09 Q4 + .01 Q5 is the churn of 3B over all examples, whatever size ranks them",
            f"Table 2 {dataset}",
            verdict,
            f"{detail}; sums: {totals}",
            abs(high - low),
        )


def churn_and_error() -> Iterator[Finding]:
    """States the most that churn allows for the accuracy of 3B, which no table has."""
    for dataset in datasets():
        low, _ = overall_churn(dataset)
        yield Finding(
            "Churn and error",
            "two runs that differ aren't both right: mean error of 3B ≥ churn / 2 (one gold answer each)",
            f"Table 2 {dataset}",
            UNDECIDED,
            f"no table has accuracies; 3B's is at most {100 - low / 2:.2f} %",
            low / 2,
        )


def binary_churn() -> Iterator[Finding]:
    """Checks that churn with two classes is not above what so many runs can reach."""
    runs = 10
    most = 100 * (runs // 2) * (runs - runs // 2) / math.comb(runs, 2)
    for dataset in BINARY:
        top = max((b.churn for size in SIZES for b in buckets(dataset, size)), key=lambda churn: churn.value)
        yield Finding(
            "Binary churn",
            f"of R = {runs} runs with two classes, ⌊R/2⌋⌈R/2⌉ of R(R-1)/2 pairs differ at most: {most:.2f} %",
            f"Table 2 {dataset}, every bucket",
            _verdict(top.high <= most, top.low > most, top.however_rounded[0] >= most),
            f"the largest is {top.interval} %",
            abs(most - top.value),
        )


def _se(churn: float, examples: float, count: float) -> float:
    """Returns √(p(1 - p) / (n_b K)) in percent, for a churn p in percent."""
    return math.sqrt(churn * (100 - churn) / (examples * count))


def _pairs_times_runs(dataset: str) -> int:
    runs = published.RUNS.get(dataset, 10)
    return math.comb(runs, 2) * (runs - 1)


def standard_errors() -> Iterator[Finding]:
    """Checks the standard errors of Table 2 against the formula that fits them."""
    for dataset in datasets():
        n, count = published.examples(dataset), _pairs_times_runs(dataset)
        for q, (bucket, lower, upper) in enumerate(BUCKETS):
            for share, reading in (
                ((upper - lower, ""), (0.5, " with n_b = 50 % of n")) if q == 1 else ((upper - lower, ""),)
            ):
                off, widest, contradicted = [], 0.0, False
                for size in SIZES:
                    cell = buckets(dataset, size)[q]
                    low, high = (_se(churn, share * n, count) for churn in (cell.churn.low, cell.churn.high))
                    beyond = max(low - cell.se.high, cell.se.low - high)
                    if beyond > _FLOAT:
                        off.append(f"{size} prints {cell.se}, formula {(low + high) / 2:.4f}")
                        least, most = cell.se.however_rounded
                        contradicted |= low >= most or high <= least
                        widest = max(widest, beyond)
                yield Finding(
                    "Standard errors of Table 2",
                    "√(p(1-p)/(n_b K)), K = pairs × (runs - 1): 45 × 9 = 405, SQuAD 36 × 8 = 288; Q2 fits n_b = 50 % "
                    "of n, not its own 25 %",
                    f"Table 2 {dataset} {bucket}{reading}, {len(SIZES)} cells",
                    _verdict(not off, bool(off), contradicted),
                    f"off by up to {widest:.4f} points: {'; '.join(off)}" if off else "all within rounding",
                    widest,
                    identity=False,  # a formula read off the numbers, not one that must hold
                )


def trials() -> Iterator[Finding]:
    """Checks how many trials an example, K, the standard errors of Table 2 allow."""
    for dataset in datasets():
        n, low, high = published.examples(dataset), 0.0, math.inf
        for size in SIZES:
            for (_, lower, upper), cell, q in zip(BUCKETS, buckets(dataset, size), range(5), strict=True):
                examples = n * (0.5 if q == 1 else upper - lower)
                low = max(low, cell.churn.low * (100 - cell.churn.low) / (examples * cell.se.high**2))
                if cell.se.low > 0:
                    high = min(high, cell.churn.high * (100 - cell.churn.high) / (examples * cell.se.low**2))
        runs = published.RUNS.get(dataset, 10)
        readings = {
            f"{math.comb(runs, 2)} × {factor} = {math.comb(runs, 2) * factor}": low
            <= math.comb(runs, 2) * factor
            <= high
            for factor in (runs - 1, runs)
        }
        fits = [text for text, inside in readings.items() if inside]
        yield Finding(
            "Trials an example, K",
            "the K that every standard error of Table 2 allows, with Q2's n_b as 50 % of n",
            f"Table 2 {dataset}",
            HOLDS if len(fits) == 1 else UNDECIDED if fits else CANNOT,
            f"{low:.1f} to {high:.1f}; fits: {' and '.join(fits) or 'neither reading'}",
            None,
            identity=False,
        )


def equal_columns() -> Iterator[Finding]:
    """Checks that margin and entropy, which order two classes alike, print the same numbers."""
    for dataset in BINARY:
        for table in ("table1", "table3"):
            apart = []
            for larger in LARGER:
                for read, what in ((gain, "mean"), (gain_se, "se")):
                    one, other = (read(table, dataset, larger, score) for score in ("margin", "entropy"))
                    assert one is not None and other is not None
                    if one.value != other.value:  # one number is printed in one way, however it is rounded
                        apart.append(f"{larger} {what} {one} and {other}")
            yield Finding(
                "Equal columns",
                "two classes: entropy is an increasing function of the margin, so both columns are the same",
                f"{_title(table)} {dataset}, margin and entropy, {2 * len(LARGER)} cells",
                CANNOT if apart else HOLDS,
                "; ".join(apart) if apart else "equal to the last digit",
            )


def least_gap(peak: float, area: float) -> float:
    """Returns the least gap |b - a|, in points, that Tables 1 and 3 allow together; infinite if no gap does.

    It is the least at which a curve of slope -1 … 1 reaches `area` without passing max(a, b) + `peak`, both in points.
    With g = |b - a|, S - min(a, b) ≤ min(f, g + peak, g + 1 - f) (or its mirror image), so
    area ≤ g/2 + peak - (g + peak)²/2 - peak²/2, all as fractions, which is concave in (g, peak).
    """
    t, x = peak / 100, area / 100
    # g²/2 - g(1/2 - t) + x - t + t² ≤ 0
    half = 0.5 - t
    under_root = half**2 - 2 * (x - t + t**2)
    return math.inf if under_root < 0 else 100 * max(0.0, half - math.sqrt(under_root))


def gaps() -> Iterator[Finding]:
    """Checks what gaps in accuracy Tables 1 and 3 ask for together, against what churn leaves room for."""
    for dataset in datasets():
        most = 100 - overall_churn(dataset)[0] / 2
        for larger in LARGER:
            needed = []
            for score, peak, area in _gains(dataset, larger):
                needed.append((least_gap(max(peak.high, 0.0), area.low), score, peak, area))
            gap, score, peak, area = max(needed, key=lambda one: one[0])
            simple = max(2 * (area.low - peak.high), 0.0)
            too_much = gap > (most if larger == "3B" else 100.0)
            if gap < 0.005:
                verdict, detail = HOLDS, "for any gap"
            else:
                verdict = CANNOT if too_much else UNDECIDED
                detail = (
                    f"asks |b - a| ≥ {gap:.2f} points (by the slope; {simple:.2f} by the first bound), of {score}: "
                    f"Table 1 {peak}, Table 3 {area}; taken as exact, these ask "
                    f"{least_gap(max(peak.value, 0.0), area.value):.2f}"
                )
            yield Finding(
                "Gap in accuracy",
                "Table 3 ≤ Table 1 + |b-a|/2, and as an example changes S by at most 1/n, the slope is -1 … 1: "
                "Table 3 ≤ g/2 + T1 - (g+T1)²/2 - T1²/2",
                f"{dataset} SMALL → {larger}",
                verdict,
                detail,
                gap,
            )


def gaps_if_relative() -> Iterator[Finding]:
    """States what gaps the tables would ask for if their gains were relative."""
    grid = np.arange(1, 1000) / 1000

    def reached(gap: float, larger: float, peak: float) -> float:
        small = larger - gap
        chord = small + grid * gap
        curve = np.minimum(np.minimum(small + grid, larger * (1 + peak)), larger + 1 - grid)
        return float((curve / chord - 1).mean())

    for dataset in datasets():
        most = 1 - overall_churn(dataset)[0] / 200
        score, peak, area = max(_gains(dataset, "3B"), key=lambda one: one[2].low - one[1].high)
        low, high = 0.0, most / 2
        wanted, least = area.low / 100, max(peak.high, 0.0) / 100
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle, most, least) >= wanted else (middle, high)
        yield Finding(
            "Gap in accuracy, if the tables are relative",
            "the same with (S - chord)/chord for Table 3 and a peak of max(a, b)(1 + T1)",
            f"{dataset} SMALL → 3B",
            UNDECIDED,
            f"asks b - a ≥ {100 * high:.2f} points at b = {100 * most:.2f} % (the most that churn allows), less at a "
            f"lower b; of {score}",
            100 * high,
        )


def concavity() -> Iterator[Finding]:
    """Checks the paper's claim that its curves are concave."""
    for dataset in datasets():
        for larger in LARGER:
            for score, peak, area in _gains(dataset, larger):
                slack = area.high - peak.low / 2
                verdict = _verdict(
                    area.low >= peak.high / 2 - _FLOAT,
                    slack < -_FLOAT,
                    area.however_rounded[1] <= peak.however_rounded[0] / 2,
                )
                detail = f"Table 3 {area.interval} against half of Table 1 {peak.interval}"
                if verdict in (CANNOT, ROUNDED):
                    detail += f": short by {-slack:.3f} points at least, so not every curve is concave"
                yield Finding(
                    "Concavity",
                    "a concave curve has Table 3 ≥ Table 1 / 2 (the paper calls its curves concave)",
                    f"{dataset} SMALL → {larger} {score}",
                    verdict,
                    detail,
                    abs(slack),
                    identity=False,
                )


def perfect_router() -> Iterator[Finding]:
    """States the least disagreement between two models that would allow their rows of Tables 1 and 3."""
    for dataset in datasets():
        for larger in LARGER:
            needed = []
            for score, peak, area in _gains(dataset, larger):
                under_root = 1 - 4 * max(area.low, 0.0) / 100
                by_area = 100 * (1 - math.sqrt(under_root)) if under_root >= 0 else math.inf
                needed.append((max(by_area, 2 * peak.low), score))
            least, score = max(needed)
            yield Finding(
                "Disagreement",
                "T1 ≤ min(w, l') and T3 ≤ [w(1-w) + l'(1-l')]/2 of the perfect router, where only the larger model "
                "is right on w, only the smaller on l': disagreement ≥ w + l' ≥ max(2 T1, 1 - √(1 - 4 T3))",
                f"{dataset} SMALL → {larger}",
                HOLDS if least <= 0 else CANNOT if least > 100 else UNDECIDED,
                f"asks disagreement ≥ {least:.2f} %, of {score}" if least > 0 else "for any disagreement",
                least,
            )


def _claim(relation: str, formula: str, better: str, worse: str) -> Iterator[Finding]:
    for table in ("table1", "table3"):
        for dataset in datasets():
            for larger in LARGER:
                one, other = gain(table, dataset, larger, better), gain(table, dataset, larger, worse)
                cells = f"{_title(table)} {dataset} SMALL → {larger}"
                if one is None or other is None:
                    yield Finding(relation, formula, cells, UNDECIDED, "unreadable", identity=False)
                    continue
                verdict = _verdict(
                    one.low > other.high, one.high < other.low, one.however_rounded[1] <= other.however_rounded[0]
                )
                difference = one.value - other.value
                detail = f"{better} {one}, {worse} {other}"
                detail += "; apart by no more than rounding" if verdict == UNDECIDED else ""
                yield Finding(relation, formula, cells, verdict, detail, round(difference, 9), identity=False)


def churn_beats_margin() -> Iterator[Finding]:
    """Checks the paper's claim that churn is the most useful score."""
    yield from _claim(
        "Churn beats margin", "the paper's section 3.4: churn is the most useful score", "churn", "margin"
    )


def own_beats_committee() -> Iterator[Finding]:
    """Checks the paper's claim that a model's own margin is more useful than the committee's."""
    yield from _claim(
        "A model's own margin beats the committee's",
        "the paper's section 3.4: more useful than the average uncertainty of several retrained models",
        "margin",
        "cmt_margin",
    )


def out_of_reach() -> Iterator[Finding]:
    """Lists the relations that the published tables can't decide, and what they lack."""
    for formula, lacks in (
        ("|b - a| ≤ disagreement", "neither is in a table; Figures 4 and 6 show them without digits"),
        (
            "random score: Table 3 has sd √(Var d / 12 n), Table 1 a floor of 0.627 √(Var d / n)",
            "Var d isn't published",
        ),
        ("negating a score negates Table 3; increasing maps and permutations change nothing", "needs the scores"),
        ("mean_relative", "the paper doesn't say which of the two it prints"),
    ):
        yield Finding("Not to be decided from the tables", "", formula, UNDECIDED, lacks)


def _verdict(holds: bool, contradicted: bool, contradicted_however_rounded: bool) -> str:
    """Returns the verdict on a relation, given whether the printed numbers force it and whether they contradict it."""
    if holds:
        return HOLDS
    return CANNOT if contradicted_however_rounded else ROUNDED if contradicted else UNDECIDED


def _gains(dataset: str, larger: str) -> Iterator[tuple[str, Printed, Printed]]:
    """Yields (score, its Table 1, its Table 3) for the scores that can be read in both tables."""
    for score in SCORES:
        peak, area = gain("table1", dataset, larger, score), gain("table3", dataset, larger, score)
        if peak is not None and area is not None:
            yield score, peak, area


def _title(table: str) -> str:
    return f"Table {table[-1]}"
