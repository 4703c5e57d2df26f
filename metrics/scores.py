"""The scores file: one run's per-example scores as Parquet, schema version 1.

One row an example, in split order; the run's metadata is JSON under the key `switchyard` of the file's metadata.
Files by other programs are welcome: strings may be large or dictionary-encoded, lists large or of fixed size,
log-likelihoods float32 or float64. What a number must satisfy is checked on the way in and on the way out.
"""

import json
import os
import tempfile
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import SwitchyardError

SCHEMA_VERSION = 1
METADATA_KEY = b"switchyard"
SLICE_PREFIX = "slice_"

# A log-likelihood is at most 0; a float32 log-softmax summed over a label's few tokens may overshoot by its rounding.
_POSITIVE_NOISE = 1e-4


class ScoresError(SwitchyardError):
    """A scores file, or scores about to be written, break the schema; the message names the file and the first row."""


@dataclass
class ScoresMetadata:
    """Where a scores file comes from and how it was computed."""

    dataset: str
    size: str
    seed: int
    split: str
    task: str  # classification | span_qa | translation
    classes: list[str]  # target strings, in the order of class_log_likelihoods
    parameters: int
    flops_per_example: float
    model: str  # digest of the model artifact
    data: str  # fingerprint of the rows
    signature: str
    config: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass
class Scores:
    """One run's scores on one split of a classification dataset with K classes and n examples."""

    metadata: ScoresMetadata
    example_id: np.ndarray  # [n] object (str), unique
    target: np.ndarray  # [n] object (str)
    prediction: np.ndarray  # [n] object (str)
    correct: np.ndarray  # [n] bool
    class_log_likelihoods: np.ndarray  # [n, K] float32; float64 where a file by another program holds that
    slices: dict[str, np.ndarray] = field(default_factory=dict)  # slice_* -> [n] object (str, or None for no value)


def write_scores(scores: Scores, path: Path | str) -> None:
    """Writes one run's scores, whole or not at all; the same scores give the same bytes.

    Log-likelihoods are written as float32. Raises ScoresError, before anything is written, for scores that
    `read_scores` would refuse.
    """
    path = Path(path)
    likelihoods = np.asarray(scores.class_log_likelihoods)
    if likelihoods.ndim != 2:
        raise ScoresError(f"{path}: class_log_likelihoods has shape {likelihoods.shape}, expected [examples, classes]")
    likelihoods = likelihoods.astype(np.float32)
    checked = Scores(**{**_shallow(scores), "class_log_likelihoods": likelihoods})
    validate(checked, str(path))
    columns: dict[str, pa.Array] = {
        "example_id": pa.array(list(scores.example_id), pa.string()),
        "target": pa.array(list(scores.target), pa.string()),
        "prediction": pa.array(list(scores.prediction), pa.string()),
        "correct": pa.array(np.asarray(scores.correct), pa.bool_()),
    }
    # [n, K] -> n lists of K
    offsets = pa.array(np.arange(len(likelihoods) + 1, dtype=np.int32) * likelihoods.shape[1])
    columns["class_log_likelihoods"] = pa.ListArray.from_arrays(offsets, pa.array(likelihoods.ravel()))
    for name in sorted(scores.slices):
        columns[name] = pa.array(list(scores.slices[name]), pa.string())
    try:
        metadata = json.dumps(asdict(scores.metadata), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ScoresError(f"{path}: the metadata can't be written as JSON: {error}") from error
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: metadata.encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        pq.write_table(table, partial, compression="zstd")
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp's 0600 would lock out whoever shares the folder
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def read_scores(path: Path | str) -> Scores:
    """Reads and checks one scores file of a classification dataset.

    Raises ScoresError, naming the file and what was expected, for a file that isn't there, isn't Parquet or is
    cut short; for missing or mistyped columns and metadata, another schema version or another task; and for
    everything that `validate` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise ScoresError(f"{path}: no such file; expected a scores file (Parquet)")
    try:
        # ParquetFile, not read_table: that one turns `seed=0/` in a path into a column.
        with pq.ParquetFile(path) as file:
            metadata = _metadata(file.schema_arrow, str(path))
            names = _columns(file.schema_arrow, str(path))
            table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise ScoresError(f"{path}: not a Parquet file, or cut short ({_first_line(error)}); score it again") from error
    if table.num_rows == 0:
        raise ScoresError(f"{path}: holds no examples")
    strings = {name: _strings(table.column(name), name, str(path)) for name in names if name in _STRINGS}
    slices = {name: _strings(table.column(name), name, str(path)) for name in names if name.startswith(SLICE_PREFIX)}
    scores = Scores(
        metadata=metadata,
        correct=_correct(table.column("correct"), str(path)),
        class_log_likelihoods=_likelihoods(table.column("class_log_likelihoods"), len(metadata.classes), str(path)),
        slices=slices,
        **strings,
    )
    validate(scores, str(path))
    return scores


def read_metadata(path: Path | str) -> ScoresMetadata:
    """Reads a scores file's metadata alone, for a look at many files. Raises ScoresError as `read_scores` does."""
    path = Path(path)
    if not path.is_file():
        raise ScoresError(f"{path}: no such file; expected a scores file (Parquet)")
    try:
        return _metadata(pq.read_schema(path), str(path))
    except (pa.ArrowException, OSError) as error:
        raise ScoresError(f"{path}: not a Parquet file, or cut short ({_first_line(error)}); score it again") from error


def validate(scores: Scores, where: str) -> None:
    """Raises ScoresError, starting with `where`, unless every column obeys the schema and agrees with the others.

    A class may have likelihood 0 (−inf); an example may not have it for every class. NaN, +inf and log-likelihoods
    above 0 are refused, and so is `correct` where it isn't `prediction == target`.
    """
    _validate_metadata(scores.metadata, where)
    n, classes = len(scores.example_id), scores.metadata.classes
    if n == 0:
        raise ScoresError(f"{where}: holds no examples")
    text = {"example_id": scores.example_id, "target": scores.target, "prediction": scores.prediction}
    for name, column in {**text, "correct": scores.correct, **scores.slices}.items():
        if np.shape(column) != (n,):
            raise ScoresError(f"{where}: column {name} has shape {np.shape(column)}, expected ({n},) like example_id")
        if name in text and not _all_strings(column):
            row = next(i for i, value in enumerate(column) if not isinstance(value, str))
            raise ScoresError(f"{where}: row {row} has {name} {column[row]!r}, expected a string")
    for name, column in scores.slices.items():
        if not name.startswith(SLICE_PREFIX):
            raise ScoresError(f"{where}: slice column {name!r}: expected a name that starts with {SLICE_PREFIX!r}")
        if not _all_strings([value for value in column if value is not None]):
            raise ScoresError(f"{where}: column {name} holds values that are neither strings nor null")
    if len(set(scores.example_id)) < n:
        seen: dict[str, int] = {}
        for row, example in enumerate(scores.example_id):
            if seen.setdefault(example, row) != row:
                raise ScoresError(f"{where}: rows {seen[example]} and {row} share the example_id {example!r}")
    known = set(classes)
    for name in ("prediction", "target"):
        if not known.issuperset(text[name]):
            row = next(i for i, value in enumerate(text[name]) if value not in known)
            raise ScoresError(
                f"{where}: row {row} has {name} {text[name][row]!r}, expected one of the classes {classes}"
            )
    if np.asarray(scores.correct).dtype != np.bool_:
        raise ScoresError(f"{where}: column correct has type {np.asarray(scores.correct).dtype}, expected bool")
    contradicting = np.flatnonzero((np.asarray(scores.prediction) == np.asarray(scores.target)) != scores.correct)
    if len(contradicting):
        row = int(contradicting[0])
        raise ScoresError(
            f"{where}: row {row} says correct={bool(scores.correct[row])} but predicts {scores.prediction[row]!r} "
            f"for the target {scores.target[row]!r} ({len(contradicting)} such rows)"
        )
    _validate_likelihoods(scores.class_log_likelihoods, n, classes, where)


def _validate_likelihoods(values: np.ndarray, n: int, classes: list[str], where: str) -> None:
    name = "class_log_likelihoods"
    if values.shape != (n, len(classes)):
        raise ScoresError(f"{where}: {name} has shape {values.shape}, expected ({n}, {len(classes)}): one a class")
    if values.dtype not in (np.float32, np.float64):
        raise ScoresError(f"{where}: {name} has type {values.dtype}, expected float32")
    for problem, holds in (
        ("NaN", np.isnan(values).any(axis=1)),
        ("a value above 0, which is no log-likelihood", (values > _POSITIVE_NOISE).any(axis=1)),
        ("-inf for every class", np.isneginf(values).all(axis=1)),
    ):
        rows = np.flatnonzero(holds)
        if len(rows):
            row = int(rows[0])
            raise ScoresError(f"{where}: row {row} of {name} holds {problem}: {values[row].tolist()}")


def _validate_metadata(metadata: ScoresMetadata, where: str) -> None:
    if metadata.schema_version != SCHEMA_VERSION:
        raise ScoresError(
            f"{where}: schema_version {metadata.schema_version!r}, expected {SCHEMA_VERSION}; "
            "score it again, or read it with the version of Switchyard that wrote it"
        )
    for key in ("dataset", "size", "split", "task", "model", "data", "signature"):
        _expect(where, key, getattr(metadata, key), isinstance(getattr(metadata, key), str), "a string")
    for key in ("dataset", "size", "split"):
        _expect(where, key, getattr(metadata, key), getattr(metadata, key) != "", "a name")
    if metadata.task != "classification":
        raise ScoresError(
            f"{where}: task {metadata.task!r}: tables are made of classification alone so far, "
            "not of span QA or translation"
        )
    for key in ("seed", "parameters"):
        _expect(where, key, getattr(metadata, key), _is_integer(getattr(metadata, key)), "a whole number")
    _expect(where, "parameters", metadata.parameters, metadata.parameters > 0, "more than 0")
    flops = metadata.flops_per_example
    _expect(where, "flops_per_example", flops, _is_integer(flops) or isinstance(flops, float), "a number")
    _expect(where, "flops_per_example", flops, bool(np.isfinite(flops)) and flops >= 0, "0 or more")
    classes = metadata.classes
    names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    _expect(
        where, "classes", classes, names and len(set(classes)) == len(classes) >= 2, "two or more different strings"
    )
    _expect(where, "config", metadata.config, isinstance(metadata.config, dict), "an object")


def _expect(where: str, key: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise ScoresError(f"{where}: metadata {key}={value!r}, expected {expected}")


def _all_strings(values: Any) -> bool:
    return all(issubclass(kind, str) for kind in set(map(type, values)))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _metadata(schema: pa.Schema, where: str) -> ScoresMetadata:
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ScoresError(f"{where}: the file's metadata lacks the key {METADATA_KEY.decode()!r}; not a scores file")
    try:
        values = json.loads(raw)
    except ValueError as error:
        raise ScoresError(f"{where}: the metadata under {METADATA_KEY.decode()!r} isn't JSON: {error}") from error
    if not isinstance(values, dict):
        raise ScoresError(f"{where}: the metadata under {METADATA_KEY.decode()!r} isn't a JSON object")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise ScoresError(
            f"{where}: schema_version {values.get('schema_version')!r}, expected {SCHEMA_VERSION}; "
            "score it again, or read it with the version of Switchyard that wrote it"
        )
    required = [f.name for f in fields(ScoresMetadata) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ScoresError(f"{where}: the metadata lacks {', '.join(missing)}")
    metadata = ScoresMetadata(**{f.name: values[f.name] for f in fields(ScoresMetadata) if f.name in values})
    _validate_metadata(metadata, where)
    return metadata


_STRINGS = ("example_id", "target", "prediction")
_REQUIRED = (*_STRINGS, "correct", "class_log_likelihoods")


def _columns(schema: pa.Schema, where: str) -> list[str]:
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing:
        raise ScoresError(f"{where}: lacks the column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}")
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ScoresError(f"{where}: has the column {', '.join(twice)} more than once")
    return [*_REQUIRED, *sorted(name for name in schema.names if name.startswith(SLICE_PREFIX))]


def _strings(column: pa.ChunkedArray, name: str, where: str) -> np.ndarray:
    """[n] object (str; None for null)."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ScoresError(f"{where}: column {name} has type {column.type}, expected string")
    try:
        if name == "example_id":
            return np.array(column.to_pylist(), dtype=object)
        # Few distinct values: decoding each once is several times faster than decoding every row.
        encoded = column.cast(pa.large_string()).dictionary_encode("encode").unify_dictionaries()
        values = np.array(encoded.chunk(0).dictionary.to_pylist(), dtype=object)
        return values[_array(pa.concat_arrays([chunk.indices for chunk in encoded.chunks]))]
    except (UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise ScoresError(f"{where}: column {name} isn't UTF-8: {error}") from error


def _correct(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """[n] bool."""
    if not pa.types.is_boolean(column.type):
        raise ScoresError(f"{where}: column correct has type {column.type}, expected bool")
    if column.null_count:
        raise ScoresError(f"{where}: column correct holds {column.null_count} nulls; classification has none")
    return _array(pa.concat_arrays(column.chunks).cast(pa.uint8())).astype(np.bool_)


def _likelihoods(column: pa.ChunkedArray, classes: int, where: str) -> np.ndarray:
    """[n, K] float32 or float64."""
    kind, name = column.type, "class_log_likelihoods"
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or kind.value_type not in (pa.float32(), pa.float64()):
        raise ScoresError(f"{where}: column {name} has type {kind}, expected list<float32>")
    rows = pa.concat_arrays(column.chunks)
    if rows.null_count:
        raise ScoresError(f"{where}: column {name} holds {rows.null_count} nulls")
    lengths = _array(rows.value_lengths())
    wrong = np.flatnonzero(lengths != classes)
    if len(wrong):
        raise ScoresError(
            f"{where}: row {wrong[0]} has {lengths[wrong[0]]} {name}, expected {classes}: one for each of the classes"
        )
    values = rows.flatten()
    if values.null_count:
        raise ScoresError(f"{where}: column {name} holds lists with {values.null_count} nulls")
    return _array(values).reshape(len(rows), classes)


def _array(values: pa.Array) -> np.ndarray:
    """A numeric column without nulls as numpy. Arrow's own `to_numpy` imports pandas on the way, over a second."""
    return np.from_dlpack(values)


def _shallow(scores: Scores) -> dict[str, Any]:
    return {f.name: getattr(scores, f.name) for f in fields(Scores)}


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
