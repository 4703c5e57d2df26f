"""Compares sizes where classes are unbalanced: balanced accuracy, macro-F1, and the cost of errors.

It is made of datasets with classes where the largest class has half as many examples again as it would have if all
classes were alike, and of all where `metrics.costs` says what an error costs.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.intervals import InfluentialExamples, example_choice, t_estimate
from metrics.beyond.table import BeyondTable, Observer, dataset_entries, interval_entries
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.class_quality import (
    balanced_accuracy,
    macro_f1,
    mean_cost,
    variance_of_difference,
)
from metrics.statistics.components import Variance, variance_of_runs
from metrics.tables.table import Column, Row

UNBALANCED = 1.5  # times the examples that the largest class would have if all classes had as many

Measured = tuple[np.ndarray, np.ndarray]  # values [R], influences [R, m]
Measure = Callable[[np.ndarray, np.ndarray], Measured]  # of predictions [R, n] and targets [n]


class ClassQuality(Observer):
    """Measures each size's runs by class; it keeps nothing of their scores, as predictions are in the grid."""

    needs_larger_size = False

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.costs = costs_of(config, grid) if grid.classes else None  # [K, K]

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        if not self.grid.classes:
            return ["There are no classes."]
        if self.is_wanted:
            return []
        largest, alike = largest_share(self.grid), 1 / len(self.grid.classes)
        return [
            f"The largest class has {100 * largest:.1f} % of the examples, less than {UNBALANCED:g} times the "
            f"{100 * alike:.1f} % of classes that are all alike, and no metrics.costs are given."
        ]

    @property
    def is_wanted(self) -> bool:
        """Tells whether the dataset's classes are unbalanced, or errors have costs."""
        if not self.grid.classes:
            return False
        return self.costs is not None or largest_share(self.grid) * len(self.grid.classes) >= UNBALANCED

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each size, a mean over its runs, and one for each pair, the larger size minus the smaller.

        Intervals are t intervals from variance components, as accuracy has them.
        """
        if not self.is_wanted:
            return []
        grid, examples = self.grid, np.arange(self.grid.examples)
        choice = example_choice(grid, self.config)
        chosen = choice.among(examples) if choice is not None else None
        measured = {name: self._measured(measure, chosen) for name, measure in self._measures().items()}
        rows = [
            self._row(
                analysis, size.name, {name: self._of_size(sizes[size.name], chosen) for name, sizes in measured.items()}
            )
            for size in grid.sizes
        ]
        for small, large in grid.pairs:
            differences = {
                name: self._difference(sizes[small.name], sizes[large.name], chosen) for name, sizes in measured.items()
            }
            rows.append(self._row(analysis, f"{large.name} − {small.name}", differences))
        return rows

    def _measures(self) -> dict[str, Measure]:
        classes, costs = len(self.grid.classes), self.costs
        measures: dict[str, Measure] = {
            "accuracy": lambda prediction, target: mean_cost(prediction, target, np.eye(classes)),
            "balanced_accuracy": lambda prediction, target: balanced_accuracy(prediction, target, classes),
            "macro_f1": lambda prediction, target: macro_f1(prediction, target, classes),
        }
        if costs is not None:
            measures["cost"] = lambda prediction, target: mean_cost(prediction, target, costs)
        return measures

    def _measured(self, measure: Measure, chosen: InfluentialExamples | None) -> dict[str, Measured]:
        """Returns a measure of each size's runs, and the influence of the chosen examples; size by name."""
        target = self.grid.target.recoded(self.grid.classes)

        def of(size: SizeRuns) -> Measured:
            values, influence = measure(size.prediction, target)
            return values, influence[:, chosen.rows] if chosen is not None else influence[:, :0]

        return {size.name: of(size) for size in self.grid.sizes}

    def _of_size(self, measured: Measured, chosen: InfluentialExamples | None) -> Estimate:
        values, influence = measured
        if chosen is None:
            return Estimate(float(values.mean()))
        return self._estimate(
            float(values.mean()), variance_of_runs(values, influence, self.grid.examples, chosen.clusters)
        )

    def _difference(self, small: Measured, large: Measured, chosen: InfluentialExamples | None) -> Estimate:
        value = float(large[0].mean() - small[0].mean())
        if chosen is None:
            return Estimate(value)
        return self._estimate(value, variance_of_difference(small, large, self.grid.examples, chosen.clusters))

    def _estimate(self, value: float, variance: Variance) -> Estimate:
        return t_estimate(value, variance, self.config.confidence)

    def _row(self, analysis: Analysis, model: str, estimates: Mapping[str, Estimate]) -> Row:
        row: Row = {**dataset_entries(analysis), "model": model}
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            row |= interval_entries(name, estimates[name], 100)
        return row | interval_entries("cost", estimates.get("cost", Estimate(math.nan)))


CLASS_QUALITY = BeyondTable(
    name="class_quality",
    title="Balanced accuracy, macro-F1 and the cost of errors, where classes are unbalanced",
    reading=(
        "Balanced accuracy is the mean over classes of the share of their examples that are right, macro-F1 that of "
        "the classes' F1; both count a rare class as much as a frequent one. The cost is an example's mean by "
        "metrics.costs. Means over runs; a row with a minus is the difference of two sizes over the same examples. It "
        f"is made where the largest class has {UNBALANCED:g} times the examples that it would have if all classes were "
        "alike, or more, and where errors have costs."
    ),
    columns=(
        Column("dataset", "Dataset"),
        Column("context", "Context"),
        Column("model", "Model"),
        Column("accuracy", "Accuracy", "%", ".2f", interval=True),
        Column("balanced_accuracy", "Balanced accuracy", "%", ".2f", interval=True),
        Column("macro_f1", "Macro-F1", "%", ".2f", interval=True),
        Column("cost", "Cost of an example", "", ".4g", interval=True, optional=True),
    ),
    observer=ClassQuality,
    rows=ClassQuality.rows,
)


def largest_share(grid: Grid) -> float:
    """Returns the share of the examples that the most frequent class has."""
    return float(np.bincount(grid.target.codes).max()) / grid.examples


def costs_of(config: Metrics, grid: Grid) -> np.ndarray | None:
    """Returns what it costs to predict a class for another, [K, K] by true and predicted class; None without costs.

    What is right costs nothing unless `metrics.costs` says otherwise. Raises EdgewiseError, naming it, for a class that
    the dataset doesn't have, and for an error without a cost.
    """
    if config.costs is None:
        return None
    classes = grid.classes
    given: dict[str, dict[str, float]] = config.costs
    unknown = [name for name in [*given, *(name for row in given.values() for name in row)] if name not in classes]
    if unknown:
        raise EdgewiseError(f"metrics.costs: {grid.dataset} has no class {unknown[0]!r}; it has {_listed(classes)}")
    costs = np.zeros((len(classes), len(classes)))
    for i, true in enumerate(classes):
        for j, predicted in enumerate(classes):
            cost = given.get(true, {}).get(predicted, 0.0 if i == j else None)
            if cost is None:
                raise EdgewiseError(
                    f"metrics.costs says no cost of predicting {predicted!r} where {true!r} is right; expected one for "
                    f"each pair of the classes of {grid.dataset}: true -> predicted -> cost"
                )
            costs[i, j] = cost
    return costs


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
