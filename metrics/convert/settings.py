"""Reads the settings of runs from flags and a config file, and checks their values."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from conf.names import checked_name, checked_seed
from conf.schema import TASKS
from conf.text import IN_YAML, checked_text, checked_texts, optional_text
from conf.yaml_checks import check_yaml
from metrics.convert.classification import SCALES, ClassColumns
from metrics.convert.examples import ConvertError, RunInfo, output_path
from metrics.convert.flags import FORMATS, parser
from metrics.convert.harness import HarnessOptions, is_harness_row
from metrics.convert.sequences import TOKENS, SequenceColumns
from metrics.rows import FORMATS as RECORD_FORMATS
from metrics.rows import read_records
from metrics.statistics.text import check_tokenizer

_REQUIRED = ("dataset", "size", "seed", "parameters", "out")
LABELS = ("name", "index")
_FORMAT_OF_ENDING = {f".{name}": name for name in RECORD_FORMATS} | {".ndjson": "jsonl"}
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def runs_of(flags: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the settings of each run of a config file, or of the one run that the flags name.

    Flags go before the file's settings, and a run's own settings before both. Raises ConvertError for an unreadable
    config file, settings that don't exist, and a run without a file.
    """
    shared: dict[str, Any] = {}
    config = flags.pop("config", None)
    if config is not None:
        shared = _config(Path(config))
    runs = shared.pop("runs", [{}])
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise ConvertError(f"{config}: runs={runs!r}, expected a list of mappings, one or more")
    merged = [{**shared, **flags, **run} for run in runs]
    names = set(vars(parser().parse_args([])))
    for run in merged:
        if unknown := sorted(map(str, set(run) - names)):
            raise ConvertError(f"{config}: {', '.join(unknown)}: no such setting; they are named as the flags are")
        if "file" not in run:
            raise ConvertError("no FILE given; give one, or `runs` in --config")
        for name in ("file", "out"):
            if name in run:
                run[name] = _text(name, run[name])
        for name in ("slice", "reference"):
            if isinstance(run.get(name), str):
                run[name] = [run[name]]
            if not isinstance(run.get(name, []), list):
                raise ConvertError(f"{config}: {name}={run[name]!r}: expected a column or a list of columns")
    return merged


def run_info(run: Mapping[str, Any]) -> RunInfo:
    """Returns whose predictions a run's file holds.

    Raises EdgewiseError if a setting is missing, is no number, or is a name that artifacts and files can't have.
    """
    if missing := [f"--{key}" for key in _REQUIRED if key not in run]:
        raise ConvertError(f"{run['file']}: {', '.join(missing)} not given")
    return RunInfo(
        dataset=checked_name("dataset", _text("dataset", run["dataset"])),
        size=checked_name("size", _text("size", run["size"])),
        seed=checked_seed("seed", run["seed"]),
        parameters=_whole_number("parameters", run["parameters"]),
        split=checked_name("split", _text("split", run.get("split", "test"))),
        flops=_number("flops", run.get("flops", 0)),
        model=_text("model", run.get("model", "")),
    )


def check_outputs(runs: Sequence[Mapping[str, Any]]) -> None:
    """Raises ConvertError where two runs would be written to one file, and the second would replace the first."""
    file_of: dict[Path, str] = {}
    for run in runs:
        info, out = run_info(run), Path(run["out"])
        path = output_path(out, info.dataset, info.size, info.seed, info.split)
        if path in file_of:
            how = "give a folder as out" if path == out else "give each a seed, a size or a split of its own"
            raise ConvertError(f"{file_of[path]} and {run['file']} would both be written to {path}; {how}")
        file_of[path] = run["file"]


def file_format(path: Path, run: Mapping[str, Any]) -> str:
    """Returns the format that is given, or else the one that the file's ending and first row tell."""
    name = str(run.get("format", "auto"))
    if name != "auto":
        return _one_of("format", name, FORMATS)
    kind = _FORMAT_OF_ENDING.get(path.suffix.lower())
    if kind is None:
        raise ConvertError(f"{path}: can't tell the format by {path.suffix!r}; give --format {'|'.join(FORMATS[1:])}")
    if kind == "jsonl":
        first = next(read_records(path, "jsonl"), None)
        if first is not None and is_harness_row(first[1]):
            return "lm-eval"
    return kind


def task_of(run: Mapping[str, Any]) -> str:
    """Returns the task of a run's dataset; ConvertError if there is no such task."""
    return _one_of("task", run.get("task", "classification"), TASKS)


def columns_of_classes(path: Path, run: Mapping[str, Any]) -> ClassColumns:
    """Returns which columns of a file hold labels and the classes' values."""
    columns = ClassColumns(
        target=_text("target", run.get("target", "target")),
        classes=_column_of_each_class(run.get("class") or {}),
        values=_optional(run, "values"),
        names=_class_names(run.get("classes")),
        prediction=_optional(run, "prediction"),
        example_id=_optional(run, "id"),
        slices=_list(run, "slice"),
        text=_optional(run, "text"),
        cluster=_optional(run, "cluster"),
        scale=_one_of("scale", run.get("scale", "auto"), SCALES),
        labels=_one_of("labels", run.get("labels", "name"), LABELS),
    )
    if bool(columns.classes) == (columns.values is not None):
        raise ConvertError(f"{path}: give either --class NAME=COLUMN for each class, or --values COLUMN")
    return columns


def harness_options(run: Mapping[str, Any]) -> HarnessOptions:
    """Returns how a sample log of lm-evaluation-harness is to be read."""
    labels = run.get("labels")
    return HarnessOptions(
        filter_name=_optional(run, "filter"),
        slices=_list(run, "slice"),
        text=_optional(run, "text"),
        cluster=_optional(run, "cluster"),
        labels=None if labels is None else _one_of("labels", labels, LABELS),
    )


def sequence_columns(run: Mapping[str, Any], task: str) -> SequenceColumns:
    """Returns which columns of a file hold answers or translations and their tokens' values."""
    if task != "translation" and run.get("reference"):
        raise ConvertError(
            f"--reference is of translations, and the task is {task}; give several gold answers as a list in --target"
        )
    tokenize = _text("tokenize", run.get("tokenize", "intl"))
    if task == "translation":
        try:
            check_tokenizer(tokenize)
        except ValueError as error:
            raise ConvertError(f"tokenize={tokenize}: {error}") from None
    return SequenceColumns(
        target=_text("target", run.get("target", "target")),
        references=_list(run, "reference"),
        prediction=_text("prediction", run.get("prediction", "prediction")),
        correct=_optional(run, "correct"),
        example_id=_optional(run, "id"),
        slices=_list(run, "slice"),
        text=_optional(run, "text"),
        cluster=_optional(run, "cluster"),
        tokens={name: _text(name, run[name]) for name in TOKENS if name in run},
        tokenize=tokenize,
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(f"--config {path}", text)
        content = yaml.safe_load(text)  # JSON is YAML
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConvertError(f"--config {path}: can't be read as YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConvertError(f"--config {path}: expected a mapping of settings")
    return content


def _column_of_each_class(setting: Any) -> dict[str, str]:
    """Returns class -> column, from a mapping or from texts NAME=COLUMN."""
    columns: dict[str, str] = {}
    if isinstance(setting, Mapping):
        columns = checked_texts("class", setting, IN_YAML)
    elif not isinstance(setting, list):
        raise ConvertError(f"class={setting!r}: expected a mapping of each class to its column")
    else:
        for one in setting:
            name, equals, column = str(one).partition("=")
            if not equals or not name or name in columns:
                raise ConvertError(f"--class {one}: expected NAME=COLUMN, each name once")
            columns[name] = column
    class_of: dict[str, str] = {}
    for name, column in columns.items():
        if column in class_of:
            raise ConvertError(
                f"class: {class_of[column]!r} and {name!r} have the same column {column!r}, so every example would be "
                "as likely the one as the other; expected a column for each class"
            )
        class_of[column] = name
    return columns


def _class_names(setting: Any) -> list[str] | None:
    if setting is None:
        return None
    if isinstance(setting, str):
        return setting.split(",")
    if not isinstance(setting, list):
        raise ConvertError(f"classes={setting!r}: expected a list of the classes' names")
    return [_text("classes", name) for name in setting]


def _one_of(key: str, value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ConvertError(f"{key}={value}: expected one of {', '.join(allowed)}")
    return str(value)


def _number(key: str, value: Any) -> float:
    """Returns the number that a setting means: 60000000, 6e7 or 60M."""
    match = re.fullmatch(r"([\d.]+(?:e\+?\d+)?)([KMBT]?)", str(value), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError
        number = float(match[1]) * _UNITS[match[2].upper()]
        if math.isinf(number):
            raise ValueError
        return number
    except ValueError:
        raise ConvertError(f"{key}={value}: expected a number such as 60000000, 6e7 or 60M") from None


def _text(key: str, value: object) -> str:
    """Returns a setting as text, as flags have it; EdgewiseError where YAML has read it as no text."""
    return checked_text(key, value, IN_YAML)


def _optional(run: Mapping[str, Any], key: str) -> str | None:
    """Returns a setting as text, or None where it isn't given."""
    return optional_text(key, run.get(key), IN_YAML)


def _list(run: Mapping[str, Any], key: str) -> list[str]:
    """Returns a setting that is a list of texts; [] where it isn't given."""
    values = run.get(key, [])
    if not isinstance(values, list):
        raise ConvertError(f"{key}={values!r}: expected a list of column names")
    return [_text(key, value) for value in values]


def _whole_number(key: str, value: Any) -> int:
    """Returns a whole number; digits alone are read exactly, beyond what floating point holds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if re.fullmatch(r"\d{1,300}", str(value)):  # more are no number that any file of scores could hold
        return int(str(value))
    number = _number(key, value)
    if abs(number - round(number)) > 1e-6 or isinstance(value, bool):
        raise ConvertError(f"{key}={value}: expected a whole number")
    return round(number)
