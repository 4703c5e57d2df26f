"""Defines what a table past the paper's is: what it keeps of a dataset's sizes, its rows, and what it lacks.

To add a table, write a module with an `Observer` and a `BeyondTable`, and add the latter to `BEYOND_TABLES` in
`metrics/beyond/listed.py`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.bootstrap import SwitcherSamples
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import Grid
from metrics.tables.paper import SCORE_TITLES
from metrics.tables.signature import signature
from metrics.tables.table import Column, Row, Table

Context = str | None  # gold or self, of the uncertainty of sequences; None of classes


class Observer:
    """Keeps what a table needs of one dataset, size by size, while each size's scores are at hand."""

    needs_larger_size: ClassVar[bool] = True
    needs_right_or_wrong: ClassVar[bool] = False  # whether it takes examples that are right or wrong: not translation
    deployable_only: ClassVar[bool] = False  # whether gold context, which reads the label, is of no use here
    fewest_examples: ClassVar[int] = 0

    def __init__(self, grid: Grid, config: Metrics):
        self.grid, self.config = grid, config
        self.samples: dict[tuple[Context, str], SwitcherSamples] = {}  # by context and small size

    def applies_in(self, context: Context) -> bool:
        """Returns whether there is something to observe: by the dataset's kind, its examples and the context."""
        judged = self.grid.task != "translation" or not self.needs_right_or_wrong
        of_use = context != "gold" or not self.deployable_only
        return judged and of_use and self.grid.examples >= self.fewest_examples

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size: called for every size in order, in the config's context, then the other."""
        if view.samples is not None:
            self.samples[view.context, view.size.name] = view.samples

    def warnings(self) -> list[str]:
        """Returns what a person should know before the work is done, such as a setting of which nothing can come."""
        return []

    def notes(self) -> list[str]:
        """Returns what the table lacks of this dataset, and why."""
        if self.needs_larger_size and len(self.grid.sizes) == 1:
            return [f"One size only ({self.grid.sizes[0].name}): there is nothing to defer to."]
        if self.needs_right_or_wrong and self.grid.task == "translation":
            return ["Translation is left out: no sentence is right or wrong."]
        return self.gaps()

    def gaps(self) -> list[str]:
        """Returns what the table lacks of a dataset that it can be made of."""
        notes = []
        if self.deployable_only and self.grid.task == "span_qa":
            notes.append("In self context alone: gold context reads the label, so it can't be deployed.")
        if self.grid.examples < self.fewest_examples:
            notes.append(f"{self.grid.examples} examples are too few; it takes {self.fewest_examples}.")
        return notes


AnObserver = TypeVar("AnObserver", bound=Observer)


def no_further_choices(config: Metrics) -> list[str]:
    """Returns nothing: what a table adds to the signature whose numbers rest on no choices of its own."""
    return []


@dataclass(frozen=True)
class BeyondTable(Generic[AnObserver]):
    """Defines one table past the paper's."""

    name: str  # of its files, and in summary.json
    title: str
    reading: str  # how to read it
    columns: tuple[Column, ...]
    observer: type[AnObserver]  # tables with the same one share what it keeps of a dataset
    rows: Callable[[AnObserver, Analysis], list[Row]]  # of a dataset in the analysis's context
    choices: Callable[[Metrics], list[str]] = no_further_choices  # parts that it adds to the signature

    @property
    def keys(self) -> list[str]:
        """Returns the CSV's columns."""
        return self.filled([], [], "").keys

    def filled(self, rows: list[Row], notes: list[str], signature: str) -> Table:
        """Returns the table with its content."""
        return Table(self.name, self.title, self.reading, self.columns, rows, notes, signature)

    def signature(self, config: Metrics, tasks: Collection[str]) -> str:
        """Returns the choices that the table's numbers of those tasks rest on."""
        return "|".join([signature(config, tasks), f"table:{self.name}", *self.choices(config)])


QUALITY = "% or BLEU"  # the unit of accuracy, and of what stands for it in translation

PAIR = (Column("dataset", "Dataset"), Column("context", "Context"), Column("small", "Small"), Column("large", "Large"))
SCORE = (Column("score_title", "Score"), Column("score", "score", shown=False))


def pair_entries(analysis: Analysis, small: str, large: str) -> Row:
    """Returns the entries of a row for the columns `PAIR`."""
    return {**dataset_entries(analysis), "small": small, "large": large}


def dataset_entries(analysis: Analysis) -> Row:
    """Returns a row's dataset and, of sequences, the context that their uncertainty was scored in."""
    return {"dataset": analysis.grid.dataset, "context": analysis.context or ""}


def score_entries(score: str) -> Row:
    """Returns the entries of a row for the columns `SCORE`."""
    return {"score_title": SCORE_TITLES.get(score, score), "score": score}


def interval_entries(key: str, value: Estimate, scale: float = 1.0) -> Row:
    """Returns the three entries of a row for a column with an interval, times `scale`."""
    return {
        key: scale * value.value,
        f"{key}_ci_low": scale * value.low,
        f"{key}_ci_high": scale * value.high,
    }
