"""Prints what a metrics output says first, in sentences that its intervals allow, and where the report is."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from conf.schema import Metrics
from metrics.analysis.least_share import ALL_DEFERRED
from metrics.analysis.majority import majority_class
from metrics.bootstrap import quality_samples
from metrics.bootstrap.resampling import Resampling
from metrics.grid.collect import collect_grids
from metrics.output.replace import MARK

Entry = Mapping[str, Any]  # of summary.json


def print_headline(out: Path, console: Console) -> None:
    """Prints accuracies or BLEU, what is shown of them and of deferral by margin, the notes, and the report's path."""
    summary = json.loads((out / MARK).read_text(encoding="utf-8"))
    for dataset, result in summary["datasets"].items():
        unit, sign = _unit_and_sign(result)
        qualities = [f"{size['name']} {unit * size[result['measure']]['value']:.2f} {sign}" for size in result["sizes"]]
        console.print(f"{dataset}: {', '.join(qualities)}")
        for line in findings(result):
            console.print(f"  {line}")
    for note in summary["notes"]:
        console.print(f"note: {note}")
    console.print(f"{out / 'report' / 'index.html'}")


def findings(result: Entry) -> list[str]:
    """Returns what is shown of a dataset, a line each: weak sizes, each pair of sizes, and what can't be said.

    `result` is the dataset's entry in summary.json; one of an earlier version, without the majority class, will do.
    """
    unit, _ = _unit_and_sign(result)
    over = {size["name"]: size.get("over_majority") for size in result["sizes"]}
    weak = {name: entry for name, entry in over.items() if entry and _is_interval(entry) and not _above(entry, unit)}
    lines = [
        _weak_size(name, entry, result["majority"]["class"], result["majority"]["share"])
        for name, entry in weak.items()
    ]
    lines += [_pair(pair, unit, weak) for pair in result["pairs"]]
    if not result["pairs"]:
        lines.append(
            f"one size only ({result['sizes'][0]['name']}): what it gets right and its churn (Table 2) can be said, "
            "nothing of deferral: there is no larger model to defer to"
        )
    alone = [size["name"] for size in result["sizes"] if len(size["seeds"]) == 1]
    if alone:
        lines.append(
            f"one seed of {', '.join(alone)}: the intervals hold for other examples, not for other seeds, which may "
            "move these numbers further"
        )
    return lines


def one_run_lines(scores: Path, config: Metrics) -> list[str]:
    """Returns what can be said of a dataset of which one run alone has scores, a file of them, and what can't.

    Raises ScoresError as `read_scores` does.
    """
    [grid] = collect_grids([scores], cluster=config.cluster)
    [size] = grid.sizes
    resampling = Resampling({size.name: 1}, grid.examples, config.resamples, config.seed, grid.clusters)
    quality = {size.name: quality_samples(size, resampling)}
    sign = "BLEU" if grid.measure == "bleu" else "%"
    lines = [f"{grid.dataset}: {size.name} {100 * float(size.quality.mean()):.2f} {sign} (seed {size.seeds[0]})"]
    majority = majority_class(grid, quality, resampling, config.confidence)
    if majority is not None and majority.too_weak(size.name):
        over = majority.over[size.name]
        entry = {"value": over.value, "ci_low": over.low, "ci_high": over.high}
        lines.append(f"  {_weak_size(size.name, entry, majority.name, majority.share)}")
    lines.append(
        "  one run only, so there are no tables: deferral takes a second size, and churn, and how much another seed "
        f"would change, a second seed; add one, such as seed={size.seeds[0]},{size.seeds[0] + 1}"
    )
    return lines


def _unit_and_sign(result: Entry) -> tuple[int, str]:
    return (1, "BLEU") if result["measure"] == "bleu" else (100, "%")


def _weak_size(name: str, over: Entry, majority: str, share: float) -> str:
    """Writes that a size is not shown to be better than always answering the majority class."""
    relation = "worse than" if _below(over, 100) else "within noise of"
    return (
        f'{name} is {relation} always answering "{majority}", the majority class with '
        f"{100 * share:.2f} %: {_amount(over, 100)}"
    )


def _pair(pair: Entry, unit: int, weak: Mapping[str, Entry]) -> str:
    """Writes what is shown of a pair of sizes: what deferral by margin gains over random, and a gap that is no gain."""
    small, large, gap = pair["small"], pair["large"], pair["gap"]
    area, amount = pair["scores"]["margin"]["area"], _amount(pair["scores"]["margin"]["area"], unit)
    if small in weak and large in weak:
        return f"{small} -> {large}: models too weak to conclude (deferral by margin over random: {amount})"
    if not _is_interval(area):
        finding = f"deferral by margin over random: {amount}, without an interval, so nothing is shown"
    elif _above(area, unit):
        finding = f"deferral by margin beats random by {amount}"
    elif _below(area, unit):
        finding = f"deferral by margin is worse than random: {amount}"
    else:
        finding = f"deferral by margin can't be told from random: {amount}"
    if _is_interval(gap) and _below(gap, unit):
        finding += f"; {large} is the worse model: {_amount(gap, unit)}"
    elif _is_interval(gap) and not _above(gap, unit):
        finding += f"; {large} isn't shown to be the better model: {_amount(gap, unit)}"
    return f"{small} -> {large}: {finding}{_share_to_defer(pair)}"


def _share_to_defer(pair: Entry) -> str:
    """Writes what share of the examples to defer so as to lose at most ε; "" where the gap or the share isn't shown.

    Summaries of before 0.2.0 have no such shares.
    """
    shares, gap = pair["scores"]["margin"].get("least_share"), pair["gap"]
    if not shares or shares["within_epsilon"] is None or not _is_interval(gap) or not gap["ci_low"] > 0:
        return ""
    loss = (
        f"at most {_shown(shares['epsilon'], 100)} points against {pair['large']} "
        f"({100 * shares['confidence']:g} % confidence)"
    )
    if shares["within_epsilon"] >= ALL_DEFERRED:
        return f"; only deferring all is shown to lose {loss}"
    return f"; deferring {math.ceil(100 * shares['within_epsilon'] - 1e-9)} % loses {loss}"


def _amount(entry: Entry, unit: int) -> str:
    """Writes a number of points with its interval, if it has one: `4.75 points (3.90 to 5.42)`."""
    interval = f" ({_shown(entry['ci_low'], unit)} to {_shown(entry['ci_high'], unit)})" if _is_interval(entry) else ""
    return f"{_shown(entry['value'], unit)} points{interval}"


def _shown(number: float, unit: int) -> str:
    return f"{round(unit * number, 2) + 0.0:.2f}"  # never -0.00


def _is_interval(entry: Entry) -> bool:
    return entry["ci_low"] is not None and entry["ci_high"] is not None


def _above(entry: Entry, unit: int) -> bool:
    """Tells whether the interval is above 0 as it is shown: one from 0.00 isn't."""
    return round(unit * float(entry["ci_low"]), 2) > 0


def _below(entry: Entry, unit: int) -> bool:
    return round(unit * float(entry["ci_high"]), 2) < 0
