"""Names what a dataset's models are measured by: accuracy or exact match in percent, or corpus BLEU."""

from dataclasses import dataclass

from metrics.grid.runs import Grid


@dataclass(frozen=True)
class Quality:
    """Holds the name and the units of a measure of quality. Numbers are fractions, 0-1, and are shown × 100."""

    name: str  # as in "accuracy of every size"
    unit: str  # after a number: " %" or " BLEU"
    points: str  # the unit of a difference: "points" or "BLEU"
    graded: bool  # a sentence is more or less good: no example is simply right or wrong
    of_an_example: str  # what is meant where one example is judged

    @property
    def axis(self) -> str:
        """Returns the measure with its unit, for an axis or a column's head: `accuracy, %` or `BLEU`."""
        return f"{self.name}, %" if self.unit == " %" else self.name

    def value(self, fraction: float, digits: int = 1) -> str:
        """Writes a quality, 0-1, with its unit: `80.6 %` or `27.3 BLEU`."""
        return f"{100 * fraction:.{digits}f}{self.unit}".replace(" ", "\N{NO-BREAK SPACE}")


_MOST_RUNS = "A model is right here where more than half of its runs are"
ACCURACY = Quality("accuracy", " %", "points", False, f"{_MOST_RUNS}.")
EXACT_MATCH = Quality(
    "exact match",
    " %",
    "points",
    False,
    f"{_MOST_RUNS}: after normalisation, their answers are one of the gold answers.",
)
BLEU = Quality(
    "BLEU",
    " BLEU",
    "BLEU",
    True,
    "A model's BLEU of a sentence is the mean over its runs, smoothed. Alike: to a hundredth of BLEU.",
)

_BY_TASK = {"classification": ACCURACY, "span_qa": EXACT_MATCH, "translation": BLEU}


def quality_of(grid: Grid) -> Quality:
    """Returns the measure of a grid's task."""
    return _BY_TASK[grid.task]
