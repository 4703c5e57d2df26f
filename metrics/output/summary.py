"""Makes summary.json: every number at full precision, with its signature and its inputs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.least_share import LeastShares
from metrics.analysis.pairs import SizePair
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import Grid
from metrics.tables.paper import Rows
from metrics.tables.signature import signature
from metrics.tables.table import Table

SUMMARY_VERSION = 1

# What of `metrics.*` can change a number; the rest says where things are.
NUMBERS = (
    "split",
    "resamples",
    "confidence",
    "seed",
    "length_normalized",
    "committee",
    "committee_churn_includes_self",
    "context",
    "churn_normalization",
    "beyond",
    "epsilon",
    "delta",
    "price",
    "price_unit",
    "costs",
    "cluster",
    "committee_size",
)


def summary(
    analyses: Sequence[Analysis],
    rows: Rows,
    notes: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    config: Metrics,
    further: Sequence[Table],
) -> dict[str, Any]:
    """Returns the content of summary.json. Accuracies and fractions are 0-1, BLEU 0-100; `tables` are in points.

    `further` are the tables past the paper's, in the units that they name; `inputs` hold an entry for each run.
    """
    content = {
        "schema_version": SUMMARY_VERSION,
        "signature": signature(config, {analysis.grid.task for analysis in analyses}),
        "config": {key: value for key, value in asdict(config).items() if key in NUMBERS},
        "inputs": list(inputs),
        "notes": list(notes),
        "datasets": {analysis.grid.dataset: _dataset(analysis) for analysis in analyses},
        "tables": rows,
        "beyond": {table.name: table.as_json() for table in further},
    }
    return {key: _plain(value) for key, value in content.items()}


def dumped(content: Mapping[str, Any]) -> str:
    """Returns the content as JSON, floats in the shortest form that reads back the same."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _dataset(analysis: Analysis) -> dict[str, Any]:
    grid, majority = analysis.grid, analysis.majority
    return {
        "split": grid.split,
        "examples": grid.examples,
        "task": grid.task,
        "measure": grid.measure,
        "context": analysis.context,
        "classes": grid.classes,
        "majority": None if majority is None else {"class": majority.name, "share": majority.share},
        "scores_signatures": grid.signatures,
        "sizes": [
            {
                "name": size.name,
                "parameters": size.parameters,
                "flops_per_example": size.flops_per_example,
                "seeds": size.seeds,
                grid.measure: _estimate(analysis.quality[size.name], grid.unit),
                f"{grid.measure}_by_seed": grid.unit * size.quality,
                "over_majority": None if majority is None else _estimate(majority.over[size.name]),
            }
            for size in grid.sizes
        ],
        "pairs": [_pair(grid, pair) for pair in analysis.pairs],
        "other_context": None
        if analysis.other_context is None
        else {
            "context": analysis.other_context.context,
            "pairs": [_pair(grid, pair) for pair in analysis.other_context.pairs],
        },
        "slices": [
            {
                "column": row.column,
                "value": row.value,
                "examples": row.examples,
                grid.measure: {size: _estimate(estimate, grid.unit) for size, estimate in row.quality.items()},
                "gains": [
                    {"small": small, "large": large, **_estimate(estimate, grid.unit)}
                    for (small, large), estimate in row.gains.items()
                ],
            }
            for row in analysis.slices
        ],
    }


def _pair(grid: Grid, pair: SizePair) -> dict[str, Any]:
    flops = {size.name: size.flops_per_example for size in grid.sizes}
    limits, unit = pair.bounds, grid.unit
    return {
        "small": pair.small,
        "large": pair.large,
        "gap": _estimate(pair.gap, unit),
        "disagreement": _estimate(pair.disagreement),
        "only_large_right": limits.only_large.mean(),
        "only_small_right": limits.only_small.mean(),
        "random_hump": unit * limits.random_hump.mean(),
        "perfect_hump": unit * limits.perfect_hump.mean(),
        "perfect_area": unit * limits.perfect_area.mean(),
        "small_flops_per_large_flop": flops[pair.small] / flops[pair.large] if flops[pair.large] > 0 else math.nan,
        "scores": {
            score: {
                "peak_gain": _estimate(pair.peak_gain[score], unit),
                "area": _estimate(pair.area[score], unit),
                "area_over_margin": _estimate(pair.area_over_margin[score], unit),
                "hump": unit * statistics.hump.mean(),
                "least_share": _least_share(pair.least_share[score]),
                "curve": unit * pair.curve[score],
                "curve_low": unit * pair.band[score][0],
                "curve_high": unit * pair.band[score][1],
            }
            for score, statistics in pair.scores.items()
        },
    }


def _least_share(shares: LeastShares) -> dict[str, Any]:
    return {
        "part_of_gain": {f"{part:g}": _estimate(estimate) for part, estimate in shares.reaching.items()},
        "within_epsilon": shares.within_epsilon,
        "epsilon": shares.epsilon,
        "confidence": shares.confidence,
    }


def _estimate(estimate: Estimate, unit: float = 1.0) -> dict[str, float]:
    return {"value": unit * estimate.value, "ci_low": unit * estimate.low, "ci_high": unit * estimate.high}


def _plain(value: Any) -> Any:
    """Turns numpy's values into Python's; NaN becomes null, and infinity, which JSON has no number for, "inf"."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
