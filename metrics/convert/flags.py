"""Defines the flags of `python -m metrics.convert`, and the examples of its help."""

import argparse

from conf.schema import TASKS
from metrics.convert.sequences import TOKENS
from metrics.rows import FORMATS as RECORD_FORMATS

FORMATS = ("auto", *RECORD_FORMATS, "lm-eval")

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
strings); it says which it takes them for. Classes come in the order given; a directory's files of one dataset must
name the same ones. Answers (--task span_qa) and translations come with six lists of numbers a row, one entry a token,
such as token_log_probs: docs/scores.md describes them, and scores files as a whole. A translation may have several
references: a list of texts in the target's column (JSON, Parquet), or further columns, --reference. BLEU is then
sacreBLEU's of all of them. CSV may be separated by semicolons or tabs, as its header row shows. TSV has no quoting: a
quote in it is a character like others. Exit status: 0, or 1 with a message that names file and line.
"""


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of the command's flags; those that aren't given are None."""
    flags = argparse.ArgumentParser(
        prog="python -m metrics.convert",
        description=description,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument("file", nargs="?", metavar="FILE", help="one run's predictions")
    flags.add_argument("--config", metavar="FILE", help="YAML or JSON with these settings, and several files at once")
    flags.add_argument("--out", metavar="PATH", help="a .parquet file, or a directory for scores-D-S-sN-SPLIT.parquet")
    flags.add_argument("--format", metavar="F", help=f"{', '.join(FORMATS)} (default: auto, by name and content)")
    run = flags.add_argument_group("the run")
    run.add_argument("--dataset", metavar="D")
    run.add_argument("--size", metavar="S", help="name of the model's size; sizes are ordered by their parameters")
    run.add_argument("--seed", metavar="N", help="which of the size's runs this is")
    run.add_argument("--parameters", metavar="N", help="how many parameters it has: 60000000, 6e7 or 60M")
    run.add_argument("--task", metavar="TASK", help=f"{', '.join(TASKS)} (default: classification)")
    run.add_argument("--split", metavar="SPLIT", help="default: test")
    run.add_argument("--flops", metavar="N", help="floating-point operations an example, for the cost axis")
    run.add_argument("--model", metavar="TEXT", help="name or digest of the model")
    columns = flags.add_argument_group("columns (of lm-eval: --labels alone)")
    columns.add_argument("--target", metavar="COLUMN", help="the right class (default: target)")
    columns.add_argument("--class", metavar="NAME=COLUMN", action="append", help="a class and its values; repeat")
    columns.add_argument("--values", metavar="COLUMN", help="one column of JSON lists, or objects class -> value")
    columns.add_argument("--classes", metavar="A,B,…", help="the classes of --values, in order")
    columns.add_argument("--prediction", metavar="COLUMN", help="default: the class with the highest value")
    columns.add_argument("--id", metavar="COLUMN", help="names the example (default: the row's number)")
    columns.add_argument("--scale", metavar="SCALE", help="auto, probability or log_probability (default: auto)")
    columns.add_argument(
        "--labels",
        metavar="HOW",
        help="labels and predictions are a `name` or an `index` from 0 (default: name; lm-eval: what fits the log)",
    )
    sequences = flags.add_argument_group("columns of span_qa and translation (--target, --prediction and --id too)")
    sequences.add_argument(
        "--reference", metavar="COLUMN", action="append", help="translation: a further reference; repeat"
    )
    sequences.add_argument("--correct", metavar="COLUMN", help="span_qa: true or false (default: exact match)")
    for name in TOKENS:
        flag = f"--{name.replace('_', '-')}"
        sequences.add_argument(flag, metavar="COLUMN", help=f"JSON lists (default: {name})")
    sequences.add_argument("--tokenize", metavar="T", help="translation: sacreBLEU's tokenizer (default: intl)")
    flags.add_argument("--slice", metavar="COLUMN", action="append", help="a subgroup column (lm-eval: of doc); repeat")
    flags.add_argument("--text", metavar="COLUMN", help="the input text (lm-eval: of doc; default: the context)")
    flags.add_argument(
        "--cluster", metavar="COLUMN", help="what examples share that aren't independent (lm-eval: of doc)"
    )
    flags.add_argument("--filter", metavar="NAME", help="lm-eval: which filter's samples, where there are several")
    return flags
