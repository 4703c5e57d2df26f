"""Compares sizes with what a bag of words reaches, as a note under every table and a table of its own."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from metrics.bootstrap.resampling import Estimate
from metrics.tables.table import Column, Table
from metrics.text_baseline import NAME, TextBaseline

if TYPE_CHECKING:
    from metrics.analysis.dataset import Analysis


def over_baseline(quality: Estimate, baseline: TextBaseline, confidence: float) -> Estimate:
    """Returns how far a size's accuracy, 0-1 with its interval, is above the baseline's, with an interval.

    The half-widths of both accuracies are joined as of independent numbers, √(h² + z²·p(1 − p)/n), the baseline's by
    the normal approximation to the binomial. Both answer the same examples and mostly err on the same ones, so the
    interval is too wide rather than too narrow. None without the size's interval.
    """
    difference, p = quality.value - baseline.accuracy, baseline.accuracy
    if math.isnan(quality.low):
        return Estimate(difference)
    squared = (NormalDist().inv_cdf((1 + confidence) / 2)) ** 2 * p * (1 - p) / baseline.examples
    below = math.hypot(quality.value - quality.low, math.sqrt(squared))
    above = math.hypot(quality.high - quality.value, math.sqrt(squared))
    return Estimate(difference, difference - below, difference + above)


def baseline_note(analysis: "Analysis", baseline: TextBaseline, confidence: float) -> str:
    """Writes the note that stands under every table: what the baseline reaches, and where each size is beside it."""
    sizes = []
    for size, quality in analysis.quality.items():
        over = over_baseline(quality, baseline, confidence)
        if over.value >= 0:
            sizes.append(f"{size} is {100 * over.value:.2f} points above it{_verdict(over)}")
        else:
            sizes.append(f"{size} is {-100 * over.value:.2f} points below it{_verdict(over.negated)}")
    return (
        f"{NAME}, learned from {baseline.learned_from}, is right in {100 * baseline.accuracy:.2f} % of "
        f"{analysis.grid.split}: {', '.join(sizes)}."
    )


def _verdict(over: Estimate) -> str:
    if math.isnan(over.low):
        return ""
    if over.above_zero or over.below_zero:
        return f" [{100 * over.low:.2f}, {100 * over.high:.2f}]"
    return f" [{100 * over.low:.2f}, {100 * over.high:.2f}], within noise"


def baseline_table(
    analyses: Sequence["Analysis"], baselines: Mapping[str, TextBaseline], confidence: float
) -> Table | None:
    """Returns a row for each size of each dataset that has a baseline, in percent and points; None without any.

    `baselines` are by the dataset's name; intervals have the given confidence, 0-1.
    """
    rows = []
    for analysis in analyses:
        baseline = baselines.get(analysis.grid.dataset)
        if baseline is None:
            continue
        for size, quality in analysis.quality.items():
            over = over_baseline(quality, baseline, confidence)
            rows.append(
                {
                    "dataset": analysis.grid.dataset,
                    "size": size,
                    **_percent("accuracy", quality),
                    "baseline": 100 * baseline.accuracy,
                    **_percent("over_baseline", over),
                    "examples": baseline.examples,
                    "learned_rows": baseline.learned_rows,
                    "training_rows": baseline.training_rows,
                }
            )
    if not rows:
        return None
    signatures = sorted({baseline.signature for baseline in baselines.values()})
    return Table(
        name="baseline",
        title=f"Each size beside {NAME}",
        reading=(
            "The baseline counts a text's words and knows nothing of their order; it learns from the training rows in "
            "seconds. A model that is not above it is not worth its cost. The differences' intervals take both "
            "accuracies as independent, so they are wide rather than narrow."
        ),
        columns=(
            Column("dataset", "Dataset"),
            Column("size", "Size"),
            Column("accuracy", "Accuracy", "%", ".2f", interval=True),
            Column("baseline", "Baseline", "%", ".2f"),
            Column("over_baseline", "Above the baseline", "points", ".2f", interval=True),
            Column("examples", "Examples", form=",d"),
            Column("learned_rows", "Rows it learned from", form=",d"),
            Column("training_rows", "Training rows", form=",d"),
        ),
        rows=rows,
        signature="; ".join(signatures),
    )


def _percent(key: str, estimate: Estimate) -> dict[str, float]:
    return {
        key: 100 * estimate.value,
        f"{key}_ci_low": 100 * estimate.low,
        f"{key}_ci_high": 100 * estimate.high,
    }
