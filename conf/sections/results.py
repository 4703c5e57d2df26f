"""Types the config of the tables and of the report."""

import math
from dataclasses import dataclass
from typing import Any, Optional

from conf.errors import EdgewiseError
from conf.names import checked_name, checked_seed
from conf.sections.values import AUTO, Seed, Text, at_least, checked_switch, one_of
from conf.text import checked_text

CONTEXTS = ("gold", "self")
SCORES = ("margin", "committee_margin", "entropy", "committee_entropy", "churn", "committee_churn")


def _checked_price(price: Any) -> dict[str, float] | None:
    """Returns `metrics.price` with its numbers as floats; raises EdgewiseError for anything but prices of sizes."""
    if price is None:
        return None
    expected = (
        "expected a mapping of each size to a number of 0 or more, such as 'metrics.price={small: 0.2, large: 3}'"
    )
    if not isinstance(price, dict) or not price:
        raise EdgewiseError(f"metrics.price={price}: {expected}")
    numbers: dict[str, float] = {}
    for size, given in price.items():
        try:
            number = -1.0 if isinstance(given, bool) else float(given)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise EdgewiseError(f"metrics.price={price}: {expected}; {given!r} is none")
        numbers[str(size)] = number
    return numbers


def _checked_costs(costs: Any) -> dict[str, dict[str, float]] | None:
    """Returns `metrics.costs` with floats for numbers; raises EdgewiseError for anything but costs by two classes."""
    if costs is None:
        return None
    expected = (
        "expected a mapping of each class to what it costs to predict each other class for it, such as "
        "'metrics.costs={spam: {ham: 1}, ham: {spam: 10}}'"
    )
    if not isinstance(costs, dict) or not costs or not all(isinstance(row, dict) for row in costs.values()):
        raise EdgewiseError(f"metrics.costs={costs}: {expected}")
    checked: dict[str, dict[str, float]] = {}
    for true, row in costs.items():
        for predicted, given in row.items():
            try:
                cost = math.nan if isinstance(given, bool) else float(given)
            except (TypeError, ValueError):
                cost = math.nan
            if not math.isfinite(cost):
                raise EdgewiseError(f"metrics.costs={costs}: {expected}; {given!r} is no number")
            checked.setdefault(str(true), {})[str(predicted)] = cost
    return checked


@dataclass
class Metrics:
    """Sets how scores become tables. `scores` is a glob of Parquet files; without it, the dataset's scores artifacts.

    `context` of span QA and translation: `gold` scores the tokens of the gold answer (as the paper does; it reads the
    label, so it can't be deployed), `self` those of the model's own output. `churn_normalization` of span QA says
    whether two answers that SQuAD's normalisation makes equal are one prediction. `beyond` adds the tables past the
    paper's; among them, a certified threshold loses at most `epsilon` of accuracy (a fraction) against the larger
    model, with probability 1 - `delta`. `cluster` names the column (`cluster`, or a slice's) whose values are drawn
    together by every interval, as examples that share one are not independent; `auto` takes `cluster` where the scores
    have it, `none` draws each example by itself. `committee_size` says of how many runs churn and committee scores are,
    so that grids of different numbers of seeds compare; all of a size's by default.
    `price` is what one pass of each size over one example costs, in `price_unit` (money, milliseconds): costs are then
    given in it too. `costs` maps each class to what it costs to predict each class for it, true -> predicted -> cost;
    what is right costs nothing unless it says so.
    """

    out: Optional[str] = None
    scores: Optional[str] = None
    split: Text = "test"
    resamples: int = 1000
    confidence: float = 0.95
    seed: Seed = 0
    length_normalized: bool = False
    committee: str = "mean_score"
    committee_churn_includes_self: bool = True
    context: str = "gold"
    churn_normalization: str = "normalized"
    beyond: bool = True
    epsilon: float = 0.01
    delta: float = 0.1
    price: Any = None  # a mapping; Any, so that one given on the command line has any size's name
    price_unit: Text = "units"
    costs: Any = None
    cluster: Text = "auto"
    committee_size: Optional[int] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.price = _checked_price(self.price)
        self.costs = _checked_costs(self.costs)
        self.price_unit = checked_text("metrics.price_unit", self.price_unit)
        self.split = checked_name("metrics.split", checked_text("metrics.split", self.split))
        self.seed = checked_seed("metrics.seed", self.seed)
        self.cluster = checked_text("metrics.cluster", self.cluster)
        at_least("metrics.resamples", self.resamples, 0)
        one_of("metrics.context", self.context, CONTEXTS)
        one_of("metrics.churn_normalization", self.churn_normalization, ("normalized", "raw"))
        one_of("metrics.committee", self.committee, ("mean_score", "mean_probability"))
        if self.committee_size is not None:
            at_least("metrics.committee_size", self.committee_size, 2)
        if not 0 < self.confidence < 1:
            raise EdgewiseError(f"metrics.confidence={self.confidence}: expected a number between 0 and 1")
        if not 0 <= self.epsilon < 1:
            raise EdgewiseError(f"metrics.epsilon={self.epsilon}: expected a fraction in [0, 1), such as 0.01")
        if not 0 < self.delta < 1:
            raise EdgewiseError(f"metrics.delta={self.delta}: expected a probability between 0 and 1")


@dataclass
class Report:
    """Sets what the report shows.

    `text` says whether it holds what examples say, where the scores do: `auto` shows it unless `tracking.backend=wandb`
    would send the page away. Without it, answers that are text are left out too.
    """

    text: Any = AUTO

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.text = checked_switch("report.text", self.text)
