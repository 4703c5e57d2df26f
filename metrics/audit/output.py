"""Checks the relations on a metrics output directory at full precision: there an identity that fails is an error."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from conf.errors import EdgewiseError, first_line
from metrics.audit.beyond import audit_beyond
from metrics.audit.finding import Finding, checked, same_rows
from metrics.statistics.churn import BUCKETS
from metrics.statistics.switcher import FRACTIONS, INTERIOR

_STEP = 0.01  # of the stored curves


def audit_output(directory: Path) -> list[Finding]:
    """Runs every check on `summary.json`, `tables/*.csv` and `curves/switcher.parquet`.

    Raises EdgewiseError if a file isn't there or isn't laid out as metrics writes it.
    """
    if not (directory / "summary.json").is_file():
        raise EdgewiseError(f"{directory} holds no summary.json; expected a directory that `python -m metrics` wrote")
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        findings = [*_tables_agree(directory, summary)]
        for dataset, result in summary["datasets"].items():
            churn = [row for row in summary["tables"]["table2"] if row["dataset"] == dataset]
            findings += [*_bucket_weights(dataset, churn), *_standard_errors(dataset, result, churn)]
            if result["task"] == "classification":  # with several gold answers, two that differ may both be right
                findings += _churn_and_error(dataset, result, churn)
            if len(result["classes"]) == 2:
                findings += _equal_columns(dataset, summary)
            findings += [finding for pair in result["pairs"] for finding in _pair(dataset, result, pair)]
        findings += _curves(directory, summary)
        findings += _churn_beats_margin(summary)
        findings += audit_beyond(directory, summary)
        return findings
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, StopIteration) as error:
        raise EdgewiseError(
            f"{directory} isn't laid out as this version of metrics writes it "
            f"({type(error).__name__}: {first_line(error)}); make it again with `python -m metrics`"
        ) from error


def _tables_agree(directory: Path, summary: Mapping[str, Any]) -> Iterator[Finding]:
    for name, rows in summary["tables"].items():
        yield same_rows(directory, name, rows)
    cells = {
        (dataset, pair["small"], pair["large"], score): (numbers, _points(result))
        for dataset, result in summary["datasets"].items()
        for pair in result["pairs"]
        for score, numbers in pair["scores"].items()
    }
    for name, statistic in (("table1", "peak_gain"), ("table3", "area")):
        means = {(r["dataset"], r["small"], r["large"], r["score"]): r["mean"] for r in summary["tables"][name]}
        off = [abs(means[key] - points * numbers[statistic]["value"]) / 100 for key, (numbers, points) in cells.items()]
        yield checked(
            "One set of numbers",
            "tables/*.csv and summary.json hold the same rows",
            f"{name} and datasets.*.pairs, {len(cells)} cells",
            max(off, default=0.0),
        )


def _points(result: Mapping[str, Any]) -> float:
    """Returns the factor from a number of quality to points: accuracies are 0-1, BLEU is 0-100."""
    return 1.0 if result["measure"] == "bleu" else 100.0


def _by_uncertainty(churn: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    sizes = dict.fromkeys(row["uncertainty_size"] for row in churn)
    return {size: [row for row in churn if row["uncertainty_size"] == size] for size in sizes}


def _overall(rows: list[dict[str, Any]]) -> float:
    """Returns the churn over all examples, in percent, from the five buckets."""
    return sum((upper - lower) * float(row["churn"]) for (_, lower, upper), row in zip(BUCKETS, rows, strict=True))


def _bucket_weights(dataset: str, churn: list[dict[str, Any]]) -> Iterator[Finding]:
    sums = [_overall(rows) for rows in _by_uncertainty(churn).values()]
    if sums:
        yield checked(
            "Bucket weights",
            ".5 Q1 + .25 Q2 + .15 Q3 + .09 Q4 + .01 Q5 is the churn over all examples, whatever size ranks them",
            f"Table 2 {dataset}, {len(sums)} rows of five, {sums[0]:.6f} %",
            (max(sums) - min(sums)) / 100,
        )


def _standard_errors(dataset: str, result: Mapping[str, Any], churn: list[dict[str, Any]]) -> Iterator[Finding]:
    runs = {size["name"]: len(size["seeds"]) for size in result["sizes"]}
    for size, rows in _by_uncertainty(churn).items():
        worst = 0.0
        for (_, lower, upper), row in zip(BUCKETS, rows, strict=True):
            p = min(row["churn"] / 100, 1.0)
            trials = math.comb(runs[row["size"]], 2) * max(runs[size] - 1, 1)
            se = math.sqrt(p * (1 - p) / ((upper - lower) * result["examples"] * trials))
            # of p near 1 the root magnifies the rounding: below 1e-6 the variances are compared
            worst = max(worst, abs(se**2 - (row["se"] / 100) ** 2) / max(se, row["se"] / 100, 1e-6))
        yield checked(
            "Standard errors of Table 2",
            "√(p(1-p)/(n_b K)), K = pairs × (runs of the uncertainty size - 1)",
            f"Table 2 {dataset} by {size}, {len(rows)} cells",
            worst,
        )


def _churn_and_error(dataset: str, result: Mapping[str, Any], churn: list[dict[str, Any]]) -> Iterator[Finding]:
    for rows in list(_by_uncertainty(churn).values())[:1]:
        size = next(size for size in result["sizes"] if size["name"] == rows[0]["size"])
        yield checked(
            "Churn and error",
            "two runs that differ aren't both right: mean error ≥ churn / 2",
            f"{dataset} {size['name']}",
            _overall(rows) / 200 - (1 - size["accuracy"]["value"]),
        )


def _equal_columns(dataset: str, summary: Mapping[str, Any]) -> Iterator[Finding]:
    for table in ("table1", "table3"):
        rows = [row for row in summary["tables"][table] if row["dataset"] == dataset]
        margin, entropy = (
            [{**row, "score": ""} for row in rows if row["score"] == score] for score in ("margin", "entropy")
        )
        yield checked(
            "Equal columns",
            "two classes: entropy is an increasing function of the margin, so both columns are the same",
            f"Table {table[-1]} {dataset}",
            float(margin != entropy),
        )


def _pair(dataset: str, result: Mapping[str, Any], pair: Mapping[str, Any]) -> Iterator[Finding]:
    small, large = (
        next(size for size in result["sizes"] if size["name"] == pair[which]) for which in ("small", "large")
    )
    cells = f"{dataset} {pair['small']} → {pair['large']}"
    by_seed = f"{result['measure']}_by_seed"
    gaps = np.subtract.outer(np.array(large[by_seed]), np.array(small[by_seed]))

    def check(relation: str, formula: str, excess: float, score: str = "", identity: bool = True) -> Finding:
        return checked(relation, formula, f"{cells} {score}".strip(), excess, identity)

    yield check("Gap", "gap = mean(b) - mean(a)", abs(pair["gap"]["value"] - gaps.mean()))
    if result["measure"] == "accuracy":
        yield from _right_and_wrong(pair, cells, gaps)
    for score, numbers in pair["scores"].items():
        area, peak, hump = numbers["area"]["value"], numbers["peak_gain"]["value"], numbers["hump"]
        yield check(
            "Table 3 and Table 1",
            "Table 3 ≤ hump + mean |b - a| / 2, and Table 1 ≤ hump",
            max(area - hump - float(np.abs(gaps).mean()) / 2, peak - hump),
            score,
        )
        yield check(
            "Concavity",
            "a concave curve has Table 3 ≥ Table 1 / 2",
            max(peak, 0.0) / 2 - area,
            score,
            identity=False,
        )
        for name in ("area", "peak_gain"):
            limits = numbers[name]["ci_low"], numbers[name]["ci_high"]
            if None not in limits:
                yield check("Intervals", "ci_low ≤ ci_high", limits[0] - limits[1], f"{score} {name}")


def _right_and_wrong(pair: Mapping[str, Any], cells: str, gaps: np.ndarray) -> Iterator[Finding]:
    """Checks what holds for accuracies and not for BLEU."""
    gap, apart = pair["gap"]["value"], pair["disagreement"]["value"]
    only_large, only_small = pair["only_large_right"], pair["only_small_right"]

    def check(relation: str, formula: str, excess: float, score: str = "") -> Finding:
        return checked(relation, formula, f"{cells} {score}".strip(), excess)

    yield check("Gap", "gap = w - l'", abs(gap - only_large + only_small))
    yield check("Gap and disagreement", "mean |b - a| ≤ disagreement", float(np.abs(gaps).mean()) - apart)
    yield check("Wins and disagreement", "w + l' ≤ disagreement", only_large + only_small - apart)
    ceiling = (only_large * (1 - only_large) + only_small * (1 - only_small)) / 2
    yield check(
        "Perfect router",
        "its area is mean [w(1-w) + l'(1-l')]/2, its hump mean min(w, l'): at most those of the means (Jensen)",
        max(pair["perfect_area"] - ceiling, pair["perfect_hump"] - min(only_large, only_small)),
    )
    for score, numbers in pair["scores"].items():
        area, hump = numbers["area"]["value"], numbers["hump"]
        yield check(
            "No score beats the perfect router",
            "|Table 3| and hump are at most the perfect router's",
            max(abs(area) - pair["perfect_area"], hump - pair["perfect_hump"]),
            score,
        )


def _curves(directory: Path, summary: Mapping[str, Any]) -> Iterator[Finding]:
    """Checks Table 1 against the stored curves to the last digit, and Table 3 as far as 101 points allow."""
    table = pq.read_table(directory / "curves" / "switcher.parquet")
    names = {name: table.column(name).to_pylist()[:: len(FRACTIONS)] for name in ("dataset", "small", "large", "score")}
    seeds = [table.column(name).to_pylist()[:: len(FRACTIONS)] for name in ("small_seed", "large_seed")]
    values = np.from_dlpack(table.column("value").combine_chunks()).reshape(-1, len(FRACTIONS))
    keys = list(zip(*names.values(), strict=True))
    gains: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {
        name: {(row["dataset"], row["small"], row["large"], row["score"]): row for row in summary["tables"][name]}
        for name in ("table1", "table3")
    }
    rows_of: dict[tuple[str, ...], list[int]] = {key: [] for key in (*gains["table1"], *gains["table3"])}
    for i, key in enumerate(keys):
        rows_of[key].append(i)
    for key, rows in rows_of.items():
        cells = f"{key[0]} {key[1]} → {key[2]} {key[3]}"
        result = summary["datasets"][key[0]]
        quality = {
            size["name"]: dict(zip(size["seeds"], size[f"{result['measure']}_by_seed"], strict=True))
            for size in result["sizes"]
        }
        curve = values[rows]  # [pairs, 101]
        ends = np.array(
            [(quality[key[1]][seeds[0][i]], quality[key[2]][seeds[1][i]]) for i in rows], dtype=np.float64
        ).reshape(-1, 2)
        yield checked("Curve", "S(0) = a, S(1) = b", cells, float(np.abs(curve[:, [0, -1]] - ends).max(initial=0)))
        peaks = _points(result) * (curve[:, INTERIOR].max(axis=1) - ends.max(axis=1))
        row = gains["table1"][key]
        off = max(abs(float(peaks.mean()) - row["mean"]), abs(len(rows) - row["pairs"]))
        if row["se"] is not None:
            off = max(off, abs(float(peaks.std(ddof=1)) / math.sqrt(len(peaks)) - row["se"]))
        yield checked(
            "Table 1 from the curves", "mean and se over pairs of max S(0.01 … 0.99) - max(a, b)", cells, off / 100
        )
        if result["measure"] != "accuracy":
            continue
        slope = float(np.abs(np.diff(curve, axis=1)).max(initial=0))
        yield checked("Slope", "an example changes S by at most 1/n: the slope is -1 … 1", cells, slope - _STEP)
        area = float((np.trapezoid(curve, dx=_STEP, axis=1) - ends.mean(axis=1)).mean())
        yield checked(
            "Table 3 from the curves",
            "∫ (S - chord), which 101 points of slope ≤ 1 give to within 0.25 points",
            cells,
            abs(area - gains["table3"][key]["mean"] / 100) - _STEP / 4,
        )


def _churn_beats_margin(summary: Mapping[str, Any]) -> Iterator[Finding]:
    for table in ("table1", "table3"):
        means = {
            (row["dataset"], row["small"], row["large"], row["score"]): row["mean"] for row in summary["tables"][table]
        }
        for (dataset, small, large, score), churn in means.items():
            if score == "churn":
                excess = (means[dataset, small, large, "margin"] - churn) / 100
                cells = f"Table {table[-1]} {dataset} {small} → {large}"
                yield checked("Churn beats margin", "as the paper says", cells, excess, identity=False)
