"""Scores to Parquet and back: one row an example, the run's metadata as JSON in the file's, under `edgewise`.

A file holds its own task's columns alone. Files by other programs are welcome: strings may be large or
dictionary-encoded, lists large or of fixed size, numbers float32 or float64, and columns of other tasks may be there,
filled with nulls.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import first_line
from metrics.scores.check import TASK_FIELDS, check, require_version, validate, validate_metadata
from metrics.scores.columns import Columns, encoded, numbers
from metrics.scores.schema import BLEU_STATISTICS, SLICE_PREFIX, Scores, ScoresError, ScoresMetadata, TokenScores
from tracking.files import written_whole

METADATA_KEY = b"edgewise"
_FORMER_KEY = b"switchyard"  # what the product was called before 0.2.0

_STRINGS = ("example_id", "target", "prediction")
_TOKEN_PARTS = {"log_probs": "token_log_probs", "margins": "token_margins", "entropies": "token_entropies"}
# field of Scores -> its columns
_FIELD_COLUMNS = {
    "correct": ("correct",),
    "class_log_likelihoods": ("class_log_likelihoods",),
    "gold_tokens": tuple(_TOKEN_PARTS.values()),
    "self_tokens": tuple(f"self_{name}" for name in _TOKEN_PARTS.values()),
    "bleu_stats": ("bleu_stats",),
}
_TASK_COLUMNS = {
    task: ("correct", *(c for name in held if name != "correct" for c in _FIELD_COLUMNS[name]))
    for task, held in TASK_FIELDS.items()
}


def write_scores(scores: Scores, path: Path | str) -> None:
    """Writes one run's scores, whole or not at all; the same scores give the same bytes.

    Log-likelihoods and tokens' values are written as float32. Raises ScoresError, before anything is written, for
    scores that `read_scores` would refuse.
    """
    path = Path(path)
    checked = _as_float32(scores, str(path))
    validate(checked, str(path))
    n = len(scores.example_id)
    columns: dict[str, pa.Array] = {name: pa.array(list(getattr(scores, name)), pa.string()) for name in _STRINGS}
    columns["correct"] = (
        pa.nulls(n, pa.bool_()) if scores.correct is None else pa.array(np.asarray(scores.correct), pa.bool_())
    )
    likelihoods = checked.class_log_likelihoods
    if likelihoods is not None:
        columns["class_log_likelihoods"] = _lists(likelihoods.ravel(), np.arange(n + 1) * likelihoods.shape[1])
    for prefix, tokens in (("", checked.gold_tokens), ("self_", checked.self_tokens)):
        if tokens is not None:
            for part, name in _TOKEN_PARTS.items():
                columns[prefix + name] = _lists(getattr(tokens, part), tokens.offsets)
    if checked.bleu_stats is not None:
        columns["bleu_stats"] = _lists(checked.bleu_stats.ravel(), np.arange(n + 1) * BLEU_STATISTICS)
    for name in sorted(scores.slices):
        columns[name] = pa.array(list(scores.slices[name]), pa.string())
    try:
        metadata = json.dumps(asdict(scores.metadata), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ScoresError(f"{path}: the metadata can't be written as JSON: {error}") from error
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: metadata.encode()})
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_scores(path: Path | str) -> Scores:
    """Reads and checks one scores file.

    Raises ScoresError, naming the file and what was expected, for a file that isn't there, isn't Parquet or is
    cut short; for missing or mistyped columns and metadata, another schema version or an unknown task; for values in
    another task's columns; and for everything that `validate` refuses.
    """
    return read_columns(path).scores()


def read_columns(path: Path | str, known_ids: pa.Array | None = None) -> Columns:
    """`read_scores` by column. `known_ids` are those of another file, checked already, that this one may share."""
    where = str(path)
    with _opened(path) as file:
        metadata = _metadata(file.schema_arrow, where)
        names, foreign = _columns(file.schema_arrow, metadata.task, where)
        table = file.read(columns=names)
        _require_nulls(file, foreign, metadata.task, where)
    if table.num_rows == 0:
        raise ScoresError(f"{path}: holds no examples")
    strings = {name: _strings(table.column(name), name, where) for name in names if _is_text(name)}
    ids = strings.pop("example_id")
    columns = Columns(
        metadata=metadata,
        example_id=ids,
        target=encoded(strings.pop("target")),
        prediction=encoded(strings.pop("prediction")),
        slices={name: encoded(column) for name, column in strings.items()},
        **_fields(table, TASK_FIELDS[metadata.task], metadata, where),
    )
    check(columns, where, known_ids)
    return columns


def read_field(path: Path | str, name: str) -> np.ndarray | TokenScores:
    """One field of `Scores`, by name, of a file that `read_columns` found in order; nothing else is read."""
    where = str(path)
    with _opened(path) as file:
        metadata = _metadata(file.schema_arrow, where)
        table = file.read(columns=list(_FIELD_COLUMNS[name]))
    return _fields(table, (name,), metadata, where)[name]


@contextmanager
def _opened(path: Path | str) -> Iterator[pq.ParquetFile]:
    if not Path(path).is_file():
        raise ScoresError(f"{path}: no such file; expected a scores file (Parquet)")
    try:
        # ParquetFile, not read_table: that one turns `seed=0/` in a path into a column.
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise ScoresError(f"{path}: not a Parquet file, or cut short ({first_line(error)}); score it again") from error


def _fields(table: pa.Table, held: tuple[str, ...], metadata: ScoresMetadata, where: str) -> dict[str, Any]:
    """Those fields of `Scores` that are `held`; `correct`, which every file has, is None where all null."""
    found: dict[str, Any] = {}
    if "correct" in table.column_names:
        found["correct"] = _correct(table.column("correct"), metadata.task, where)
    if "class_log_likelihoods" in held:
        found["class_log_likelihoods"] = _likelihoods(
            table.column("class_log_likelihoods"), len(metadata.classes), where
        )
    for name, prefix in (("gold_tokens", ""), ("self_tokens", "self_")):
        if name in held:
            found[name] = _tokens(table, prefix, where)
    if "bleu_stats" in held:
        found["bleu_stats"] = _bleu_stats(table.column("bleu_stats"), where)
    return found


def read_metadata(path: Path | str) -> ScoresMetadata:
    """Reads a scores file's metadata alone, for a look at many files. Raises ScoresError as `read_scores` does."""
    with _opened(path) as file:
        return _metadata(file.schema_arrow, str(path))


def _as_float32(scores: Scores, where: str) -> Scores:
    likelihoods = scores.class_log_likelihoods
    if likelihoods is not None:
        likelihoods = np.asarray(likelihoods)
        if likelihoods.ndim != 2:
            raise ScoresError(
                f"{where}: class_log_likelihoods has shape {likelihoods.shape}, expected [examples, classes]"
            )
        likelihoods = likelihoods.astype(np.float32)

    def narrowed(tokens: TokenScores | None) -> TokenScores | None:
        if tokens is None:
            return None
        parts = {part: np.asarray(getattr(tokens, part)).astype(np.float32) for part in _TOKEN_PARTS}
        return TokenScores(**parts, offsets=np.asarray(tokens.offsets))

    return replace(
        scores,
        class_log_likelihoods=likelihoods,
        gold_tokens=narrowed(scores.gold_tokens),
        self_tokens=narrowed(scores.self_tokens),
    )


def _lists(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))


def _metadata(schema: pa.Schema, where: str) -> ScoresMetadata:
    metadata = schema.metadata or {}
    raw = metadata.get(METADATA_KEY)
    if raw is None and _FORMER_KEY in metadata:
        raise ScoresError(
            f"{where}: the metadata stands under {_FORMER_KEY.decode()!r}, this project's name before 0.2.0; expected "
            f"{METADATA_KEY.decode()!r}. Score it again with `python -m infer force=true`, or move its JSON there"
        )
    if raw is None:
        raise ScoresError(f"{where}: the file's metadata lacks the key {METADATA_KEY.decode()!r}; not a scores file")
    try:
        values = json.loads(raw)
    except ValueError as error:
        raise ScoresError(f"{where}: the metadata under {METADATA_KEY.decode()!r} isn't JSON: {error}") from error
    if not isinstance(values, dict):
        raise ScoresError(f"{where}: the metadata under {METADATA_KEY.decode()!r} isn't a JSON object")
    require_version(values.get("schema_version"), where)
    required = [f.name for f in fields(ScoresMetadata) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ScoresError(f"{where}: the metadata lacks {', '.join(missing)}")
    metadata = ScoresMetadata(**{f.name: values[f.name] for f in fields(ScoresMetadata) if f.name in values})
    validate_metadata(metadata, where)
    return metadata


def _columns(schema: pa.Schema, task: str, where: str) -> tuple[list[str], list[str]]:
    """The columns to read, and those of other tasks that the file has too."""
    required = (*_STRINGS, *_TASK_COLUMNS[task])
    missing = [name for name in required if name not in schema.names]
    if missing:
        raise ScoresError(
            f"{where}: lacks the column {', '.join(missing)} of task {task}; it has {', '.join(schema.names) or 'none'}"
        )
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ScoresError(f"{where}: has the column {', '.join(twice)} more than once")
    every = {name for names in _FIELD_COLUMNS.values() for name in names}
    foreign = [name for name in schema.names if name in every and name not in required]
    return [*required, *sorted(name for name in schema.names if name.startswith(SLICE_PREFIX))], foreign


def _require_nulls(file: pq.ParquetFile, names: list[str], task: str, where: str) -> None:
    for name in names:
        column = file.read(columns=[name]).column(name)
        if column.null_count < len(column):
            raise ScoresError(
                f"{where}: column {name} holds values, but the metadata says task {task}, which has none; "
                "expected nulls, or no such column"
            )


def _is_text(name: str) -> bool:
    return name in _STRINGS or name.startswith(SLICE_PREFIX)


def _strings(column: pa.ChunkedArray, name: str, where: str) -> pa.Array:
    """[n] large_string."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ScoresError(f"{where}: column {name} has type {column.type}, expected string")
    try:
        strings = pa.concat_arrays(column.cast(pa.large_string()).chunks)
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ScoresError(f"{where}: column {name} isn't UTF-8: {error}") from error
    return strings


def _correct(column: pa.ChunkedArray, task: str, where: str) -> np.ndarray | None:
    """[n] bool; None for translation, whose column is all null."""
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


def _likelihoods(column: pa.ChunkedArray, classes: int, where: str) -> np.ndarray:
    """[n, K] float32 or float64."""
    values, lengths = _flat(column, "class_log_likelihoods", (pa.float32(), pa.float64()), where)
    return _of_equal_length(values, lengths, classes, "class_log_likelihoods", "one for each of the classes", where)


def _bleu_stats(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """[n, 10] int32."""
    values, lengths = _flat(column, "bleu_stats", (pa.int32(), pa.int64()), where)
    what = "two lengths, four counts of matches and four totals"
    stats = _of_equal_length(values, lengths, BLEU_STATISTICS, "bleu_stats", what, where)
    most = np.iinfo(np.int32).max
    rows = np.flatnonzero((stats > most).any(axis=1))
    if len(rows):  # would wrap into a count that may look right
        raise ScoresError(f"{where}: row {rows[0]} of bleu_stats holds a count above {most}: {stats[rows[0]].tolist()}")
    return stats.astype(np.int32)


def _tokens(table: pa.Table, prefix: str, where: str) -> TokenScores:
    parts, lengths = {}, {}
    for part, name in _TOKEN_PARTS.items():
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
    """The values of all lists one after the other, and each list's length [n]."""
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
    """[n, width]."""
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise ScoresError(f"{where}: row {wrong[0]} has {lengths[wrong[0]]} {name}, expected {width}: {what}")
    return values.reshape(len(lengths), width)
