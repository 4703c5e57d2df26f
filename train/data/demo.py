"""Generates the built-in data: short sentences like those of reviews, most of them easy, some decided by structure.

There are three kinds. *easy*: the words decide, and counting them is enough. *composition*: negation, reports and
contrast turn the meaning. The sentiment word and what turns it are drawn independently, so that neither words nor words
at positions tell the label by themselves. *noise*: an easy sentence with the opposite label, which nobody can know. A
model has to be large enough to learn the second kind, and should be unsure of the third.
"""

import random
import zlib
from collections.abc import Callable
from typing import Any

from conf.errors import EdgewiseError
from conf.schema import Dataset

VERSION = 1  # goes up with every change to the rows; it is part of a cell's identity

TRAIN_EXAMPLES = 8_000  # where dataset.train_examples is 0
VALIDATION_EXAMPLES = 500
TEST_EXAMPLES = 2_000  # where dataset.test_examples is 0

# Of every 100 examples: as many of each kind, half of them of each label.
SHARES = {"easy": 58, "composition": 38, "noise": 4}
# Shares of the forms within composition. More of the simple ones, and the harder are learned sooner too.
FORMS = {"negation": 0.32, "scope": 0.20, "contrast": 0.23, "report": 0.25}
NESTED_REPORTS = 0.25  # of the reports: one inside another

# A text belongs to one split by its checksum, so that no split depends on another's size: tenths [from, to).
_TENTHS = {"train": (0, 7), "validation": (7, 8), "test": (8, 10)}

# fmt: off
_POSITIVE = ["good", "great", "fine", "fun", "smart", "warm", "lovely", "funny", "clever", "moving", "sharp",
             "brilliant", "charming", "gripping"]
_NEGATIVE = ["bad", "poor", "awful", "dull", "weak", "cold", "boring", "clumsy", "silly", "shallow", "tedious",
             "lazy", "ugly", "messy"]
# fmt: on
_SUBJECTS = ["film", "movie", "plot", "acting", "story", "script", "cast", "ending", "music", "dialogue"]
_COPULAS = ["was", "felt", "seemed", "looked"]
_INTENSIFIERS = ["very", "quite", "rather", "so"]
_OPENERS = ["in the end", "for me", "as a whole", "all in all"]
_CLOSERS = ["this time", "from start to finish", "on the big screen", "at times"]
_FILLERS = ["we saw it on friday", "it runs for two hours", "the hall was full", "my friends came along"]
# What leaves the meaning as it is, and what turns it.
_SAID = ("everybody would say that", "nobody would say that")
_TRUE = ("it is true that", "it is false that")


def parameters(dataset: Dataset) -> dict[str, int]:
    """Returns the settings that the rows depend on, beside VERSION."""
    return {
        "generator_seed": dataset.generator_seed,
        "train_examples": dataset.train_examples or TRAIN_EXAMPLES,
        "test_examples": dataset.test_examples or TEST_EXAMPLES,
    }


def rows(split: str, dataset: Dataset) -> list[dict[str, str]]:
    """Returns the rows of `train`, `validation` or `test`: text, label (negative or positive), slice_kind, example_id.

    Each split has its own stream: a smaller split is the beginning of a larger one. No text is in two splits, and
    none is twice in validation or test. Raises EdgewiseError for more examples than there are texts.
    """
    sizes = parameters(dataset)
    count = {"train": sizes["train_examples"], "validation": VALIDATION_EXAMPLES, "test": sizes["test_examples"]}[split]
    if count < 1:
        raise EdgewiseError(f"dataset.{split}_examples={count}: expected 1 or more, or 0 for the default")
    draw = _Draw(f"{dataset.generator_seed} {split}")
    first, end = _TENTHS[split]
    seen: set[str] = set()
    table: list[dict[str, str]] = []
    deck: list[tuple[str, bool]] = []
    while len(table) < count:
        if not deck:
            deck = draw.shuffled([(kind, i % 2 == 0) for kind, share in SHARES.items() for i in range(share)])
        kind, positive = deck.pop()
        for _ in range(1000):
            text = _sentence(draw, kind, positive)
            if first <= zlib.crc32(text.encode()) % 10 < end and not (split != "train" and text in seen):
                break
        else:
            raise EdgewiseError(f"dataset.{split}_examples={count}: out of new texts after {len(table)}; ask for fewer")
        seen.add(text)
        label = "positive" if positive else "negative"
        table.append({"text": text, "label": label, "slice_kind": kind, "example_id": f"{split}-{len(table)}"})
    return table


class _Draw:
    """Draws at random from one stream.

    Of Python's generator only `random()` promises the same numbers in later versions.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def one(self, options: list[Any]) -> Any:
        return options[int(self._random() * len(options))]

    def weighted(self, weights: dict[str, float]) -> str:
        point = self._random() * sum(weights.values())
        for name, weight in weights.items():
            point -= weight
            if point < 0:
                return name
        return name

    def shuffled(self, items: list[Any]) -> list[Any]:
        return [item for _, item in sorted(((self._random(), i), item) for i, item in enumerate(items))]


def _sentence(draw: _Draw, kind: str, positive: bool) -> str:
    if kind == "easy":
        return _easy(draw, positive)
    if kind == "noise":
        return _easy(draw, not positive)
    return _COMPOSITION[draw.weighted(FORMS)](draw, positive)


def _word(draw: _Draw, positive: bool) -> str:
    word: str = draw.one(_POSITIVE if positive else _NEGATIVE)
    return word


def _clause(draw: _Draw, positive: bool, modifier: str | None = None) -> str:
    """Builds `the plot felt very dull`; `modifier` takes the place of the intensifier."""
    words = ["the", draw.one(_SUBJECTS), draw.one(_COPULAS)]
    if modifier is not None:
        words.append(modifier)
    elif draw.chance(0.4):
        words.append(draw.one(_INTENSIFIERS))
    return " ".join([*words, _word(draw, positive)])


def _framed(draw: _Draw, sentence: str) -> str:
    """Puts something of no weight before the sentence, after it, or both."""
    before = draw.chance(0.5)
    after = not before or draw.chance(0.3)
    return (f"{draw.one(_OPENERS)} , " if before else "") + sentence + (f" {draw.one(_CLOSERS)}" if after else "")


def _easy(draw: _Draw, positive: bool) -> str:
    """Builds `the cast felt warm and my friends came along`: every sentiment word has the label's polarity."""
    clauses = [_clause(draw, positive)]
    if draw.chance(0.6):
        clauses.append(_clause(draw, positive))
    if len(clauses) == 1 or draw.chance(0.3):
        clauses[0] += f" and {_word(draw, positive)}"
    if draw.chance(0.3):
        return " and ".join(draw.shuffled([*clauses, draw.one(_FILLERS)]))
    sentence = " and ".join(clauses)
    return _framed(draw, sentence) if draw.chance(0.5) else sentence


def _negation(draw: _Draw, positive: bool) -> str:
    """Builds `for me , the plot was never dull`."""
    turned = draw.chance(0.5)
    modifier = draw.one(["not", "never"] if turned else ["truly", "always"])
    return _framed(draw, _clause(draw, positive ^ turned, modifier))


def _report(draw: _Draw, positive: bool) -> str:
    """Builds `nobody would say that it is false that the plot was not dull`: each part turns the meaning or not."""
    openings = [_SAID, _TRUE] if draw.chance(NESTED_REPORTS) else [draw.one([_SAID, _TRUE])]
    turns = [draw.chance(0.5) for _ in [*openings, "the clause"]]
    parts = [opening[turned] for opening, turned in zip(openings, turns, strict=False)]
    return " ".join([*parts, _clause(draw, positive ^ (sum(turns) % 2 == 1), "not" if turns[-1] else "truly")])


def _scope(draw: _Draw, positive: bool) -> str:
    """Builds `the plot was not good and the cast was truly dull`: one word is turned, and it matters which."""
    clauses = [_clause(draw, not positive, "not"), _clause(draw, positive, "truly")]
    return " and ".join(draw.shuffled(clauses))


def _contrast(draw: _Draw, positive: bool) -> str:
    """Builds `the plot was partly good but the cast was mainly dull`: the larger part decides."""
    clauses = [
        _clause(draw, positive, draw.one(["mainly", "mostly"])),
        _clause(draw, not positive, draw.one(["partly", "slightly"])),
    ]
    return " but ".join(draw.shuffled(clauses))


_COMPOSITION: dict[str, Callable[[_Draw, bool], str]] = {
    "negation": _negation,
    "scope": _scope,
    "contrast": _contrast,
    "report": _report,
}
