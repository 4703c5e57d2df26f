"""Types the config of a switcher: how it is chosen, applied and evaluated."""

from dataclasses import dataclass, field
from typing import Any, Optional

from conf.errors import EdgewiseError
from conf.names import checked_name, checked_seed
from conf.sections.results import CONTEXTS, SCORES
from conf.sections.values import Seed, Text, at_least, checked_list, one_of
from conf.text import IN_CONFIG_LIST, checked_text, checked_texts, optional_text

GOALS = ("budget", "cost", "match", "certified", "best")
DEPLOYABLE_SCORES = ("margin", "entropy")  # of one run alone; the others need every run of the size


@dataclass
class Switcher:
    """Sets how a switcher is chosen from a dataset's scores (`goal` and below), or names one (`ref`).

    Goals: `budget` defers at most the share `budget` of the examples, with probability 1 - `delta`; `cost` costs about
    the share `cost` of the largest model's FLOPs, or of its milliseconds as the evaluation `measured` has them; `match`
    is the cheapest that reaches the largest model; `certified` is the cheapest that loses at most `epsilon` of its
    accuracy (a fraction), with probability 1 - `delta`; `best` has the best quality. `sizes` and `seeds` are the
    candidates' (null: all that have scores); the largest size is the one to defer to. A chain has at most `longest`
    sizes. `parts` are the shares of the scored examples that select, certify and evaluate, drawn by `seed`. `out`:
    where the artifact's files are written too.
    """

    goal: Optional[str] = None
    budget: Optional[float] = None
    cost: Optional[float] = None
    epsilon: float = 0.01
    delta: float = 0.1
    scores: Any = field(default_factory=lambda: list(DEPLOYABLE_SCORES))
    context: str = "self"
    sizes: Any = None
    seeds: Any = None
    longest: int = 4
    split: Text = "test"
    parts: Any = field(default_factory=lambda: [0.3, 0.4, 0.3])
    confidence: float = 0.95
    seed: Seed = 0
    measured: Optional[Text] = None
    out: Optional[Text] = None
    ref: Optional[Text] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        if self.goal is not None:
            one_of("switcher.goal", self.goal, GOALS)
        for key in ("budget", "cost"):
            value = getattr(self, key)
            if self.goal == key and value is None:
                raise EdgewiseError(f"switcher.goal={key} needs switcher.{key}=SHARE, a share such as 0.2")
            if value is not None and not 0 < value <= 1:
                raise EdgewiseError(f"switcher.{key}={value}: expected a share above 0 and at most 1, such as 0.2")
        if not 0 <= self.epsilon < 1:
            raise EdgewiseError(f"switcher.epsilon={self.epsilon}: expected a fraction in [0, 1), such as 0.01")
        for key in ("delta", "confidence"):
            if not 0 < getattr(self, key) < 1:
                raise EdgewiseError(f"switcher.{key}={getattr(self, key)}: expected a probability between 0 and 1")
        one_of("switcher.context", self.context, CONTEXTS)
        self.scores = checked_list("switcher.scores", self.scores, "[margin, entropy]")
        for score in self.scores:
            one_of("switcher.scores", score, SCORES)
        if self.sizes is not None:
            self.sizes = [
                checked_name("switcher.sizes", checked_text("switcher.sizes", size, IN_CONFIG_LIST))
                for size in checked_list("switcher.sizes", self.sizes, "[small, base]")
            ]
        if self.seeds is not None:
            seeds = checked_list("switcher.seeds", self.seeds, "[0, 1]")
            self.seeds = [checked_seed("switcher.seeds", seed) for seed in seeds]
        if not 2 <= self.longest <= 4:
            raise EdgewiseError(f"switcher.longest={self.longest}: expected 2 (pairs alone), 3 or 4 sizes in a chain")
        self.split = checked_name("switcher.split", checked_text("switcher.split", self.split))
        self.parts = checked_list("switcher.parts", self.parts, "[0.3, 0.4, 0.3]")
        numbers = [part for part in self.parts if isinstance(part, (int, float)) and not isinstance(part, bool)]
        if len(numbers) != 3 or len(self.parts) != 3 or min(numbers) <= 0 or abs(sum(numbers) - 1) > 1e-6:
            raise EdgewiseError(
                f"switcher.parts={self.parts}: expected three shares above 0 that add up to 1 (to select, to certify, "
                "to evaluate), such as [0.3, 0.4, 0.3]"
            )
        self.seed = checked_seed("switcher.seed", self.seed)
        for key in ("measured", "out", "ref"):
            setattr(self, key, optional_text(f"switcher.{key}", getattr(self, key)))


@dataclass
class Apply:
    """Sets how a switcher answers the rows of a file: `python -m infer.apply switcher.ref=REF`.

    `input` and `output` end in .csv, .tsv, .jsonl or .parquet, both in the same. `columns` maps names that the file has
    to those of the dataset's template. A row that can't be answered stops the command (`bad_rows: stop`), or is kept
    without an answer (`keep`). So many rows are answered and kept at a time: `chunk_rows`. Where the rows differ from
    what the switcher was chosen on an alarm is printed, which is false with probability `false_alarms` at most; with
    `fail_on_alarm` the command ends with status 3 then, its output written.
    """

    input: Optional[Text] = None
    output: Optional[Text] = None
    columns: Any = None
    bad_rows: str = "stop"
    chunk_rows: int = 8192
    fail_on_alarm: bool = False
    false_alarms: float = 0.01

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        for key in ("input", "output"):
            setattr(self, key, optional_text(f"apply.{key}", getattr(self, key)))
        if not isinstance(self.columns, (dict, type(None))):
            raise EdgewiseError(f"apply.columns={self.columns}: expected a mapping such as {{review: text}}, or null")
        if self.columns is not None:
            self.columns = checked_texts("apply.columns", self.columns)
        one_of("apply.bad_rows", self.bad_rows, ("stop", "keep"))
        at_least("apply.chunk_rows", self.chunk_rows, 1)
        if not 0 < self.false_alarms < 1:
            raise EdgewiseError(
                f"apply.false_alarms={self.false_alarms}: expected a probability between 0 and 1, such as 0.01"
            )


@dataclass
class Evaluate:
    """Sets how a switcher is measured on a labelled split: `python -m infer.evaluate switcher.ref=REF dataset=D`.

    The split is `infer.split` of the data set; at most `examples` of it are used, drawn by `seed` (null: all). The
    switcher and each of its models alone take turns, `rounds` times. `out`: where the artifact's files are written too.
    """

    examples: Optional[int] = 10_000
    rounds: int = 3
    seed: Seed = 0
    out: Optional[Text] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        at_least("evaluate.examples", 1 if self.examples is None else self.examples, 1)
        at_least("evaluate.rounds", self.rounds, 1)
        self.seed = checked_seed("evaluate.seed", self.seed)
        self.out = optional_text("evaluate.out", self.out)
