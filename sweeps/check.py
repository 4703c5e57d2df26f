"""Checks the data of a grid before its first cell, and says what it holds: shortly, or all with `sweeps.check=true`.

Starts without JAX: only `print_checks` takes a step of each size, to say how long the grid will take.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conf.errors import EdgewiseError
from conf.schema import Config
from metrics.text_baseline import NAME, TextBaseline
from sweeps.cell import is_done
from tracking.printing import in_hours, open_console
from train.data.encodings import kept_encoding
from train.data.notices import print_once
from train.data.source import source_of
from train.data.splits import Split
from train.data.survey import SplitSurvey, Survey, survey
from train.data.tokens import UNK, Vocabulary, check_targets, get_vocabulary
from train.pretrained.find import resolved
from train.text_baseline import text_baseline
from train.validation import check_validation, evaluation_split, warn_of_no_validation

SAMPLE = 2000  # texts of a split that are encoded for the check, where it has not been encoded yet
SHOWN_CLASSES = 12


@dataclass(frozen=True)
class TokenCheck:
    """Says how a split's inputs fit the model: of all `rows`, or of a sample of `looked_at` that is evenly spread."""

    rows: int
    looked_at: int
    cut: float  # the share of inputs, 0-1, that are longer than `dataset.max_input_length` tokens
    unknown: float  # the share of tokens, 0-1, for which the vocabulary has no piece


@dataclass(frozen=True)
class DataCheck:
    """Holds what was found of one dataset; `survey` is None where all its cells are done, and nothing was read."""

    name: str
    cells: int
    to_do: list[Config]  # resolved
    survey: Survey | None = None
    tokens: dict[str, TokenCheck] | None = None  # by split
    baseline: TextBaseline | None = None  # what a bag of words reaches on the scored split; None without classes


def check_data(configs: Sequence[Config]) -> list[DataCheck]:
    """Checks the datasets of a grid's cells, whose `configs` are resolved, in the order of their first cells.

    A dataset is read where a cell of it is to do. Raises EdgewiseError where one can't be trained on; where several
    can't, the others are printed on stderr.
    """
    cells_of: dict[str, list[Config]] = {}
    for config in configs:
        cells_of.setdefault(config.dataset.name, []).append(config)
    checks, errors = [], []
    for name, cells in cells_of.items():
        to_do = [cell for cell in cells if cell.force or not is_done(cell)]
        try:
            checks.append(_check_dataset(name, len(cells), to_do))
        except EdgewiseError as error:
            errors.append(error)
    for another in errors[1:]:
        print(f"error: {another}", file=sys.stderr)
    if errors:
        raise errors[0]
    return checks


def _check_dataset(name: str, cells: int, to_do: list[Config]) -> DataCheck:
    """Reads and checks a dataset, by the settings of its first cell that is to do."""
    if not to_do:
        return DataCheck(name, cells, to_do)
    config = to_do[0]
    dataset, source = config.dataset, source_of(config.dataset)
    for split_name in dict.fromkeys(["train", *(cell.infer.split for cell in to_do)]):
        source.split(split_name)  # raises where it is not there
    found = survey(source, dataset)
    found.check()
    for cell in to_do:
        check_validation(cell.train, name, source.names)
    cache = Path(config.tracking.root)
    tokens: dict[str, TokenCheck] = {}
    # Else its checkpoint has the vocabulary, and can't be read: the cell says why.
    if config.tokenizer.source != "file" or config.tokenizer.path is not None:
        free_text = dataset.task != "classification"
        targets = (dataset.classes or {}).values()
        train = source.split("train")
        vocabulary = get_vocabulary(config.tokenizer, train, cache / "tokenizers", free_text, targets)
        if not free_text:
            check_targets(vocabulary, dataset.classes)
        tokens = {split: _check_tokens(vocabulary, source.split(split), config, cache) for split in source.names}
    return DataCheck(name, cells, to_do, found, tokens, text_baseline(source, config.infer.split, cache))


def _check_tokens(vocabulary: Vocabulary, split: Split, config: Config, cache: Path) -> TokenCheck:
    """Counts what is cut and what is unknown in a split's inputs: in the kept encoding, else in a sample's."""
    rows, longest = len(split), config.dataset.max_input_length
    encoded = kept_encoding(vocabulary, split, longest, cache / "encodings")
    if encoded is None:
        taken = min(rows, SAMPLE)
        encoded = vocabulary.encode([split.inputs[i * rows // taken] for i in range(taken)], longest)
    looked_at = max(len(encoded), 1)
    unknown = float((encoded.flat == UNK).sum()) / max(len(encoded.flat), 1)
    return TokenCheck(rows, len(encoded), encoded.truncated / looked_at, unknown)


def print_check_lines(checks: Sequence[DataCheck]) -> None:
    """Prints what a sweep says before its first cell: a line a dataset, and what is odd in its rows."""
    console = open_console()
    for check in checks:
        console.print(check_line(check))
        if check.baseline is not None:
            console.print(baseline_line(check.name, check.baseline, check.to_do[0].infer.split))
        _print_notices(check)


def baseline_line(name: str, baseline: TextBaseline, split: str) -> str:
    """Returns the line that says what a run on the dataset `name` should beat."""
    return (
        f"{name}: a run should beat {_percent(baseline.accuracy)} of {split}, what {NAME} reaches from "
        f"{baseline.learned_from}"
    )


def check_line(check: DataCheck) -> str:
    """Returns the line that sums up a dataset's check."""
    if check.survey is None or check.tokens is None:
        return f"{check.name}: nothing to do, {_count(check.cells, 'cell')} done"
    config = check.to_do[0]
    splits = check.survey.splits
    parts = [
        f"{check.name}: {len(check.to_do):,} of {_count(check.cells, 'cell')} to do",
        "rows: " + ", ".join(f"{name} {split.rows:,}" for name, split in splits.items()),
    ]
    scored = config.infer.split if config.infer.split in splits else "train"
    if (majority := splits[scored].majority) is not None:
        parts.append(f"always {majority[0]!r} is right in {_percent(majority[1])} of {scored}")
    if not check.tokens:
        return "; ".join(parts)
    cut = max(one.cut for one in check.tokens.values())
    unknown = max(one.unknown for one in check.tokens.values())
    longest = f"{config.dataset.max_input_length} tokens"
    fits = f"up to {_percent(cut)} of a split's inputs are cut at {longest}" if cut else f"no input is cut at {longest}"
    pieces = f"up to {_percent(unknown, 2)} of its tokens are <unk>" if unknown else "no token is <unk>"
    parts.append(f"{fits}, {pieces}{_sample_note(check)}")
    return "; ".join(parts)


def print_checks(checks: Sequence[DataCheck]) -> None:
    """Prints all that was found, then takes a few steps of each size and prints how long the cells to do will take."""
    console = open_console()
    for check in checks:
        if check.survey is None or check.tokens is None:
            console.print(check_line(check))
            continue
        console.print(_splits_table(check))
        for name, split in check.survey.splits.items():
            if split.classes:
                console.print(f"classes of {name}: {_class_balance(split)}")
        if note := _sample_note(check):
            console.print(f"cut and <unk>{note}")
        if check.baseline is not None:
            console.print(baseline_line(check.name, check.baseline, check.to_do[0].infer.split))
        _print_notices(check)
    to_do = [cell for check in checks for cell in check.to_do]
    if to_do:
        _print_times(to_do, console)


def _splits_table(check: DataCheck) -> Table:
    """Returns a row a split: what it holds, and how it fits the model."""
    assert check.survey is not None and check.tokens is not None
    longest = check.to_do[0].dataset.max_input_length
    heads = ("rows", "left out", "no text", "repeated", "in train too", f"cut at {longest}", "<unk>")
    table = Table(title=Text(f"{check.name}: {len(check.to_do):,} of {_count(check.cells, 'cell')} to do"))
    table.add_column("split")
    for head in heads:
        table.add_column(Text(head), justify="right")
    for name, split in check.survey.splits.items():
        counts = (split.rows, split.skipped, split.empty, split.repeated, split.in_train)
        token = check.tokens.get(name)
        fits = ("–", "–") if token is None else (_percent(token.cut), _percent(token.unknown, 2))
        table.add_row(name, *(f"{count:,}" for count in counts), *fits)
    return table


def _class_balance(split: SplitSurvey) -> str:
    """Returns the classes of a split with their shares, the most frequent first."""
    ranked = sorted(split.classes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{target} {_percent(count / split.rows)}" for target, count in ranked[:SHOWN_CLASSES])
    more = len(ranked) - SHOWN_CLASSES
    return shown + (f", and {_count(more, 'more class', 'more classes')}" if more > 0 else "")


def _print_notices(check: DataCheck) -> None:
    """Prints what is odd in the rows, as a training would, which then does not repeat it."""
    if check.survey is None:
        return
    for line in check.survey.notices():
        print_once(line)
    if any(cell.train.eval_every for cell in check.to_do):
        warn_of_no_validation(check.name, evaluation_split(list(check.survey.splits), check.to_do[0].infer.split))


def _sample_note(check: DataCheck) -> str:
    """Returns of how many rows cut and unknown tokens were counted, where it was not of all."""
    sampled = [name for name, one in (check.tokens or {}).items() if one.looked_at < one.rows]
    return f" (of {SAMPLE:,} rows of {' and '.join(sampled)}, evenly spread)" if sampled else ""


def _print_times(cells: Sequence[Config], console: Console) -> None:
    """Measures each dataset and size and prints what the cells that are to do will take, one after the other."""
    from sweeps.measure import measure  # JAX starts here

    logging.getLogger("jax").setLevel(logging.WARNING)  # Hydra shows what it says of backends that are not there
    groups: dict[tuple[str, str], list[Config]] = {}
    for cell in cells:
        groups.setdefault((cell.dataset.name, cell.size.name), []).append(cell)
    table = Table(title="time")
    for head in (
        "dataset",
        "size",
        "cells to do",
        "steps",
        "s/step",
        "training a cell",
        "scoring it",
        "compiling",
        "all cells",
    ):
        table.add_column(head, justify="left" if head in ("dataset", "size") else "right")
    total, compiling = 0.0, 0.0
    for (dataset, size), group in groups.items():
        print(f"{dataset} {size}: measuring …", file=sys.stderr, flush=True)
        try:
            taken = measure(resolved(group[0]))
        except EdgewiseError as error:
            console.print(f"{dataset} {size}: could not be measured: {error}")
            continue
        training = taken.step_seconds * group[0].train.steps
        scoring = taken.scoring_seconds
        all_cells = len(group) * (training + (scoring or 0.0))
        total, compiling = total + all_cells, compiling + taken.compile_seconds
        table.add_row(
            Text(dataset),
            Text(size),
            f"{len(group):,}",
            f"{group[0].train.steps:,}",
            f"{taken.step_seconds:.3g}",
            in_hours(training),
            "–" if scoring is None else in_hours(scoring),
            in_hours(taken.compile_seconds),
            in_hours(all_cells),
        )
    console.print(table)
    answers = "" if all(cell.dataset.task == "classification" for cell in cells) else ", without the written answers"
    console.print(
        f"about {in_hours(total)} for {_count(len(cells), 'cell')} one after the other{answers}, and "
        f"{in_hours(compiling)} of compiling, which a size does once: an estimate for this machine, from a few steps"
    )


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _count(n: int, noun: str, plural: str | None = None) -> str:
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
