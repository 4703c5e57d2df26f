"""Holds a dataset's runs side by side: sizes in order of parameters, each with its seeds, over one set of examples.

Only what every statistic needs of every run is kept: predictions, correctness, BLEU's statistics. Class
log-likelihoods and tokens' scores, which are most of a file, are read again where a size's uncertainty is computed.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from conf.machine import cores
from metrics.scores import (
    Columns,
    Scores,
    ScoresMetadata,
    Strings,
    TokenScores,
    indices,
    read_columns,
    read_field,
    read_text,
)
from metrics.statistics.text import corpus_bleu

Source = Scores | Path  # one run's scores, or the file that holds them

# Bytes of a size's class log-likelihoods that stay in memory: of 357,199 examples, ten runs and five classes 68 MiB.
_MOST_KEPT = 128 << 20


@dataclass
class Run:
    """Tells where one run's scores are, and in which order its rows are those of the grid's examples."""

    metadata: ScoresMetadata
    source: Source
    order: np.ndarray | None = None  # [n] int, the row of each of the grid's examples; None if rows are in that order

    def columns(self, known_ids: pa.Array | None = None) -> Columns:
        """Reads and checks all its columns, in the order of the source; `known_ids` as in `read_columns`."""
        if isinstance(self.source, Path):
            return read_columns(self.source, known_ids)
        return Columns.of(self.source, self.metadata.run_name)

    def field(self, name: str) -> np.ndarray | TokenScores:
        """Reads one field of `Scores`, by name, in the grid's order."""
        value: np.ndarray | TokenScores
        value = read_field(self.source, name) if isinstance(self.source, Path) else getattr(self.source, name)
        if self.order is None:
            return value
        return value.take(self.order) if isinstance(value, TokenScores) else value[self.order]

    def text(self) -> pa.Array | None:
        """Reads the input texts in the grid's order: [n] large_string; None where the scores hold none."""
        if isinstance(self.source, Path):
            column = read_text(self.source)
        else:
            column = Columns.of(self.source, self.metadata.run_name).text
        return column if column is None or self.order is None else column.take(indices(self.order))

    def predictions(self) -> Strings:
        """Reads the predicted strings as the run gave them, not normalised, in the grid's order."""
        column = self.columns().prediction
        return column if self.order is None else column.take(self.order)


@dataclass
class SizeRuns:
    """Holds the R runs of one size, by ascending seed, over the grid's n examples.

    classification and span_qa have `correct`, translation has `bleu_stats`; `quality` is what each is judged by.
    """

    name: str
    task: str
    parameters: int
    flops_per_example: float
    seeds: list[int]
    prediction: np.ndarray  # [R, n] int, a number for each prediction; of a class, its place in the grid's `classes`
    correct: np.ndarray | None  # [R, n] bool
    bleu_stats: np.ndarray | None  # [R, n, 10] int32
    label_tokens: list[int] | None  # tokens of each class's label string, EOS included, where the files say
    runs: list[Run] = field(repr=False)
    _log_likelihoods: np.ndarray | None = field(default=None, init=False, repr=False)

    @cached_property
    def quality(self) -> np.ndarray:
        """Computes each run's accuracy, or its corpus BLEU / 100: [R] float64, 0-1."""
        if self.bleu_stats is not None:
            return corpus_bleu(self.bleu_stats.sum(axis=1)) / 100
        assert self.correct is not None
        accuracy: np.ndarray = self.correct.mean(axis=1)
        return accuracy

    @property
    def log_likelihoods(self) -> np.ndarray:
        """Reads the class log-likelihoods of every run: [R, n, K] float32 or float64.

        They are kept up to 128 MiB; larger ones are read from the files at each use.
        """
        kept = self._log_likelihoods
        if kept is None:
            with ThreadPoolExecutor(cores()) as pool:  # decoding, which is most of it, keeps no other thread waiting
                kept = np.stack(list(pool.map(self._read_log_likelihoods, self.runs)))
            if kept.nbytes <= _MOST_KEPT:
                self._log_likelihoods = kept
        return kept

    def log_likelihoods_of(self, run: int) -> np.ndarray:
        """Reads the class log-likelihoods of run number `run`: [n, K] float32 or float64."""
        kept = self._log_likelihoods
        return self._read_log_likelihoods(self.runs[run]) if kept is None else kept[run]

    @staticmethod
    def _read_log_likelihoods(run: Run) -> np.ndarray:
        return cast(np.ndarray, run.field("class_log_likelihoods"))

    def tokens(self, context: str, run: int) -> TokenScores:
        """Reads the token scores of run number `run` in gold or self context, from its file at each use."""
        return cast(TokenScores, self.runs[run].field(f"{context}_tokens"))


@dataclass
class Grid:
    """Holds every run of one dataset on one split; `notes` say what a reader should know about the grid."""

    dataset: str
    split: str
    task: str
    classes: list[str]  # [] but for classification
    examples: int
    sizes: list[SizeRuns]  # by ascending parameters
    example_id: pa.Array  # [n] large_string
    target: Strings  # [n]
    slices: dict[str, Strings]  # slice_* -> [n]
    signatures: list[str]
    clusters: np.ndarray | None = None  # [n] int, which examples are drawn together, 0 … G - 1; None: each by itself
    notes: list[str] = field(default_factory=list)
    cluster: Strings | None = None  # [n], what examples share that are not independent; None where no run says it

    def text(self) -> pa.Array | None:
        """Reads the input texts from the first run that holds them: [n] large_string; None where none does."""
        texts = (run.text() for size in self.sizes for run in size.runs)
        return next((column for column in texts if column is not None), None)

    @property
    def measure(self) -> str:
        """Names what quality is: accuracy, or bleu."""
        return "bleu" if self.task == "translation" else "accuracy"

    @property
    def unit(self) -> float:
        """Returns the factor by which quality, 0-1, is written down: 1 of accuracy, a fraction; 100 of BLEU, 0-100."""
        return 100.0 if self.task == "translation" else 1.0

    @property
    def pairs(self) -> list[tuple[SizeRuns, SizeRuns]]:
        """Lists every (small, large) pair of sizes, the small one having fewer parameters."""
        return [(small, large) for i, small in enumerate(self.sizes) for large in self.sizes[i + 1 :]]
