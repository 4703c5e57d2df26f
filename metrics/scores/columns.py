"""Holds a run's scores by column: strings as codes, ids as Arrow, so that hundreds of millions of rows stay small."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from metrics.scores.schema import Scores, ScoresError, ScoresMetadata, TokenScores


@dataclass
class Strings:
    """Holds a column of strings: each different string once, and which of them every row has."""

    values: list[str]  # no two alike
    codes: np.ndarray  # [n] int32, index into `values`; -1 for no value

    @classmethod
    def of(cls, strings: Sequence[str | None]) -> "Strings":
        """Returns the column of these strings, [n]; None is no value."""
        places = {string: place for place, string in enumerate(dict.fromkeys(s for s in strings if s is not None))}
        codes = [-1 if string is None else places[string] for string in strings]
        return cls(list(places), np.array(codes, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> "Strings":
        """Returns the rows at `rows` [m], in that order."""
        return Strings(self.values, self.codes[rows])

    def decoded(self) -> np.ndarray:
        """Returns each row's string: [n] object (str, or None for no value)."""
        # code -1 picks the last one
        strings: np.ndarray = np.array([*self.values, None], dtype=object)[self.codes]
        return strings

    def recoded(self, values: Sequence[str]) -> np.ndarray:
        """Returns each row's place in `values`: [n] int32; -1 for a string that isn't there, and for no value."""
        place = {value: k for k, value in enumerate(values)}
        codes: np.ndarray = np.array([*(place.get(value, -1) for value in self.values), -1], dtype=np.int32)[self.codes]
        return codes


@dataclass
class Columns:
    """Holds one run's scores on one split of n examples, by column. Fields that a task doesn't have are None."""

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
    text: pa.Array | None = None  # [n] large_string
    cluster: Strings | None = None

    def __len__(self) -> int:
        return len(self.example_id)

    @classmethod
    def of(cls, scores: Scores, where: str) -> "Columns":
        """Makes columns of scores.

        Raises ScoresError, starting with `where`, for values that should be strings and aren't, and for columns of
        different lengths.
        """
        n = len(scores.example_id)
        text = {"target": scores.target, "prediction": scores.prediction}
        optional = {"text": scores.text, "cluster": scores.cluster}
        given = {name: column for name, column in optional.items() if column is not None}
        for name, column in {**text, **given, **scores.slices}.items():
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
            text=_arrow(scores.text, "text", where) if scores.text is not None else None,
            cluster=encoded(_arrow(scores.cluster, "cluster", where)) if scores.cluster is not None else None,
        )

    def scores(self) -> Scores:
        """Returns the same scores with strings as objects."""
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
            text=np.array(self.text.to_pylist(), dtype=object) if self.text is not None else None,
            cluster=self.cluster.decoded() if self.cluster is not None else None,
        )


def encoded(column: pa.Array) -> Strings:
    """Encodes Arrow strings; codes are in order of first appearance."""
    dictionary = column.dictionary_encode()
    # numpy has no nulls, so that -1 must stand for them in the buffer of codes
    codes = dictionary.indices.fill_null(-1) if column.null_count else dictionary.indices
    return Strings(dictionary.dictionary.to_pylist(), numbers(codes))


def numbers(values: pa.Array) -> np.ndarray:
    """Returns a numeric column without nulls as a numpy array. Arrow's own `to_numpy` would import pandas first."""
    return np.from_dlpack(values)


def indices(rows: np.ndarray) -> pa.Array:
    """Makes row numbers [m] int64 for Arrow's `take`, again without importing pandas."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows.astype(np.int64))])


def _arrow(column: np.ndarray, name: str, where: str) -> pa.Array:
    """Makes an Arrow column of strings [n] object; raises ScoresError for the first value that is none."""
    try:
        return pa.array(list(column), pa.large_string())
    except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
        for row, value in enumerate(column):
            if not isinstance(value, str) and value is not None:
                raise ScoresError(f"{where}: row {row} has {name} {value!r}, expected a string") from error
        raise ScoresError(f"{where}: column {name} isn't text that UTF-8 can hold: {error}") from error
