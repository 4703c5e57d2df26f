"""Defines one run's scores: the metadata, and for each example what the statistics of its task need."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conf.errors import EdgewiseError

SCHEMA_VERSION = 1
SLICE_PREFIX = "slice_"
BLEU_STATISTICS = 10  # hypothesis length, reference length, matches of 1- to 4-grams, totals of 1- to 4-grams

# The fields that each task's scores have beside id, target and prediction. The others are None.
TASK_FIELDS = {
    "classification": ("correct", "class_log_likelihoods"),
    "span_qa": ("correct", "gold_tokens", "self_tokens"),
    "translation": ("gold_tokens", "self_tokens", "bleu_stats"),
}


class ScoresError(EdgewiseError):
    """Says how scores break the schema; the message names the file and the first such row."""


@dataclass
class ScoresMetadata:
    """Says which run a scores file is of, and how its scores were computed."""

    dataset: str
    size: str
    seed: int
    split: str
    task: str  # classification | span_qa | translation
    classes: list[str]  # target strings, in the order of class_log_likelihoods; [] but for classification
    parameters: int
    flops_per_example: float
    model: str  # digest of the model artifact
    data: str  # fingerprint of the rows
    signature: str
    config: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def run_name(self) -> str:
        """Names the run for messages: dataset, size and seed."""
        return f"{self.dataset} {self.size} seed {self.seed}"


@dataclass
class TokenScores:
    """Holds values of each token of n sequences with T tokens in all, EOS included.

    Sequence i has the tokens from offsets[i] up to offsets[i + 1]. Values are float32, or float64 if a file by another
    program holds that.
    """

    log_probs: np.ndarray  # [T] natural log of the token's probability, over the whole vocabulary
    margins: np.ndarray  # [T] p₁ - p₂, the two likeliest tokens of the vocabulary
    entropies: np.ndarray  # [T] nats
    offsets: np.ndarray  # [n + 1] int64, from 0 to T

    @property
    def lengths(self) -> np.ndarray:
        """Counts the tokens of each sequence: [n] int64."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "TokenScores":
        """Returns the sequences at `rows` [m], in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return TokenScores(self.log_probs[tokens], self.margins[tokens], self.entropies[tokens], offsets)


@dataclass
class Scores:
    """Holds one run's scores on one split of n examples. Fields that a task doesn't have are None.

    classification has `class_log_likelihoods` over its K classes. span_qa has `gold_tokens` (teacher forcing: the
    context of a token is the gold answer) and `self_tokens` (the context is the model's own output); an example may
    have several gold answers, so `correct` need not be `prediction == target`. translation has both kinds of tokens, no
    `correct`, and `bleu_stats`, each sentence's sufficient statistics of corpus BLEU.

    `text` and `cluster` are optional in every task. An example whose `cluster` is None shares nothing with any other.
    """

    metadata: ScoresMetadata
    example_id: np.ndarray  # [n] object (str), unique
    target: np.ndarray  # [n] object (str)
    prediction: np.ndarray  # [n] object (str)
    correct: np.ndarray | None  # [n] bool
    class_log_likelihoods: np.ndarray | None = None  # [n, K] float32; float64 where another program wrote that
    slices: dict[str, np.ndarray] = field(default_factory=dict)  # slice_* -> [n] object (str, or None for no value)
    gold_tokens: TokenScores | None = None
    self_tokens: TokenScores | None = None
    bleu_stats: np.ndarray | None = None  # [n, 10] int32
    text: np.ndarray | None = None  # [n] object (str, or None for no text): the input as given, before the template
    cluster: np.ndarray | None = None  # [n] object (str, or None): what examples share that are not independent

    def take(self, rows: np.ndarray) -> "Scores":
        """Returns the examples at `rows` [m], in that order."""

        def taken(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        return Scores(
            metadata=self.metadata,
            example_id=self.example_id[rows],
            target=self.target[rows],
            prediction=self.prediction[rows],
            correct=taken(self.correct),
            class_log_likelihoods=taken(self.class_log_likelihoods),
            slices={name: column[rows] for name, column in self.slices.items()},
            gold_tokens=self.gold_tokens and self.gold_tokens.take(rows),
            self_tokens=self.self_tokens and self.self_tokens.take(rows),
            bleu_stats=taken(self.bleu_stats),
            text=taken(self.text),
            cluster=taken(self.cluster),
        )
