"""Turns the columns of a scores file from Arrow into arrays, checking their types and shapes on the way.

Strings may be large or dictionary-encoded, lists large or of fixed size, numbers float32 or float64. Every function
raises ScoresError, starting with `where`, for a column of another type, with nulls, or with lists of another length.
"""

import numpy as np
import pyarrow as pa

from metrics.scores.columns import numbers
from metrics.scores.layout import STRINGS, TOKEN_PARTS
from metrics.scores.schema import BLEU_STATISTICS, ScoresError, TokenScores


def strings_of(column: pa.ChunkedArray, name: str, where: str) -> pa.Array:
    """Returns a column of strings, checked to be UTF-8: [n] large_string."""
    check_string_type(column.type, name, where)
    try:
        strings = pa.concat_arrays(column.cast(pa.large_string()).chunks)
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ScoresError(f"{where}: column {name} isn't UTF-8: {error}") from error
    return strings


def check_string_type(column_type: pa.DataType, name: str, where: str) -> None:
    """Raises ScoresError unless a column of this type holds strings, or, where it may, nothing but nulls.

    Arrow has a type of its own for a column of which it has only seen nulls.
    """
    if pa.types.is_null(column_type) and name not in STRINGS:
        return
    kind = column_type.value_type if pa.types.is_dictionary(column_type) else column_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ScoresError(f"{where}: column {name} has type {column_type}, expected string")


def correct_of(column: pa.ChunkedArray, task: str, where: str) -> np.ndarray | None:
    """Returns which examples are right: [n] bool; None for translation, whose column is all null."""
    if not (pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise ScoresError(f"{where}: column correct has type {column.type}, expected bool")
    if task == "translation":
        if column.null_count < len(column):
            raise ScoresError(
                f"{where}: column correct holds {len(column) - column.null_count} values; expected nulls, as a "
                "translation is neither right nor wrong"
            )
        return None
    if column.null_count:
        raise ScoresError(f"{where}: column correct holds {column.null_count} nulls; {task} has none")
    return numbers(pa.concat_arrays(column.chunks).cast(pa.uint8())).astype(np.bool_)


def likelihoods_of(column: pa.ChunkedArray, classes: int, where: str) -> np.ndarray:
    """Returns the log-likelihoods of K classes: [n, K] float32 or float64."""
    values, lengths = _flat(column, "class_log_likelihoods", (pa.float32(), pa.float64()), where)
    return _of_equal_length(values, lengths, classes, "class_log_likelihoods", "one for each of the classes", where)


def bleu_stats_of(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """Returns the sufficient statistics of BLEU: [n, 10] int32."""
    values, lengths = _flat(column, "bleu_stats", (pa.int32(), pa.int64()), where)
    what = "two lengths, four counts of matches and four totals"
    stats = _of_equal_length(values, lengths, BLEU_STATISTICS, "bleu_stats", what, where)
    most = np.iinfo(np.int32).max
    rows = np.flatnonzero((stats > most).any(axis=1))
    if len(rows):  # would wrap into a count that may look right
        raise ScoresError(f"{where}: row {rows[0]} of bleu_stats holds a count above {most}: {stats[rows[0]].tolist()}")
    return stats.astype(np.int32)


def tokens_of(table: pa.Table, prefix: str, where: str) -> TokenScores:
    """Returns the token scores of one context, whose columns start with `prefix`."""
    parts, lengths = {}, {}
    for part, name in TOKEN_PARTS.items():
        kinds = (pa.float32(), pa.float64())
        parts[part], lengths[prefix + name] = _flat(table.column(prefix + name), prefix + name, kinds, where)
    (first, expected), *others = lengths.items()
    for name, other in others:
        wrong = np.flatnonzero(other != expected)
        if len(wrong):
            row = wrong[0]
            raise ScoresError(
                f"{where}: row {row} has {expected[row]} {first} but {other[row]} {name}; expected one of each a token"
            )
    return TokenScores(**parts, offsets=np.concatenate([[0], np.cumsum(expected)]).astype(np.int64))


def _flat(
    column: pa.ChunkedArray, name: str, kinds: tuple[pa.DataType, ...], where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values of all lists one after the other, [T], and each list's length, [n] int.

    `kinds` are the types that values may have, the expected one first.
    """
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or kind.value_type not in kinds:
        raise ScoresError(f"{where}: column {name} has type {kind}, expected list<{kinds[0]}>")
    rows = pa.concat_arrays(column.chunks)
    if rows.null_count:
        raise ScoresError(f"{where}: column {name} holds {rows.null_count} nulls")
    values = rows.flatten()
    if values.null_count:
        raise ScoresError(f"{where}: column {name} holds lists with {values.null_count} nulls")
    return numbers(values), numbers(rows.value_lengths())


def _of_equal_length(
    values: np.ndarray, lengths: np.ndarray, width: int, name: str, what: str, where: str
) -> np.ndarray:
    """Puts the values of lists that all have the length `width` into rows: [n, width]. `what` names those values."""
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise ScoresError(f"{where}: row {wrong[0]} has {lengths[wrong[0]]} {name}, expected {width}: {what}")
    return values.reshape(len(lengths), width)
