"""python -m metrics.convert FILE …: other people's predictions into scores files, one run a file.

Reads CSV, TSV, JSONL and Parquet with one example a row, and sample logs of lm-evaluation-harness (--log_samples) of
multiple-choice tasks. What the file doesn't say - dataset, size, seed, parameters - is given in flags.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from conf.errors import EdgewiseError
from conf.schema import TASKS
from metrics.convert.examples import ConvertError, RunInfo, build_scores, save
from metrics.convert.harness import harness_examples, is_harness_row
from metrics.convert.rows import SCALES, SUFFIXES, Columns, examples_of, json_lines, read_rows
from metrics.convert.sequences import TOKENS, SequenceColumns, sequence_scores

EXAMPLES = """
examples:
  python -m metrics.convert small-0.csv --dataset reviews --size small --seed 0 --parameters 60M \\
      --target label --class negative=p_neg --class positive=p_pos --id review_id --slice country --out scores
  python -m metrics.convert base-0.jsonl --dataset reviews --size base --seed 0 --parameters 220M \\
      --target label --values log_probs --out scores        # log_probs: {"negative": -2.3, "positive": -0.1}
  python -m metrics.convert samples_boolq_2025-01-31.jsonl --dataset boolq --size 1b --seed 0 \\
      --parameters 1.2B --slice subject --out scores
  python -m metrics.convert wmt-small-0.jsonl --task translation --dataset wmt --size small --seed 0 \\
      --parameters 60M --target reference --prediction output --id id --out scores
  python -m metrics.convert --config runs.yaml
  python -m metrics 'metrics.scores=scores/*.parquet' metrics.out=out/reviews

runs.yaml holds flags by their long names (class: a mapping, slice and classes: lists), for all of the files under runs;
paths are relative to where the command runs:
  dataset: reviews
  target: label
  class: {negative: p_neg, positive: p_pos}
  out: scores
  runs:
    - {file: small-0.csv, size: small, seed: 0, parameters: 60M}
    - {file: small-1.csv, size: small, seed: 1, parameters: 60M}

Values may be probabilities or natural log-probabilities, normalised over the classes or not (log-likelihoods of label
strings); it says which it takes them for. Classes come in the order given; a directory's files of one dataset must name
the same ones. Answers (--task span_qa) and translations come with six lists of numbers a row, one entry a token: see
token_log_probs and the others in the scores schema. Exit status: 0, or 1 with a message that names file and line.
"""

FORMATS = ("auto", "csv", "tsv", "jsonl", "parquet", "lm-eval")
_REQUIRED = ("dataset", "size", "seed", "parameters", "out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts each run and says what it took the values for; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        for run in runs_of({key: value for key, value in vars(options).items() if value is not None}):
            convert(run)
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def convert(run: Mapping[str, Any]) -> Path:
    """Converts one file by its settings, as in flags, and returns where the scores are. Raises EdgewiseError."""
    if missing := [f"--{key}" for key in _REQUIRED if key not in run]:
        raise ConvertError(f"{run['file']}: {', '.join(missing)} not given")
    path = Path(run["file"])
    if not path.is_file():
        raise ConvertError(f"{path}: no such file")
    info = RunInfo(
        dataset=str(run["dataset"]),
        size=str(run["size"]),
        seed=_whole("seed", run["seed"]),
        parameters=_whole("parameters", run["parameters"]),
        split=str(run.get("split", "test")),
        flops=_count("flops", run.get("flops", 0)),
        model=str(run.get("model", "")),
    )

    def say(text: str) -> None:
        print(f"{path.name}: {text}")

    kind = _kind(path, str(run.get("format", "auto")))
    task = _one_of("task", run.get("task", "classification"), TASKS)
    if task != "classification":
        given = SequenceColumns(
            target=str(run.get("target", "target")),
            prediction=str(run.get("prediction", "prediction")),
            correct=run.get("correct"),
            example_id=run.get("id"),
            slices=list(run.get("slice", [])),
            tokens={name: str(run[name]) for name in TOKENS if name in run},
            tokenize=str(run.get("tokenize", "intl")),
        )
        return save(sequence_scores(read_rows(path, kind), given, task, info, say), Path(run["out"]), print)
    if kind == "lm-eval":
        rows = read_rows(path, "jsonl")
        examples, classes = harness_examples(rows, run.get("filter"), run.get("slice", []), say)
    else:
        columns = Columns(
            target=str(run.get("target", "target")),
            classes=_class_columns(run.get("class", {})),
            values=run.get("values"),
            names=_names(run.get("classes")),
            prediction=run.get("prediction"),
            example_id=run.get("id"),
            slices=list(run.get("slice", [])),
            scale=_one_of("scale", run.get("scale", "auto"), SCALES),
            labels=_one_of("labels", run.get("labels", "name"), ("name", "index")),
        )
        if bool(columns.classes) == (columns.values is not None):
            raise ConvertError(f"{path}: give either --class NAME=COLUMN for each class, or --values COLUMN")
        examples, classes = examples_of(read_rows(path, kind), columns, say)
    return save(build_scores(examples, classes, info, kind, say), Path(run["out"]), print)


def runs_of(flags: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a config file, or the one of the flags; flags go before the file, a run's own before both."""
    shared: dict[str, Any] = {}
    config = flags.pop("config", None)
    if config is not None:
        shared = _config(Path(config))
    runs = shared.pop("runs", [{}])
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise ConvertError(f"{config}: runs={runs!r}, expected a list of mappings")
    merged = [{**shared, **flags, **run} for run in runs]
    for run in merged:
        if unknown := sorted(set(run) - {action.dest for action in _parser()._actions}):
            raise ConvertError(f"{config}: {', '.join(unknown)}: no such setting; they are named as the flags are")
        if "file" not in run:
            raise ConvertError("no FILE given; give one, or `runs` in --config")
        if isinstance(run.get("slice"), str):
            run["slice"] = [run["slice"]]
    return merged


def _config(path: Path) -> dict[str, Any]:

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConvertError(f"--config {path}: can't be read as YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConvertError(f"--config {path}: expected a mapping of settings")
    return content


def _kind(path: Path, given: str) -> str:
    if given != "auto":
        return _one_of("format", given, FORMATS)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConvertError(f"{path}: can't tell the format by {path.suffix!r}; give --format {'|'.join(FORMATS[1:])}")
    if kind == "jsonl":
        first = next(json_lines(path), None)
        if first is not None and is_harness_row(first[1]):
            return "lm-eval"
    return kind


def _class_columns(given: Any) -> dict[str, str]:
    if isinstance(given, Mapping):
        return {str(name): str(column) for name, column in given.items()}
    columns: dict[str, str] = {}
    for one in given:
        name, equals, column = str(one).partition("=")
        if not equals or not name or name in columns:
            raise ConvertError(f"--class {one}: expected NAME=COLUMN, each name once")
        columns[name] = column
    return columns


def _names(given: Any) -> list[str] | None:
    if given is None:
        return None
    return given.split(",") if isinstance(given, str) else [str(name) for name in given]


def _one_of(key: str, value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ConvertError(f"{key}={value}: expected one of {', '.join(allowed)}")
    return value


def _count(key: str, value: Any) -> float:
    """60000000, 6e7 or 60M."""
    match = re.fullmatch(r"([\d.]+(?:e\+?\d+)?)([KMBT]?)", str(value), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError
        return float(match[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[match[2].upper()]
    except ValueError:
        raise ConvertError(f"{key}={value}: expected a number such as 60000000, 6e7 or 60M") from None


def _whole(key: str, value: Any) -> int:
    number = _count(key, value)
    if abs(number - round(number)) > 1e-6 or isinstance(value, bool):
        raise ConvertError(f"{key}={value}: expected a whole number")
    return round(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m metrics.convert",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="one run's predictions")
    parser.add_argument("--config", metavar="FILE", help="YAML or JSON with these settings, and several files at once")
    parser.add_argument("--out", metavar="PATH", help="a .parquet file, or a directory for scores-D-S-sN-SPLIT.parquet")
    parser.add_argument("--format", metavar="F", help=f"{', '.join(FORMATS)} (default: auto, by name and content)")
    run = parser.add_argument_group("the run")
    run.add_argument("--dataset", metavar="D")
    run.add_argument("--size", metavar="S", help="name of the model's size; sizes are ordered by their parameters")
    run.add_argument("--seed", metavar="N", help="which of the size's runs this is")
    run.add_argument("--parameters", metavar="N", help="how many parameters it has: 60000000, 6e7 or 60M")
    run.add_argument("--task", metavar="TASK", help=f"{', '.join(TASKS)} (default: classification)")
    run.add_argument("--split", metavar="SPLIT", help="default: test")
    run.add_argument("--flops", metavar="N", help="floating-point operations an example, for the cost axis")
    run.add_argument("--model", metavar="TEXT", help="name or digest of the model")
    columns = parser.add_argument_group("columns (not of lm-eval)")
    columns.add_argument("--target", metavar="COLUMN", help="the right class (default: target)")
    columns.add_argument("--class", metavar="NAME=COLUMN", action="append", help="a class and its values; repeat")
    columns.add_argument("--values", metavar="COLUMN", help="one column of JSON lists, or objects class -> value")
    columns.add_argument("--classes", metavar="A,B,…", help="the classes of --values, in order")
    columns.add_argument("--prediction", metavar="COLUMN", help="default: the class with the highest value")
    columns.add_argument("--id", metavar="COLUMN", help="names the example (default: the row's number)")
    columns.add_argument("--scale", metavar="SCALE", help="auto, probability or log_probability (default: auto)")
    columns.add_argument("--labels", metavar="HOW", help="labels and predictions are a `name` or an `index` from 0")
    sequences = parser.add_argument_group("columns of span_qa and translation (--target, --prediction and --id too)")
    sequences.add_argument("--correct", metavar="COLUMN", help="span_qa: true or false (default: exact match)")
    for name in TOKENS:
        flag = f"--{name.replace('_', '-')}"
        sequences.add_argument(flag, metavar="COLUMN", help=f"JSON lists (default: {name})")
    sequences.add_argument("--tokenize", metavar="T", help="translation: sacreBLEU's tokenizer (default: intl)")
    parser.add_argument(
        "--slice", metavar="COLUMN", action="append", help="a subgroup column (lm-eval: of doc); repeat"
    )
    parser.add_argument("--filter", metavar="NAME", help="lm-eval: which filter's samples, where there are several")
    return parser


if __name__ == "__main__":
    sys.exit(main())
