"""A run's scores by column: strings as codes, ids as Arrow, so that hundreds of millions of rows stay small."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from metrics.scores.schema import Scores, ScoresError, ScoresMetadata, TokenScores


@dataclass
class Strings:
    """A column of strings: each different one once, and which of them every row has."""

    values: list[str]  # each different
    codes: np.ndarray  # [n] int32, index into `values`; -1 for no value

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> "Strings":
        """The rows given [m], in that order."""
        return Strings(self.values, self.codes[rows])

    def decoded(self) -> np.ndarray:
        """[n] object (str, or None for no value)."""
        # code -1 picks the last one
        return np.array([*self.values, None], dtype=object)[self.codes]

    def recoded(self, values: Sequence[str]) -> np.ndarray:
        """[n] int32, each row's place in `values`; -1 for what isn't there, or has no value."""
        place = {value: k for k, value in enumerate(values)}
        return np.array([*(place.get(value, -1) for value in self.values), -1], dtype=np.int32)[self.codes]


@dataclass
class Columns:
    """One run's scores on one split of n examples, by column. What a task has no use for is None, as in `Scores`."""

    metadata: ScoresMetadata
    example_id: pa.Array  # [n] large_string
    target: Strings
    prediction: Strings
    correct: np.ndarray | None  # [n] bool
    class_log_likelihoods: np.ndarray | None = None  # [n, K] float32 or float64
    slices: dict[str, Strings] = field(default_factory=dict)
    gold_tokens: TokenScores | None = None
    self_tokens: TokenScores | None = None
    bleu_stats: np.ndarray | None = None  # [n, 10] int32

    def __len__(self) -> int:
        return len(self.example_id)

    @classmethod
    def of(cls, scores: Scores, where: str) -> "Columns":
        """Raises ScoresError, starting with `where`, for strings that aren't, and columns of different lengths."""
        n = len(scores.example_id)
        text = {"target": scores.target, "prediction": scores.prediction}
        for name, column in {**text, **scores.slices}.items():
            if np.shape(column) != (n,):
                raise ScoresError(
                    f"{where}: column {name} has shape {np.shape(column)}, expected ({n},) like example_id"
                )
        return cls(
            metadata=scores.metadata,
            example_id=_arrow(scores.example_id, "example_id", where),
            target=encoded(_arrow(scores.target, "target", where)),
            prediction=encoded(_arrow(scores.prediction, "prediction", where)),
            correct=scores.correct,
            class_log_likelihoods=scores.class_log_likelihoods,
            slices={name: encoded(_arrow(column, name, where)) for name, column in scores.slices.items()},
            gold_tokens=scores.gold_tokens,
            self_tokens=scores.self_tokens,
            bleu_stats=scores.bleu_stats,
        )

    def scores(self) -> Scores:
        """The same, strings as objects."""
        return Scores(
            metadata=self.metadata,
            example_id=np.array(self.example_id.to_pylist(), dtype=object),
            target=self.target.decoded(),
            prediction=self.prediction.decoded(),
            correct=self.correct,
            class_log_likelihoods=self.class_log_likelihoods,
            slices={name: column.decoded() for name, column in self.slices.items()},
            gold_tokens=self.gold_tokens,
            self_tokens=self.self_tokens,
            bleu_stats=self.bleu_stats,
        )


def encoded(column: pa.Array) -> Strings:
    """From Arrow strings; codes are in order of first appearance."""
    dictionary = column.dictionary_encode()
    # nulls have no place in the codes' buffer of their own
    codes = dictionary.indices.fill_null(-1) if column.null_count else dictionary.indices
    return Strings(dictionary.dictionary.to_pylist(), numbers(codes))


def numbers(values: pa.Array) -> np.ndarray:
    """A numeric column without nulls as numpy. Arrow's own `to_numpy` imports pandas on the way, over a second."""
    return np.from_dlpack(values)


def indices(rows: np.ndarray) -> pa.Array:
    """Row numbers for Arrow's `take`, by which route pandas isn't imported either."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows.astype(np.int64))])


def _arrow(column: np.ndarray, name: str, where: str) -> pa.Array:
    try:
        return pa.array(list(column), pa.large_string())
    except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
        for row, value in enumerate(column):
            if not isinstance(value, str) and value is not None:
                raise ScoresError(f"{where}: row {row} has {name} {value!r}, expected a string") from error
        raise ScoresError(f"{where}: column {name} isn't text that UTF-8 can hold: {error}") from error
