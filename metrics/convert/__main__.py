"""Converts other people's predictions into scores files, one run a file.

Reads CSV, TSV, JSONL and Parquet with one example a row, and sample logs of lm-evaluation-harness (--log_samples) of
multiple-choice tasks. What the file doesn't say - dataset, size, seed, parameters - is given in flags.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.pipes import run_command
from metrics.convert.classification import examples_of
from metrics.convert.examples import ConvertError, RunInfo, build_scores, save
from metrics.convert.flags import parser
from metrics.convert.harness import harness_examples
from metrics.convert.sequences import sequence_scores
from metrics.convert.settings import (
    check_outputs,
    columns_of_classes,
    file_format,
    harness_options,
    run_info,
    runs_of,
    sequence_columns,
    task_of,
)
from metrics.rows import Layout, Record, read_records, separator_name, separator_of
from metrics.scores import Scores, ScoresError


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts each run and says what it took the values for; returns the exit status."""
    flags = {key: value for key, value in vars(parser(__doc__).parse_args(arguments)).items() if value is not None}
    try:
        runs = runs_of(flags)
        check_outputs(runs)
        for run in runs:
            convert(run)
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def convert(run: Mapping[str, Any]) -> Path:
    """Converts one file by its settings, named as the flags are, and returns where the scores are.

    Raises EdgewiseError for settings, files and rows that can't become scores.
    """
    info = run_info(run)
    path = Path(run["file"])
    try:
        is_there = path.is_file()
    except OSError as error:  # such as a name that is too long
        raise ConvertError(f"{str(path)[:200]}: can't be read: {error.strerror}") from None
    if not is_there:
        raise ConvertError(f"{path}: a folder, expected one run's file" if path.is_dir() else f"{path}: no such file")
    scores, out = _scores(path, run, info), Path(run["out"])
    try:
        return save(scores, out, print)
    except ScoresError as error:
        raise ConvertError(f"{path}: can't become scores (whose rows count from 0): {error}") from None
    except OSError as error:
        hint = "; expected a folder, or a file that ends in .parquet" if os.path.isfile(out) else ""
        raise ConvertError(f"out={str(out)[:200]} can't be written: {error.strerror}{hint}") from None


def _scores(path: Path, run: Mapping[str, Any], info: RunInfo) -> Scores:
    def report(text: str) -> None:
        print(f"{path.name}: {text}")

    kind, task = file_format(path, run), task_of(run)
    if kind == "csv" and (separator := separator_of(path, kind, Layout())) != ",":
        report(f"a {separator_name(separator)} separates its values")
    if task != "classification":
        if kind == "lm-eval":
            raise ConvertError(
                f"{path}: a sample log of lm-evaluation-harness, of which only multiple-choice tasks can be converted, "
                f"and the task is {task}. Leave out --task, or give --format jsonl if the file is no such log"
            )
        columns = sequence_columns(run, task)
        return sequence_scores(_some(path, read_records(path, kind, columns.read)), columns, task, info, report)
    if kind == "lm-eval":
        examples, classes = harness_examples(_some(path, read_records(path, "jsonl")), harness_options(run), report)
    else:
        class_columns = columns_of_classes(path, run)
        rows = _some(path, read_records(path, kind, class_columns.read))
        examples, classes = examples_of(rows, class_columns, report)
    return build_scores(examples, classes, info, kind, report)


def _some(path: Path, rows: Iterator[Record]) -> Iterator[Record]:
    """Yields the rows of a file; raises ConvertError at the end of one that has none."""
    row = None
    for row in rows:
        yield row
    if row is None:
        raise ConvertError(f"{path}: the file holds no examples; expected one a row")


if __name__ == "__main__":
    run_command(main)
