"""Reads one run's scores from Parquet, and checks what it reads.

A file holds its own task's columns alone. Files by other programs are welcome: `arrays.py` says which types columns may
have, and columns of other tasks may be there, filled with nulls.
"""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import EdgewiseError, first_line
from metrics.parquet_file import opened_parquet
from metrics.scores.arrays import bleu_stats_of, check_string_type, correct_of, likelihoods_of, strings_of, tokens_of
from metrics.scores.check import check, require_version, validate_metadata
from metrics.scores.columns import Columns, encoded
from metrics.scores.layout import (
    CHECKSUM_KEY,
    FIELD_COLUMNS,
    FORMER_KEY,
    METADATA_KEY,
    OPTIONAL_STRINGS,
    STRINGS,
    TASK_COLUMNS,
)
from metrics.scores.schema import SLICE_PREFIX, TASK_FIELDS, Scores, ScoresError, ScoresMetadata, TokenScores

DEEPEST = 100  # levels that the JSON of the metadata may be nested: what reads deeper can't be written again


def read_scores(path: Path | str) -> Scores:
    """Reads and checks one scores file.

    Raises ScoresError, naming the file and what was expected, for a file that isn't there, isn't Parquet or is
    cut short; for missing or mistyped columns and metadata, another schema version or an unknown task; for values in
    another task's columns; and for everything that `validate` refuses.
    """
    return replace(read_columns(path), text=read_text(path)).scores()


def read_columns(path: Path | str, known_ids: pa.Array | None = None) -> Columns:
    """Reads and checks one scores file as `read_scores` does, into columns whose strings are codes.

    `known_ids` are the ids of another file that was checked; if this one has the same, they aren't checked again. The
    column `text` is left out, as it may be most of a file and only examples that are shown need it: `read_text`.
    """
    where = str(path)
    with _opened(path) as file:
        metadata = _metadata(file.schema_arrow, where)
        names, foreign = _columns(file.schema_arrow, metadata.task, where)
        table = file.read(columns=names)
        _require_nulls(file, foreign, metadata.task, where)
    if table.num_rows == 0:
        raise ScoresError(f"{path}: holds no examples")
    strings = {name: strings_of(table.column(name), name, where) for name in names if _is_text(name)}
    ids = strings.pop("example_id")
    cluster = strings.pop("cluster", None)
    columns = Columns(
        metadata=metadata,
        example_id=ids,
        target=encoded(strings.pop("target")),
        prediction=encoded(strings.pop("prediction")),
        cluster=encoded(cluster) if cluster is not None else None,
        slices={name: encoded(column) for name, column in strings.items()},
        **_fields(table, TASK_FIELDS[metadata.task], metadata, where),
    )
    check(columns, where, known_ids)
    return columns


def read_field(path: Path | str, name: str) -> np.ndarray | TokenScores:
    """Reads one field of `Scores`, by name, from a file that `read_columns` has accepted; nothing else is read."""
    where = str(path)
    with _opened(path) as file:
        metadata = _metadata(file.schema_arrow, where)
        table = file.read(columns=list(FIELD_COLUMNS[name]))
    value: np.ndarray | TokenScores = _fields(table, (name,), metadata, where)[name]
    return value


def read_text(path: Path | str) -> pa.Array | None:
    """Reads the input texts, [n] large_string, null where an example has none; None where the file has no such column.

    Raises ScoresError as `read_scores` does for a column of another type, and for text that isn't UTF-8.
    """
    with _opened(path) as file:
        if "text" not in file.schema_arrow.names:
            return None
        return strings_of(file.read(columns=["text"]).column("text"), "text", str(path))


@contextmanager
def _opened(path: Path | str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file; raises ScoresError if there is none, or for errors of reading it."""
    if not Path(path).is_file():
        raise ScoresError(f"{path}: no such file; expected a scores file (Parquet)")
    try:
        with opened_parquet(path) as file:
            yield file
    except ScoresError:
        raise
    except EdgewiseError as error:  # of the footer
        raise ScoresError(str(error)) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ScoresError(
            f"{path}: not a Parquet file, or cut short or damaged ({first_line(error)}); score or copy it again"
        ) from error


def _fields(table: pa.Table, held: tuple[str, ...], metadata: ScoresMetadata, where: str) -> dict[str, Any]:
    """Returns those fields of `Scores` that are `held`; `correct`, which every file has, is None where all null."""
    found: dict[str, Any] = {}
    if "correct" in table.column_names:
        found["correct"] = correct_of(table.column("correct"), metadata.task, where)
    if "class_log_likelihoods" in held:
        found["class_log_likelihoods"] = likelihoods_of(
            table.column("class_log_likelihoods"), len(metadata.classes), where
        )
    for name, prefix in (("gold_tokens", ""), ("self_tokens", "self_")):
        if name in held:
            found[name] = tokens_of(table, prefix, where)
    if "bleu_stats" in held:
        found["bleu_stats"] = bleu_stats_of(table.column("bleu_stats"), where)
    return found


def read_metadata(path: Path | str) -> ScoresMetadata:
    """Reads a scores file's metadata alone, for a look at many files. Raises ScoresError as `read_scores` does."""
    with _opened(path) as file:
        return _metadata(file.schema_arrow, str(path))


def _metadata(schema: pa.Schema, where: str) -> ScoresMetadata:
    """Reads the run's metadata from the file's; raises ScoresError where it is missing, incomplete or wrong."""
    of_file = schema.metadata or {}
    raw = of_file.get(METADATA_KEY)
    if raw is None and FORMER_KEY in of_file:
        raise ScoresError(
            f"{where}: the metadata stands under {FORMER_KEY.decode()!r}, this project's name before 0.2.0; expected "
            f"{METADATA_KEY.decode()!r}. Score it again with `python -m infer force=true`, or move its JSON there"
        )
    if raw is None:
        raise ScoresError(f"{where}: the file's metadata lacks the key {METADATA_KEY.decode()!r}; not a scores file")
    if (checksum := of_file.get(CHECKSUM_KEY)) is not None and checksum != str(zlib.crc32(raw)).encode():
        raise ScoresError(
            f"{where}: the metadata under {METADATA_KEY.decode()!r} isn't what was written: its checksum differs from "
            f"{CHECKSUM_KEY.decode()!r}. Copy or score the file again; who changed it on purpose leaves that key out"
        )
    try:
        values = json.loads(raw)
        if _depth(values) > DEEPEST:
            raise RecursionError
    except RecursionError:
        raise ScoresError(
            f"{where}: the metadata under {METADATA_KEY.decode()!r} is nested more than {DEEPEST} levels deep"
        ) from None
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


def _depth(value: Any) -> int:
    """Returns how deep the lists and objects of parsed JSON are nested; 0 for a number or a text."""
    levels, inside = 0, [value]
    while inside := [child for one in inside if isinstance(one, dict | list) for child in _children(one)]:
        levels += 1
    return levels


def _children(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _columns(schema: pa.Schema, task: str, where: str) -> tuple[list[str], list[str]]:
    """Returns the names of the columns to read, and of the columns of other tasks that the file has too."""
    required = (*STRINGS, *TASK_COLUMNS[task])
    missing = [name for name in required if name not in schema.names]
    if missing:
        raise ScoresError(
            f"{where}: lacks the column {', '.join(missing)} of task {task}; it has {', '.join(schema.names) or 'none'}"
        )
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ScoresError(f"{where}: has the column {', '.join(twice)} more than once")
    every = {name for names in FIELD_COLUMNS.values() for name in names}
    foreign = [name for name in schema.names if name in every and name not in required]
    if "text" in schema.names:
        check_string_type(schema.field("text").type, "text", where)
    optional = ["cluster"] if "cluster" in schema.names else []
    return [*required, *optional, *sorted(name for name in schema.names if name.startswith(SLICE_PREFIX))], foreign


def _require_nulls(file: pq.ParquetFile, names: list[str], task: str, where: str) -> None:
    """Raises ScoresError if any of these columns, which are those of other tasks, holds a value."""
    for name in names:
        column = file.read(columns=[name]).column(name)
        if column.null_count < len(column):
            raise ScoresError(
                f"{where}: column {name} holds values, but the metadata says task {task}, which has none; "
                "expected nulls, or no such column"
            )


def _is_text(name: str) -> bool:
    return name in STRINGS or name in OPTIONAL_STRINGS or name.startswith(SLICE_PREFIX)
