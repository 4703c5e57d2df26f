"""Turns other people's answers and translations, with their tokens' values, into scores.

The tokens' values are JSON lists with one entry a token, EOS included: natural log-probability, margin p₁ - p₂ and
entropy in nats over the whole vocabulary, once in the gold answer's context and once in that of the model's own output.
Columns have the names of the scores schema unless flags say otherwise.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.convert.cells import cell_of, optional_text, text_of
from metrics.convert.examples import ConvertError, Report, RunInfo, checked_unicode, optional_column, slices_of
from metrics.rows import Record
from metrics.scores import Scores, TokenScores
from metrics.statistics.text import bleu_signature, bleu_statistics, exact_match

TOKENS = tuple(
    f"{prefix}{name}" for prefix in ("", "self_") for name in ("token_log_probs", "token_margins", "token_entropies")
)


@dataclass
class SequenceColumns:
    """Names the columns that hold answers, predictions and the tokens' values."""

    target: str = "target"  # a string, or a list of gold answers or references, the first of which is the target
    references: list[str] = field(default_factory=list)  # of translation: columns of further references
    prediction: str = "prediction"
    correct: str | None = None  # of span QA; None: exact match after SQuAD's normalisation with any gold
    example_id: str | None = None
    slices: list[str] = field(default_factory=list)
    text: str | None = None
    cluster: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)  # name in the schema -> column, where it differs
    tokenize: str = "intl"  # sacreBLEU's tokenizer

    @property
    def read(self) -> list[str]:
        """Returns the names of all columns to read."""
        tokens = [self.tokens.get(name, name) for name in TOKENS]
        optional = [self.correct, self.example_id, self.text, self.cluster]
        names = [self.target, *self.references, self.prediction, *optional, *self.slices, *tokens]
        return list(dict.fromkeys(name for name in names if name is not None))


def sequence_scores(
    rows: Iterator[Record], columns: SequenceColumns, task: str, info: RunInfo, report: Report
) -> Scores:
    """Returns the scores of one run of span_qa or translation.

    Raises ConvertError, naming file and line, for no rows, a missing column, two rows with one id, and what is no
    string, no list of numbers, or no truth value where one is expected. What the numbers must satisfy is checked
    when they are saved.
    """
    ids: dict[str, str] = {}
    predictions, golds, right, slices = [], [], [], []
    tokens: dict[str, list[np.ndarray]] = {name: [] for name in TOKENS}
    carried: dict[str, list[str | None]] = {"text": [], "cluster": []}
    for where, row in rows:
        own = str(len(ids)) if columns.example_id is None else text_of(where, row, columns.example_id)
        if own in ids:
            raise ConvertError(f"{where}: id {own!r} is that of {ids[own]} already")
        ids[own] = where
        if task == "translation":
            golds.append(_references(where, row, columns))
        else:
            golds.append(_answers(where, cell_of(where, row, columns.target), columns.target))
        # a model may say nothing at all, which is an answer too
        predictions.append(optional_text(where, row, columns.prediction) or "")
        if columns.correct is not None:
            right.append(_truth(where, cell_of(where, row, columns.correct), columns.correct))
        slices.append({name: optional_text(where, row, name) for name in columns.slices})
        for name, column in (("text", columns.text), ("cluster", columns.cluster)):
            carried[name].append(None if column is None else optional_text(where, row, column))
        for name in TOKENS:
            token_column = columns.tokens.get(name, name)
            tokens[name].append(_numbers(where, cell_of(where, row, token_column), token_column))
    if not ids:
        raise ConvertError("the file holds no examples")
    if columns.example_id is None:
        report(
            "no id column: rows are numbered, so the files of a dataset must hold the same examples in the same order"
        )
    target = [texts[0] for texts in golds]
    correct = bleu_stats = None
    if task == "span_qa":
        correct = np.array(right or [exact_match(one, texts) for one, texts in zip(predictions, golds, strict=True)])
        counted = "correct:given" if right else "correct:exact-match"
    else:
        bleu_stats = bleu_statistics(predictions, golds, columns.tokenize)
        counted = bleu_signature(columns.tokenize, {len(texts) for texts in golds})
    names = sorted(columns.slices)
    content = [
        # one text stays one text, so that files with one reference keep their fingerprint
        [own, texts if task == "translation" and len(texts) > 1 else texts[0], [values[name] for name in names]]
        for own, texts, values in zip(ids, golds, slices, strict=True)
    ]
    return Scores(
        metadata=info.metadata(task, [], [names, content], counted),
        example_id=np.array(list(ids), dtype=object),
        target=np.array(target, dtype=object),
        prediction=np.array(predictions, dtype=object),
        correct=correct,
        slices=slices_of(names, slices),
        gold_tokens=_token_scores(tokens, "", list(ids.values())),
        self_tokens=_token_scores(tokens, "self_", list(ids.values())),
        bleu_stats=bleu_stats,
        text=optional_column(carried["text"]),
        cluster=optional_column(carried["cluster"]),
    )


def _references(where: str, row: Mapping[str, Any], columns: SequenceColumns) -> list[str]:
    """Returns a translation's references, at least one. A text is one reference, even where it looks like JSON.

    As in sacreBLEU, a row may have fewer than others: empty references beside others are left out.
    """
    references: list[str] = []
    for column in (columns.target, *columns.references):
        cell = cell_of(where, row, column)
        texts = cell if isinstance(cell, list) and cell else [cell]
        if not all(text is None or isinstance(text, str) for text in texts) or (
            column == columns.target and not any(isinstance(text, str) for text in texts)
        ):
            raise ConvertError(f"{where}: {column} holds {cell!r}, expected a string, or a list of references")
        references += [checked_unicode(where, column, text) for text in texts if text is not None]
    return [text for text in references if text] or references[:1]


def _answers(where: str, cell: Any, column: str) -> list[str]:
    """Returns a question's gold answers, at least one: a text, or a list of texts, also as JSON."""
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            cell = [cell]
    if isinstance(cell, str):
        cell = [cell]
    if not isinstance(cell, list) or not cell or not all(isinstance(one, str) for one in cell):
        raise ConvertError(f"{where}: {column} holds {cell!r}, expected a string, or a list of gold answers")
    return [checked_unicode(where, column, one) for one in cell]


def _truth(where: str, cell: Any, column: str) -> bool:
    values = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(cell, bool):
        return cell
    if str(cell).lower() not in values:
        raise ConvertError(f"{where}: {column} holds {cell!r}, expected true or false, 1 or 0")
    return values[str(cell).lower()]


def _numbers(where: str, cell: Any, column: str) -> np.ndarray:
    try:
        values = np.asarray(json.loads(cell) if isinstance(cell, str) else cell, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        values = np.zeros(0)
    if values.ndim != 1 or not len(values):
        raise ConvertError(f"{where}: {column} holds {str(cell)[:60]!r}, expected a list of numbers, one a token")
    return values


def _token_scores(tokens: Mapping[str, Sequence[np.ndarray]], prefix: str, where: Sequence[str]) -> TokenScores:
    log_probs, margins, entropies = (tokens[name] for name in TOKENS if name.startswith("self_") == bool(prefix))
    for place, lists in zip(where, zip(log_probs, margins, entropies, strict=True), strict=True):
        if len({len(one) for one in lists}) > 1:
            lengths = ", ".join(str(len(one)) for one in lists)
            raise ConvertError(f"{place}: {prefix}token lists have {lengths} values, expected one of each a token")
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, which the check of scores refuses
        return TokenScores(
            log_probs=np.concatenate(log_probs).astype(np.float32),
            margins=np.concatenate(margins).astype(np.float32),
            entropies=np.concatenate(entropies).astype(np.float32),
            offsets=np.concatenate([[0], np.cumsum([len(one) for one in log_probs])]).astype(np.int64),
        )
