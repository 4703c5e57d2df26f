"""Checks what scores must satisfy: types and shapes, numbers in their ranges, columns that agree with one another."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.schema import TASKS
from metrics.scores.columns import Columns, Strings
from metrics.scores.schema import (
    BLEU_STATISTICS,
    SCHEMA_VERSION,
    SLICE_PREFIX,
    TASK_FIELDS,
    Scores,
    ScoresError,
    ScoresMetadata,
    TokenScores,
)

# A log-likelihood is at most 0, a margin in [0, 1] and an entropy at least 0; in float32, a log-softmax summed over a
# label's few tokens, or a difference of two probabilities, may miss that by its rounding.
_NOISE = 1e-4

_FIELDS = ("correct", "class_log_likelihoods", "gold_tokens", "self_tokens", "bleu_stats")


def validate(scores: Scores, where: str) -> None:
    """Raises ScoresError, starting with `where`, unless every column obeys the schema and agrees with the others.

    A class or token may have likelihood 0 (−inf); an example may not have it for every class. NaN, +inf,
    log-likelihoods above 0, margins outside [0, 1], negative entropies, sequences without a token and n-gram counts
    that contradict one another are refused, and so is `correct` of a classification that isn't
    `prediction == target`.
    """
    validate_metadata(scores.metadata, where)
    check(Columns.of(scores, where), where)


def check(columns: Columns, where: str, known_ids: pa.Array | None = None) -> None:
    """Checks scores by column as `validate` does. Ids that equal `known_ids` are known to differ from one another."""
    metadata, n = columns.metadata, len(columns)
    validate_metadata(metadata, where)
    if n == 0:
        raise ScoresError(f"{where}: holds no examples")
    held = TASK_FIELDS[metadata.task]
    for name in _FIELDS:
        if (getattr(columns, name) is not None) != (name in held):
            state = "lack" if name in held else "hold"
            raise ScoresError(
                f"{where}: scores of task {metadata.task} {state} {name}; expected {', '.join(held)} and no other of "
                f"{', '.join(_FIELDS)}"
            )
    _check_text(columns, known_ids, where)
    if columns.correct is not None:
        _check_correct(columns.correct, n, where)
    if columns.class_log_likelihoods is not None:
        _check_classes(columns, where)
        _check_likelihoods(columns.class_log_likelihoods, n, metadata.classes, where)
    for prefix, tokens in (("", columns.gold_tokens), ("self_", columns.self_tokens)):
        if tokens is not None:
            _check_tokens(tokens, n, prefix, where)
    if columns.bleu_stats is not None:
        _check_bleu(columns.bleu_stats, n, where)


def validate_metadata(metadata: ScoresMetadata, where: str) -> None:
    """Raises ScoresError, starting with `where`, for another schema version and for values of the wrong kind."""
    require_version(metadata.schema_version, where)
    for key in ("dataset", "size", "split", "task", "model", "data", "signature"):
        _expect(where, key, getattr(metadata, key), isinstance(getattr(metadata, key), str), "a string")
    for key in ("dataset", "size", "split"):
        _expect(where, key, getattr(metadata, key), getattr(metadata, key) != "", "a name")
    _expect(where, "task", metadata.task, metadata.task in TASKS, f"one of {', '.join(TASKS)}")
    for key in ("seed", "parameters"):
        _expect(where, key, getattr(metadata, key), _is_integer(getattr(metadata, key)), "a whole number")
    _expect(where, "parameters", metadata.parameters, metadata.parameters > 0, "more than 0")
    flops = metadata.flops_per_example
    _expect(where, "flops_per_example", flops, _is_integer(flops) or isinstance(flops, float), "a number")
    _expect(where, "flops_per_example", flops, bool(np.isfinite(flops)) and flops >= 0, "0 or more")
    classes = metadata.classes
    if metadata.task == "classification":
        names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        several = names and len(set(classes)) == len(classes) >= 2
        _expect(where, "classes", classes, several, "two or more different strings")
    else:
        _expect(where, "classes", classes, classes == [], f"[], as {metadata.task} has none")
    _expect(where, "config", metadata.config, isinstance(metadata.config, dict), "an object")


def require_version(version: Any, where: str) -> None:
    """Raises ScoresError unless `version` is the schema version that this code reads."""
    if version != SCHEMA_VERSION:
        raise ScoresError(
            f"{where}: schema_version {version!r}, expected {SCHEMA_VERSION}; "
            "score it again, or read it with the version of Edgewise that wrote it"
        )


def _check_text(columns: Columns, known_ids: pa.Array | None, where: str) -> None:
    ids = columns.example_id
    for name, column in (("target", columns.target), ("prediction", columns.prediction)):
        if len(missing := np.flatnonzero(column.codes < 0)):
            raise ScoresError(f"{where}: row {missing[0]} has {name} None, expected a string")
    if ids.null_count:
        row = int(pc.index(ids.is_null(), True).as_py())
        raise ScoresError(f"{where}: row {row} has example_id None, expected a string")
    for name in columns.slices:
        if not name.startswith(SLICE_PREFIX):
            raise ScoresError(f"{where}: slice column {name!r}: expected a name that starts with {SLICE_PREFIX!r}")
    if known_ids is not None and ids.equals(known_ids):
        return
    if pc.count_distinct(ids).as_py() < len(ids):
        seen: dict[str, int] = {}
        for row, example in enumerate(ids.to_pylist()):
            if seen.setdefault(example, row) != row:
                raise ScoresError(f"{where}: rows {seen[example]} and {row} share the example_id {example!r}")


def _check_correct(correct: np.ndarray, n: int, where: str) -> None:
    if np.shape(correct) != (n,):
        raise ScoresError(f"{where}: column correct has shape {np.shape(correct)}, expected ({n},) like example_id")
    if np.asarray(correct).dtype != np.bool_:
        raise ScoresError(f"{where}: column correct has type {np.asarray(correct).dtype}, expected bool")


def _check_classes(columns: Columns, where: str) -> None:
    classes = columns.metadata.classes

    def quoted(column: Strings, row: int) -> str:
        return repr(column.values[column.codes[row]])

    codes = {}
    for name, column in (("prediction", columns.prediction), ("target", columns.target)):
        codes[name] = column.recoded(classes)
        if len(unknown := np.flatnonzero(codes[name] < 0)):
            row = int(unknown[0])
            raise ScoresError(
                f"{where}: row {row} has {name} {quoted(column, row)}, expected one of the classes {classes}"
            )
    correct = np.asarray(columns.correct)
    contradicting = np.flatnonzero((codes["prediction"] == codes["target"]) != correct)
    if len(contradicting):
        row = int(contradicting[0])
        raise ScoresError(
            f"{where}: row {row} says correct={bool(correct[row])} but predicts {quoted(columns.prediction, row)} "
            f"for the target {quoted(columns.target, row)} ({len(contradicting)} such rows)"
        )


def _check_likelihoods(values: np.ndarray, n: int, classes: list[str], where: str) -> None:
    name = "class_log_likelihoods"
    if values.shape != (n, len(classes)):
        raise ScoresError(f"{where}: {name} has shape {values.shape}, expected ({n}, {len(classes)}): one a class")
    _expect_float(values, name, where)
    for problem, marked, of_row in (
        ("NaN", np.isnan(values), np.any),
        ("a value above 0, which is no log-likelihood", values > _NOISE, np.any),
        ("-inf for every class", np.isneginf(values), np.all),
    ):
        if not marked.any():  # much faster than row by row
            continue
        rows = np.flatnonzero(of_row(marked, axis=1))
        if len(rows):
            row = int(rows[0])
            raise ScoresError(f"{where}: row {row} of {name} holds {problem}: {values[row].tolist()}")


def _check_tokens(tokens: TokenScores, n: int, prefix: str, where: str) -> None:
    offsets = np.asarray(tokens.offsets)
    columns = {
        f"{prefix}token_log_probs": tokens.log_probs,
        f"{prefix}token_margins": tokens.margins,
        f"{prefix}token_entropies": tokens.entropies,
    }
    first = f"{prefix}token_log_probs"
    if offsets.shape != (n + 1,) or offsets.dtype != np.int64:
        raise ScoresError(
            f"{where}: the offsets of {first} are {offsets.dtype} of shape {offsets.shape}, expected int64 ({n + 1},)"
        )
    lengths = np.diff(offsets)
    empty = np.flatnonzero(lengths < 1)
    if len(empty):
        raise ScoresError(
            f"{where}: row {empty[0]} has {lengths[empty[0]]} {first}, expected one a token, EOS included, so 1 or more"
        )
    total = int(offsets[-1])
    for name, values in columns.items():
        if offsets[0] != 0 or np.shape(values) != (total,):
            raise ScoresError(
                f"{where}: {name} has shape {np.shape(values)} for offsets {offsets[0]} to {total}; "
                "expected offsets from 0 to the number of values"
            )
        _expect_float(values, name, where)
    log_probs, margins, entropies = columns.values()
    for name, values, problem, holds in (
        (first, log_probs, "NaN", np.isnan(log_probs)),
        (first, log_probs, "a value above 0, which is no log-probability", log_probs > _NOISE),
        (f"{prefix}token_margins", margins, "NaN", np.isnan(margins)),
        (
            f"{prefix}token_margins",
            margins,
            "a value outside [0, 1], which is no difference p1 - p2",
            (margins < -_NOISE) | (margins > 1 + _NOISE),
        ),
        (f"{prefix}token_entropies", entropies, "a value that isn't finite", ~np.isfinite(entropies)),
        (f"{prefix}token_entropies", entropies, "a negative value, which is no entropy", entropies < -_NOISE),
    ):
        wrong = np.flatnonzero(holds)
        if len(wrong):
            row = int(np.searchsorted(offsets, wrong[0], side="right")) - 1
            row_values = values[offsets[row] : offsets[row + 1]].tolist()
            raise ScoresError(f"{where}: row {row} of {name} holds {problem}: {row_values}")


def _check_bleu(stats: np.ndarray, n: int, where: str) -> None:
    name = "bleu_stats"
    if stats.shape != (n, BLEU_STATISTICS):
        raise ScoresError(
            f"{where}: {name} has shape {stats.shape}, expected ({n}, {BLEU_STATISTICS}): hypothesis length, reference "
            "length, matches of 1- to 4-grams, totals of 1- to 4-grams"
        )
    if stats.dtype != np.int32:
        raise ScoresError(f"{where}: {name} has type {stats.dtype}, expected int32")
    length, matches, totals = stats[:, :1], stats[:, 2:6], stats[:, 6:]
    for problem, holds in (
        ("a negative count", (stats < 0).any(axis=1)),
        (
            "totals that aren't max(hypothesis length - n + 1, 0) for n = 1 to 4",
            (totals != np.maximum(length - np.arange(4), 0)).any(axis=1),
        ),
        ("more n-gram matches than the hypothesis has n-grams", (matches > totals).any(axis=1)),
    ):
        rows = np.flatnonzero(holds)
        if len(rows):
            row = int(rows[0])
            raise ScoresError(f"{where}: row {row} of {name} holds {problem}: {stats[row].tolist()}")


def _expect_float(values: np.ndarray, name: str, where: str) -> None:
    if np.asarray(values).dtype not in (np.float32, np.float64):
        raise ScoresError(f"{where}: {name} has type {np.asarray(values).dtype}, expected float32")


def _expect(where: str, key: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise ScoresError(f"{where}: metadata {key}={value!r}, expected {expected}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
