"""Answers the paper's claims from a metrics output: for each a number, its interval and what that allows to say.

Nothing is computed from models here: the numbers are those of `summary.json` and of Figure 6's CSV, so that whoever has
the scores files can check every answer.
"""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.study.published import published_churn, published_gains

HOLDS, CONTRADICTED, UNDECIDED = "holds", "is contradicted", "can't be told"
UNCERTAINTY = "uncertainty of the smallest"  # the subgroups by it, in the table `subgroups`
LEAST_PAIRS = 10  # of runs with nearly equal accuracy, for a correlation
LEAST_SHARE = 0.8  # of the resamples that must have a correlation
DRAWS = 2000

Row = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Holds what one pair of sizes, or one size, says to a claim: a number with its interval, in `unit`."""

    what: str
    value: float
    low: float  # NaN without an interval
    high: float
    unit: str = "points"

    @property
    def verdict(self) -> str:
        """Returns whether the interval lies above 0, so that the claim holds, below it, or around it."""
        if self.low > 0:
            return HOLDS
        return CONTRADICTED if self.high < 0 else UNDECIDED

    def line(self) -> str:
        """Writes the number, its interval and the verdict."""
        interval = "no interval" if np.isnan(self.low) else f"[{self.low:+.2f}, {self.high:+.2f}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.what}: {self.value:+.2f}{unit} {interval}, {self.verdict}"


@dataclass(frozen=True)
class Claim:
    """Holds a claim of the paper and what the output says to it; `figure` is the picture that shows it.

    `published` says what the paper's tables have, given a dataset that it has too; None of a claim by a figure alone.
    """

    number: int
    text: str
    measure: str  # what the numbers are
    evidence: tuple[Evidence, ...]
    figure: str
    missing: str = ""  # why there is no evidence
    published: Callable[[str], str] | None = None

    def answer(self) -> str:
        """Writes the answer in a sentence."""
        if not self.evidence:
            return f"Can't be told: {self.missing}."
        verdicts = [one.verdict for one in self.evidence]
        counts = [(verdicts.count(verdict), verdict) for verdict in (HOLDS, CONTRADICTED, UNDECIDED)]
        if len(set(verdicts)) == 1:
            all_of = "In the one case" if len(verdicts) == 1 else f"In all {len(verdicts)} cases"
            return f"{all_of} it {verdicts[0]}."
        parts = [f"{verdict} in {count}" for count, verdict in counts if count]
        return f"Of {len(verdicts)} cases it {', '.join(parts)}."


@dataclass(frozen=True)
class Output:
    """Holds what a metrics output says of one dataset: its entry in summary.json, its tables, and Figure 6's rows."""

    name: str
    dataset: Row
    beyond: dict[str, Any]
    tables: dict[str, list[Row]]
    figure6: list[dict[str, str]]

    @classmethod
    def read(cls, out: Path) -> "Output":
        """Reads the output in a directory. Raises ValueError where it is not of exactly one dataset."""
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        [(name, dataset)] = summary["datasets"].items()
        with (out / "figures" / "fig6.csv").open(encoding="utf-8", newline="") as file:
            figure6 = list(csv.DictReader(file))
        return cls(name, dataset, summary["beyond"], summary["tables"], figure6)

    def rows(self, table: str) -> list[Row]:
        """Returns the rows of a table past the paper's; none where the output lacks it."""
        return list(self.beyond.get(table, {}).get("rows", []))


def claims(output: Output) -> list[Claim]:
    """Returns the paper's six claims, each with what this output says to it."""
    return [
        Claim(
            1,
            "The larger model's gains are where the smaller one is uncertain",
            "gain of the larger model in the uncertain tenth (Q4, rank 90-99 % by margin) minus that in the certain "
            "half (Q1); the interval joins the two simultaneous ones, so it is wide rather than narrow",
            _gain_by_uncertainty(output),
            "fig3",
            "no pair of sizes has gains by uncertainty",
        ),
        Claim(
            2,
            "Switchers beat random deferral",
            "Table 3 by margin: gain over deferring as many at random, averaged over all fractions",
            _over_random(output),
            "fig4",
            "there is one size only",
            partial(published_gains, "table3", ("margin",)),
        ),
        Claim(
            2,
            "Switchers sometimes beat the larger model",
            "gain at the peak of the curve over the better model, with the fraction chosen on the other half of the "
            "examples (held-out peak); beside it Table 1, and the same of values dealt out at random",
            _held_out_peaks(output),
            "fig5",
            "there is one size only",
            partial(published_gains, "table1", ("margin",)),
        ),
        Claim(
            3,
            "At equal accuracy, humps grow with disagreement",
            "correlation of disagreement and hump over the pairs of runs that are 0.5 to 1 point apart (Figure 6); "
            f"the interval is of {DRAWS:,} draws of runs, both sizes'",
            _humps_by_disagreement(output.figure6),
            "fig6",
            f"fewer than {LEAST_PAIRS} pairs of runs are 0.5 to 1 point apart",
        ),
        Claim(
            4,
            "Committees order worse than the model's own uncertainty",
            "Table 3 by margin minus Table 3 by the committee's margin",
            _score_differences(output, "margin", "committee_margin"),
            "fig4",
            "there is one size or one seed only",
            partial(published_gains, "table3", ("margin", "cmt_margin")),
        ),
        Claim(
            5,
            "Churn predicts gains better than margin",
            "Table 3 by churn minus Table 3 by margin",
            _score_differences(output, "churn", "margin"),
            "fig4",
            "there is one size or one seed only",
            partial(published_gains, "table3", ("churn", "margin")),
        ),
        Claim(
            6,
            "Churn concentrates on uncertain examples",
            "Table 2: churn of the largest size in Q4 (rank 90-99 % by margin) minus that in the certain half, Q1; the "
            "interval joins the two, so it is wide rather than narrow",
            _churn_by_uncertainty(output.tables["table2"]),
            "fig2",
            "there is one seed only",
            published_churn,
        ),
    ]


def _pair(row: Row) -> str:
    return f"{row['small']} -> {row['large']}"


def _number(value: Any) -> float:
    """Returns a number of summary.json as a float: null is NaN, "inf" infinity."""
    return float("nan") if value is None else float(value)


def _difference(what: str, high_row: Row, low_row: Row, value: str, low: str, high: str) -> Evidence:
    """Returns one row's number minus another's, with the widest interval that both intervals allow."""
    return Evidence(
        what,
        _number(high_row[value]) - _number(low_row[value]),
        _number(high_row[low]) - _number(low_row[high]),
        _number(high_row[high]) - _number(low_row[low]),
    )


def _gain_by_uncertainty(output: Output) -> tuple[Evidence, ...]:
    smallest = output.dataset["sizes"][0]["name"]
    by_pair: dict[str, dict[str, Row]] = {}
    for row in output.rows("subgroups"):
        if row["column"] == UNCERTAINTY and row["small"] == smallest:
            by_pair.setdefault(_pair(row), {})[row["value"].split(" ")[0]] = row  # by Q1 … Q5
    columns = ("gain", "simultaneous_low", "simultaneous_high")
    return tuple(
        _difference(pair, buckets["Q4"], buckets["Q1"], *columns)
        for pair, buckets in by_pair.items()
        if {"Q1", "Q4"} <= buckets.keys()
    )


def _over_random(output: Output) -> tuple[Evidence, ...]:
    found = []
    for pair in output.dataset["pairs"]:
        area = pair["scores"]["margin"]["area"]
        value, low, high = (100 * _number(area[key]) for key in ("value", "ci_low", "ci_high"))
        found.append(Evidence(_pair(pair), value, low, high))
    return tuple(found)


def _held_out_peaks(output: Output) -> tuple[Evidence, ...]:
    by_chance = {_pair(row): row for row in output.rows("chance_peak") if row["score"] == "margin"}
    found = []
    for row in output.rows("held_out_peak"):
        if row["score"] != "margin":
            continue
        chance = by_chance.get(_pair(row))
        beside = ""
        if chance is not None:
            table1, mean, high = (_number(chance[key]) for key in ("table1", "chance_mean", "chance_high"))
            beside = f" (Table 1: {table1:+.2f}; by chance {mean:+.2f}, in 95 % of draws at most {high:+.2f})"
        value, low, high = (_number(row[key]) for key in ("held_out", "held_out_ci_low", "held_out_ci_high"))
        found.append(Evidence(f"{_pair(row)}{beside}", value, low, high))
    return tuple(found)


def _score_differences(output: Output, score: str, other: str) -> tuple[Evidence, ...]:
    """Returns Table 3 by one score minus by another, of each pair of sizes."""
    found = []
    for row in output.rows("score_comparison"):
        if row["table"] != "table3" or {row["score"], row["other"]} != {score, other}:
            continue
        value, low, high = (_number(row[key]) for key in ("difference", "difference_ci_low", "difference_ci_high"))
        if row["score"] != score:
            value, low, high = -value, -high, -low
        found.append(Evidence(_pair(row), value, low, high))
    return tuple(found)


def _churn_by_uncertainty(rows: Sequence[Row]) -> tuple[Evidence, ...]:
    by_size: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_size.setdefault(f"{row['size']} by the uncertainty of {row['uncertainty_size']}", {})[row["bucket"]] = row
    return tuple(
        _difference(size, buckets["Q4"], buckets["Q1"], "churn", "ci_low", "ci_high")
        for size, buckets in by_size.items()
        if {"Q1", "Q4"} <= buckets.keys()
    )


def _humps_by_disagreement(rows: Sequence[dict[str, str]]) -> tuple[Evidence, ...]:
    near = [row for row in rows if row["near"] == "True"]
    if len(near) < LEAST_PAIRS:
        return ()
    disagreement, hump = (np.array([float(row[key]) for row in near]) for key in ("disagreement", "hump"))
    value = weighted_correlation(disagreement, hump, np.ones(len(near)))
    low, high = _drawn_correlations(near, disagreement, hump)
    return (Evidence(f"{len(near)} pairs of runs", value, low, high, unit=""),)


def _drawn_correlations(near: Sequence[dict[str, str]], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the correlation of `x` and `y` [n] over draws of runs with replacement.

    A run is a size and a seed, and takes all its pairs with it. NaN where too few draws have a correlation.
    """
    runs = sorted({(row[end], row[f"{end}_seed"]) for row in near for end in ("small", "large")})
    small, large = (
        np.array([runs.index((row[end], row[f"{end}_seed"])) for row in near]) for end in ("small", "large")
    )
    sizes = np.array([[size == other for other, _ in runs] for size, _ in runs])
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        times = np.zeros(len(runs))
        for own in np.unique(sizes, axis=0):  # as many runs of each size as there are
            members = np.flatnonzero(own)
            times += np.bincount(rng.choice(members, len(members)), minlength=len(runs))
        found.append(weighted_correlation(x, y, times[small] * times[large]))
    usable = np.array(found)[~np.isnan(found)]
    if len(usable) < LEAST_SHARE * DRAWS:
        return float("nan"), float("nan")
    low, high = np.quantile(usable, [0.025, 0.975])
    return float(low), float(high)


def weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Returns Pearson's correlation of `x` and `y` [n] with `weights` [n]; NaN where one of them does not vary."""
    total = weights.sum()
    if total == 0:
        return float("nan")
    x, y = x - (weights * x).sum() / total, y - (weights * y).sum() / total
    spread = (weights * x * x).sum() * (weights * y * y).sum()
    return float((weights * x * y).sum() / np.sqrt(spread)) if spread > 1e-24 else float("nan")
