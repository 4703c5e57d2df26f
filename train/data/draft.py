"""Drafts a dataset's config from its files: which column is the text, which the label, and what the classes are."""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from conf.errors import EdgewiseError
from conf.names import checked_name
from conf.schema import Dataset, Recipe
from metrics.rows import Layout, Wanted, is_carried, listed, read_records, separator_name
from train.data.columns import MOST_CLASSES, PAIRS, Column, columns_of
from train.data.origins import ALL, Folder
from train.data.recipe import RECIPE_OF_PAIRS, recipe_of_classes
from train.data.source import Source
from train.data.survey import survey

HELD_OUT = 0.2  # of one file alone
LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "intent",
    "verdict",
    "stars",
    "rating",
    "y",
)
LENGTHS = (64, 128, 256, 512)  # tokens of an input
TOKENS_A_WORD = 3  # of a vocabulary of 512 pieces, about
T5_LANGUAGES = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}  # those of T5's pre-training


@dataclass(frozen=True)
class Draft:
    """Holds a dataset's config, and what was seen in its files: a line for a person each."""

    dataset: Dataset
    seen: list[str]


def draft(path: Path, name: str | None = None, text: str | None = None, label: str | None = None) -> Draft:
    """Returns the config of the dataset in a folder, or in one file, and what was seen there.

    `text` and `label` name the columns where they are not to be guessed. All rows are read, as training will read them.
    Raises EdgewiseError for files and names that can't be used, where no column could be the label, and for rows that
    training would refuse.
    """
    path = path.expanduser().absolute()
    chosen = checked_name("--name", re.sub(r"[^A-Za-z0-9_]+", "_", path.stem).strip("_")) if name is None else name
    dataset = Dataset(name=checked_name("--name", chosen), path=str(path), test_share=HELD_OUT)
    folder = Folder(dataset)
    files = folder.files()
    if ALL not in files:
        folder.table("train", Wanted(frozenset()))  # raises where there is none, and says what there is
    dataset = dataclasses.replace(dataset, test_share=HELD_OUT if ALL in files else None)
    seen = [f"{split}: {file.name}" for split, file in files.items() if split != ALL]
    first = files.get("train") or files[ALL]
    layout, columns = columns_of(first)
    if layout.separator is not None:
        dataset = dataclasses.replace(dataset, separator=layout.separator)
        seen.append(f"{first.name}: a {separator_name(layout.separator)} separates its values")
    rows = columns[0].rows if columns else 0
    seen.append(f"{first.name}: {rows:,} rows, columns {listed([column.name for column in columns])}")
    if (sequences := _sequences(dataset, columns, text, label)) is not None:
        dataset = sequences
        seen.append(f"the columns of {dataset.task}: {dataset.template} -> {dataset.label_column}")
    else:
        if not rows:
            raise EdgewiseError(f"{first}: no rows, only a header; expected a row for each labelled text")
        label_column = _label_column(first, columns, label, text)
        text_column = _text_column(first, columns, text, label_column)
        if layout.names is not None:
            roles = {label_column.name: "label", text_column.name: "text"}
            names = [roles.get(column.name, column.name) for column in columns]
            dataset = dataclasses.replace(dataset, columns=names)
            seen.append(f"{first.name}: no header row, so its columns are called {listed(names)}")
            label_column.name, text_column.name = "label", "text"
        for split, file in files.items():
            if file != first:
                _count_labels(file, layout, label_column, columns, split)
        dataset = _classified(dataset, text_column, label_column, rows)
        seen += _said_of_classes(dataset, text_column, label_column)
        others = [column.name for column in columns if column is not label_column and _may_be_label(column)]
        if others and label is None:
            seen.append(f"--label COLUMN takes another label, such as {listed(others)}")
    if ALL in files:
        seen.append(f"no test file: {HELD_OUT:.0%} of the rows are held out for test, by a hash of their text")
    dataset.check()
    found = survey(Source(dataset), dataset)
    found.check()
    seen += [f"{name}: {split.rows:,} rows" for name, split in found.splits.items()]
    return Draft(dataset, seen + found.notices())


def _sequences(dataset: Dataset, columns: Sequence[Column], text: str | None, label: str | None) -> Dataset | None:
    """Returns the config of questions or of sentence pairs, where the columns have the names of such; else None."""
    names = {column.name for column in columns}
    languages = [column.name.removeprefix(f"{PAIRS}.") for column in columns if column.name.startswith(f"{PAIRS}.")]
    if len(languages) == 2 and {text, label} <= {*languages, None}:
        source = text or next(language for language in languages if language != label)
        [target] = set(languages) - {source}
        asked = [T5_LANGUAGES.get(language) for language in (source, target)]
        task = "" if None in asked else f"translate {asked[0]} to {asked[1]}: "
        renamed = {f"{PAIRS}.{language}": language for language in languages}
        return _pairs(dataset, f"{task}{{{source}}}", target, renamed)
    if text is not None or label is not None:
        return None
    if {"question", "context", "answers"} <= names:
        renamed = {"id": "example_id"} if "id" in names else {}
        return dataclasses.replace(
            dataset,
            task="span_qa",
            columns=renamed | {"answers.text": "answers"},
            label_column="answers",
            template="question: {question} context: {context}",
            max_target_length=97,
            recipe=Recipe(steps=2000),
        )
    if {"source", "target"} <= names and next(c for c in columns if c.name == "target").distinct > MOST_CLASSES:
        return _pairs(dataset, "{source}", "target", None)
    return None


def _pairs(dataset: Dataset, template: str, target: str, columns: dict[str, str] | None) -> Dataset:
    """Returns the config of sentence pairs."""
    return dataclasses.replace(
        dataset,
        task="translation",
        columns=columns,
        label_column=target,
        template=template,
        max_input_length=256,
        max_target_length=256,
        recipe=RECIPE_OF_PAIRS,
    )


def _label_column(file: Path, columns: Sequence[Column], label: str | None, text: str | None) -> Column:
    """Returns the column of labels: the one named, one that is called so, or the one of the fewest distinct values."""
    if label is not None:
        named = _named(file, columns, label, "--label")
        if not _has_classes(named):
            raise EdgewiseError(
                f"--label {label}: {file} has {_count_of_values(named)} in it; expected 2 to {MOST_CLASSES} classes, "
                "each there about twice or more"
            )
        return named
    possible = [column for column in columns if _may_be_label(column) and column.name != text]
    for name in LABEL_NAMES:
        for column in possible:
            if column.name.strip().lower() == name:
                return column
    if possible:
        return min(possible, key=lambda column: column.distinct)
    counts = ", ".join(f"{column.name} has {column.distinct}" for column in columns)
    raise EdgewiseError(
        f"{file}: no column could be the label: expected one of 2 to {MOST_CLASSES} distinct values, each there about "
        f"twice or more ({counts}). Name it: --label COLUMN"
    )


def _may_be_label(column: Column) -> bool:
    return not (is_carried(column.name) or column.is_nested) and _has_classes(column)


def _has_classes(column: Column) -> bool:
    """Tells whether a column has 2 to MOST_CLASSES values, each about twice or more."""
    there = column.rows - column.missing
    return 2 <= column.distinct <= min(MOST_CLASSES, max(2, there // 2))


def _text_column(file: Path, columns: Sequence[Column], text: str | None, label: Column) -> Column:
    """Returns the column of texts: the one named, or the one of the longest values."""
    if text is not None:
        named = _named(file, columns, text, "--text")
        if named is label:
            raise EdgewiseError(f"--text {text}: it is the label too; name another column, or give --label COLUMN")
        return named
    others = [column for column in columns if column is not label and not is_carried(column.name) and column.name]
    others = [column for column in others if not column.is_nested]
    if not others:
        raise EdgewiseError(
            f"{file}: no column of text beside {label.name}; found {listed([column.name for column in columns])}"
        )
    return max(others, key=lambda column: column.mean_characters)


def _count_of_values(column: Column) -> str:
    """Writes how many distinct values a column has; of very many only that there are more than could be classes."""
    if column.distinct > MOST_CLASSES:
        return f"more than {MOST_CLASSES:,} distinct values"
    return "one value alone" if column.distinct == 1 else f"{column.distinct:,} distinct values"


def _named(file: Path, columns: Sequence[Column], name: str, flag: str) -> Column:
    for column in columns:
        if column.name == name:
            return column
    raise EdgewiseError(
        f"{flag} {name}: {file} has no such column; found {listed([column.name for column in columns])}"
    )


def _count_labels(file: Path, layout: Layout, label: Column, columns: Sequence[Column], split: str) -> None:
    """Counts the labels of another split's file into the label's column."""
    kind = file.suffix[1:]
    layout = layout if kind == "csv" else Layout(names=layout.names if kind == "tsv" else None)
    name = label.name if layout.names is None else layout.names[columns.index(label)]
    found: dict[str, None] = {}
    for _, row in read_records(file, kind, layout=layout):
        found.update(dict.fromkeys(row))
        label.add(row.get(name))
    if name not in found and split != "validation":  # rows of JSON may lack it, but not all of them
        raise EdgewiseError(f"{file}: no column {label.name}; found {listed(list(found))}")


def _classified(dataset: Dataset, text: Column, label: Column, rows: int) -> Dataset:
    """Returns the config of a classification with these columns; `rows` are those of its first file."""
    template = "{" + text.name + "}"
    if re.search(r"[{}:!]", text.name) or text.name.isdigit():  # which the template would read otherwise
        dataset = dataclasses.replace(dataset, columns={text.name: "text"} | (dataset.columns or {}))
        template = "{text}"
    longest = TOKENS_A_WORD * _quantile(text.words, 0.95)
    return dataclasses.replace(
        dataset,
        label_column=label.name,
        classes={value: value for value in _in_order(label.values)},
        template=template,
        drop_labels=[""] if label.missing else None,
        max_input_length=next((length for length in LENGTHS if length >= longest), LENGTHS[-1]),
        recipe=recipe_of_classes(rows, text, list(label.values)),
    )


def _said_of_classes(dataset: Dataset, text: Column, label: Column) -> list[str]:
    counts = ", ".join(f"{value!r} {label.values[value]:,}" for value in list(dataset.classes)[:10])
    more = f" and {len(dataset.classes) - 10} more" if len(dataset.classes) > 10 else ""
    lines = [
        f"text: {text.name}, {text.mean_words:.0f} words on average; up to {dataset.max_input_length} tokens are read",
        f"label: {label.name}, {len(dataset.classes)} classes: {counts}{more}",
    ]
    if label.missing:
        lines.append(f"{label.missing:,} rows have no label and are left out")
    return lines


def _in_order(values: Collection[str]) -> list[str]:
    """Returns labels in order: by their numbers where all are numbers, else by the alphabet."""
    if all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values):
        return sorted(values, key=float)
    return sorted(values)


def _quantile(counts: Counter[int], share: float) -> int:
    """Returns the least value that at least `share` (0-1) of the counted ones do not exceed; 0 where there is none."""
    total, below = sum(counts.values()), 0
    for value in sorted(counts):
        below += counts[value]
        if below >= share * total:
            return value
    return 0
