"""Selects the rows of a source that make a split: joins labels, splits one file in two, leaves rows out."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conf.errors import EdgewiseError
from conf.overrides import hydra_text, shell_quoted
from conf.schema import AUTO, Dataset
from metrics.rows import Columns, Wanted, first_duplicate, invalid_unicode, is_carried, listed, short
from train.data.answers import gold_answers, references
from train.data.files import layout_of
from train.data.notices import print_once
from train.data.origins import ALL, Origin, Table

SPAN_QA_CLUSTER = "title"  # SQuAD's column of the article, which its questions share


@dataclass
class Selected:
    """Holds the n rows taken, under the column names that the config uses."""

    where: str  # the file, or what else to name in an error
    columns: Columns  # name -> [n]; None is a missing value
    rows: Sequence[int]  # [n], where each is in the source, from 0
    numbers: Sequence[int | str]  # [n], what `example_id` ends in: the same, the place in a drawn order, or a hash
    skipped: dict[str, int]  # why rows were left out -> how many
    cluster: list[str | None] | None = None  # [n], of the column that `dataset.cluster` names


def select(dataset: Dataset, origin: Origin, split: str, fields: Sequence[str]) -> Selected:
    """Returns the rows of a split with the columns `fields` (the template's), the label, example_id and slices.

    Raises EdgewiseError where the source lacks a column, or no row is left.
    """
    aliases = dict(dataset.columns) if isinstance(dataset.columns, dict) else {}
    required = list(dict.fromkeys([*fields, dataset.label_column]))
    wanted = _wanted(dataset, required, aliases)
    part = ALL if split != "validation" and ALL in origin.parts() else split
    table = origin.table(part, wanted)
    aliases = _read_as_meant(aliases, table.names, required)
    table = _renamed(table, aliases)
    rows: Sequence[int] = range(_length(table.columns))
    skipped: Counter[str] = Counter()
    labels = origin.labels(part, wanted)
    if labels is not None:
        table, rows = _joined(dataset, table, _renamed(labels, aliases), skipped)
    _check_names(table, required, dataset)
    columns = {name: values for name, values in table.columns.items() if name in required or is_carried(name)}
    named = _cluster_column(dataset, table)
    cluster = None if named is None else table.columns[named]  # apart: how one file is split doesn't depend on it
    if not rows:
        raise EdgewiseError(
            f"{table.where}: no rows; expected at least one example under the columns {listed(table.names)}"
        )
    numbers: Sequence[int | str] = rows
    if part == ALL:
        by_text = dataset.split_by == "text"
        places, numbers = (
            _drawn_by_text(dataset, columns, split, fields) if by_text else _drawn(dataset, columns, split)
        )
        rows = [rows[place] for place in places]
        columns = _rows_of(columns, places)
        cluster = None if cluster is None else [cluster[place] for place in places]
    selected = Selected(table.where, columns, rows, numbers, {}, cluster)
    return _without(selected, _reasons(dataset, origin.lenient, columns, fields), skipped)


def _wanted(dataset: Dataset, required: Sequence[str], aliases: dict[str, str]) -> Wanted:
    """Returns which columns to read of the source: the required ones, under whichever of their names it has them."""
    further = [dataset.join_column, SPAN_QA_CLUSTER if dataset.cluster == AUTO else dataset.cluster]
    names = frozenset([*required, *aliases, *aliases.values(), *(name for name in further if name)])
    if dataset.task == "classification":
        return Wanted(names)
    label = dataset.label_column
    return Wanted(names, lists=frozenset([label, *(there for there, here in aliases.items() if here == label)]))


def _without(selected: Selected, reasons: Mapping[int, str], skipped: Counter[str]) -> Selected:
    """Leaves out the rows (from 0) that have a reason, and counts them beside what has been `skipped` before.

    Raises EdgewiseError where no row is left.
    """
    if not reasons:
        return replace(selected, skipped=dict(skipped))
    total = skipped + Counter(reasons.values())
    kept = [i for i in range(len(selected.rows)) if i not in reasons]
    if not kept:
        raise EdgewiseError(f"{selected.where}: every row is left out ({counts(total)}); expected labelled rows")
    return Selected(
        where=selected.where,
        columns=_rows_of(selected.columns, kept),
        rows=[selected.rows[i] for i in kept],
        numbers=[selected.numbers[i] for i in kept],
        skipped=dict(total),
        cluster=None if selected.cluster is None else [selected.cluster[i] for i in kept],
    )


def _cluster_column(dataset: Dataset, table: Table) -> str | None:
    """Returns the column that says what rows share, None for none; EdgewiseError for one that is named and missing."""
    if dataset.cluster == AUTO:
        there = dataset.task == "span_qa" and SPAN_QA_CLUSTER in table.columns
        return SPAN_QA_CLUSTER if there else None
    if dataset.cluster is not None and dataset.cluster not in table.columns:
        raise EdgewiseError(
            f"{table.where}: no column {short(repr(dataset.cluster))}, which dataset.cluster names; "
            f"found {listed(table.names)}"
        )
    return dataset.cluster


def selection_settings(dataset: Dataset) -> dict[str, Any]:
    """Returns the settings that choose or rename rows, where there are any; JSON values."""
    settings: dict[str, Any] = {
        "columns": dataset.columns,
        "separator": layout_of(dataset).separator,
        "join_column": dataset.join_column,
        "drop_labels": list(map(str, dataset.drop_labels)) if dataset.drop_labels else None,
    }
    if dataset.test_share is not None:
        settings |= {"test_share": dataset.test_share, "split_seed": dataset.split_seed}
        if dataset.split_by != "row":  # which was the only way once: its sources keep their digests
            settings["split_by"] = dataset.split_by
    return {key: value for key, value in settings.items() if value is not None}


def counts(skipped: Mapping[str, int]) -> str:
    """Writes counts as `label -1: 89,186, no text: 3`."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in skipped.items())


def _length(columns: Columns) -> int:
    """Counts the rows of columns."""
    return len(next(iter(columns.values()), ()))


def _rows_of(columns: Columns, rows: Sequence[int]) -> Columns:
    """Returns these rows (from 0) of the columns, in the order given."""
    return {name: [values[i] for i in rows] for name, values in columns.items()}


def _renamed(table: Table, aliases: dict[str, str]) -> Table:
    """Renames columns as `aliases` says, unless the source has a column of the new name already."""
    for there, here in aliases.items():
        if there in table.names and here not in table.names:
            names = [here if name == there else name for name in table.names]
            columns = {here if name == there else name: values for name, values in table.columns.items()}
            table = Table(table.where, names, columns)
    return table


def _read_as_meant(aliases: dict[str, str], names: Sequence[str], required: Sequence[str]) -> dict[str, str]:
    """Returns the names of columns (the file's -> ours), with each pair turned round that only fits so; says which."""
    meant: dict[str, str] = {}
    for there, here in aliases.items():
        turned = there in required and there not in names and here in names and here not in required
        if turned:
            print_once(
                f"note: dataset.columns: {{{there}: {here}}} is read as {{{here}: {there}}}, because the file has a "
                f"column {here} and none of the name {there}; the file's name goes first"
            )
        meant |= {here: there} if turned else {there: here}
    return meant


def _joined(dataset: Dataset, table: Table, labels: Table, skipped: Counter[str]) -> tuple[Table, list[int]]:
    """Joins rows with the labels of another file; returns them and their places, and counts those without a label."""
    key, label = dataset.join_column, dataset.label_column
    assert key is not None
    _check_names(table, [key], dataset, joins=False)
    _check_names(labels, [key, label], dataset, joins=False)
    keys = labels.columns[key]
    label_of = dict(zip(keys, labels.columns[label], strict=True))
    if len(label_of) < len(keys):
        twice = next(name for name, count in Counter(keys).items() if count > 1)
        raise EdgewiseError(f"{labels.where}: two rows have the same {key} {short(repr(twice))}")
    rows = [i for i, name in enumerate(table.columns[key]) if name in label_of]
    if absent := len(table.columns[key]) - len(rows):
        skipped["no label"] += absent
    if not rows:
        raise EdgewiseError(
            f"{table.where}: none of its {absent:,} rows has a label in {labels.where}; the two are joined on {key}"
        )
    columns = _rows_of(table.columns, rows)
    columns[label] = [label_of[name] for name in columns[key]]
    return Table(table.where, list(dict.fromkeys([*table.names, label])), columns), rows


def _drawn(dataset: Dataset, columns: Columns, split: str) -> tuple[Sequence[int], Sequence[int]]:
    """Returns the rows on one side of a random split of n rows, in the order of their hashes, and their places there.

    A row's hash is of `split_seed`, its values, and the number of equal rows before it. The test split are the
    round(`test_share` * n) rows with the lowest hashes. So the same rows in another order give the same splits in the
    same order, and equal rows are drawn independently of each other.
    """
    assert dataset.test_share is not None
    seen: Counter[bytes] = Counter()
    hashes: list[tuple[bytes, int]] = []
    names = sorted(columns)
    for i, row in enumerate(zip(*(columns[name] for name in names), strict=True)):
        key = hashlib.sha256(json.dumps([dataset.split_seed, names, row]).encode()).digest()
        seen[key] += 1
        hashes.append((hashlib.sha256(key + seen[key].to_bytes(8, "big")).digest(), i))
    order = [i for _, i in sorted(hashes)]
    cut = round(dataset.test_share * len(order))
    chosen = order[:cut] if split == "test" else order[cut:]
    if not chosen:
        raise EdgewiseError(
            f"dataset.test_share={dataset.test_share}: none of {len(order)} rows is left for {split}; give more rows"
        )
    return chosen, range(len(chosen))


def _drawn_by_text(
    dataset: Dataset, columns: Columns, split: str, fields: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Returns the rows on one side of a split by text, in the order of their hashes, and 16 hex digits of each hash.

    A text's side follows from its hash with `split_seed` alone: rows of one text are on one side, and rows that are
    added move no other. White space doesn't count. A row's own hash is of its text, its label, its further values and
    the number of equal rows before it, so that the order of the rows in the file changes nothing.
    """
    assert dataset.test_share is not None
    names = sorted(set(columns) - set(fields))
    boundary, is_test = int(dataset.test_share * 2**64), split == "test"
    seen: Counter[bytes] = Counter()
    chosen: list[tuple[str, int]] = []
    texts = zip(*(columns[name] for name in sorted(fields)), strict=True)
    others: Iterable[tuple[str | None, ...]] = zip(*(columns[name] for name in names), strict=True)
    for i, (text, other) in enumerate(zip(texts, others, strict=True)):
        words = [" ".join((value or "").split()) for value in text]
        of_text = hashlib.sha256(json.dumps([dataset.split_seed, words]).encode()).digest()
        if (int.from_bytes(of_text[:8], "big") < boundary) != is_test:
            continue
        key = hashlib.sha256(of_text + json.dumps([names, text, other]).encode()).digest()
        seen[key] += 1
        chosen.append((hashlib.sha256(key + seen[key].to_bytes(8, "big")).hexdigest()[:16], i))
    if not chosen:
        raise EdgewiseError(
            f"dataset.test_share={dataset.test_share}: none of {_length(columns)} rows is left for {split}; give more "
            "rows, or another dataset.split_seed"
        )
    chosen.sort()
    return [i for _, i in chosen], [digest for digest, _ in chosen]


def _reasons(dataset: Dataset, lenient: bool, columns: Columns, fields: Sequence[str]) -> dict[int, str]:
    """Returns why rows are left out, by row (from 0). Fills `columns` up: a row may lack some fields, but not all."""
    if dataset.task != "classification":
        return _unusable(dataset, lenient, columns, fields)
    labels = columns[dataset.label_column]
    dropped: set[str | None] = set(map(str, dataset.drop_labels or ()))
    if "" in dropped:  # as in a file of CSV, so in one of JSON or Parquet, which has null there
        dropped.add(None)
    reasons = {i: f"label {label}" if label else "no label" for i, label in enumerate(labels) if label in dropped}
    if not lenient:
        return reasons
    for i, label in enumerate(labels):
        if label is None:
            reasons.setdefault(i, f"no {dataset.label_column}")
    for i, values in enumerate(zip(*(columns[name] for name in fields), strict=True)):
        if all(value is None for value in values):
            reasons.setdefault(i, f"no {' or '.join(fields)}")
        elif any(value and invalid_unicode(value) for value in values):
            reasons.setdefault(i, "not valid Unicode")
    for name in fields:
        if name != dataset.label_column:
            columns[name] = ["" if value is None else value for value in columns[name]]
    return reasons


def _unusable(dataset: Dataset, lenient: bool, columns: Columns, fields: Sequence[str]) -> dict[int, str]:
    """Returns why rows are left out, by row (from 0), where the target is text.

    Questions that nobody answered and sentences that nobody translated are common, in files as on the Hub, and say
    nothing about a model.
    """
    label = dataset.label_column
    translation = dataset.task == "translation"
    reasons: dict[int, str] = {}
    for name in fields:
        for i, value in enumerate(columns[name]):
            if value is None or (translation and not value.strip()):
                reasons.setdefault(i, f"no {name}")
            elif lenient and invalid_unicode(value):
                reasons.setdefault(i, "not valid Unicode")
    for i, value in enumerate(columns[label]):
        if not (references(value) if translation else _answered(value)):
            reasons.setdefault(i, f"no {label}")
        elif lenient and invalid_unicode(value or ""):
            reasons.setdefault(i, "not valid Unicode")
    return reasons


def _answered(value: str | None) -> bool:
    """Returns whether a value holds a gold answer, or something that can't be read as answers."""
    try:
        return bool(gold_answers(value))
    except ValueError:  # whoever reads the answers says so, with the row
        return True


def _check_names(table: Table, required: Sequence[str], dataset: Dataset, joins: bool = True) -> None:
    """Raises EdgewiseError where a name is missing, empty or there twice, or a required column is missing.

    `joins`: whether labels may be put beside the table, in a file of their own.
    """
    where, names = table.where, table.names
    # pandas writes its index as a first column without a name: nobody can ask for it, so it does no harm.
    if "" in names[1:]:
        raise EdgewiseError(f"{where}: column {names.index('', 1) + 1} has no name; found {listed(names)}")
    if duplicated := first_duplicate(names):
        raise EdgewiseError(f"{where}: two columns are named {duplicated!r}; rename or drop one")
    missing = [name for name in required if name not in names]
    if missing:
        raise EdgewiseError(
            f"{where}: no column {listed(missing)}; found {listed(names) or 'none'}. {_how_to_name(table, missing)}"
            + (
                f", or put the labels beside it, in a SPLIT_labels file with {dataset.join_column}"
                if joins and dataset.join_column
                else ""
            )
        )


def _how_to_name(table: Table, missing: Sequence[str]) -> str:
    """Returns what to do about columns that are missing under their names."""
    if "paragraphs" in table.names:
        return (
            "These are articles, as SQuAD itself is laid out, with questions inside paragraphs; give a row for each "
            "question, with the columns question, context and answers, as rajpurkar/squad has it on the Hub"
        )
    padded = {name.strip(): name for name in table.names if name != name.strip()}
    if found := [padded[name] for name in missing if name in padded]:
        pairs = ", ".join(f"{hydra_text(name)}: {name.strip()}" for name in found)
        return (
            f"{listed(found)} has white space at an end: take it out of the header row, or give "
            f"{shell_quoted(f'dataset.columns={{{pairs}}}')}"
        )
    how = "Name the columns in dataset.template and dataset.label_column (is there a header row?"
    if table.where.endswith((".csv", ".tsv")) and len(table.names) >= 2:
        places = [*missing, *(f"unused_{i}" for i in range(1, len(table.names)))][: len(table.names)]
        how += f" If not, name all columns in the file's order, such as 'dataset.columns=[{', '.join(places)}]'"
    return how + ")"
