"""Turns other people's answers and translations, with their tokens' values, into scores.

The tokens' values are JSON lists with one entry a token, EOS included: natural log-probability, margin p₁ - p₂ and
entropy in nats over the whole vocabulary, once in the gold answer's context and once in that of the model's own output.
Columns have the names of the scores schema unless flags say otherwise.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.convert.examples import ConvertError, Report, RunInfo, slices_of
from metrics.convert.rows import Row, cell_of, optional_text, text_of
from metrics.scores import Scores, ScoresMetadata, TokenScores
from metrics.statistics.text import bleu_signature, bleu_statistics, exact_match

TOKENS = tuple(
    f"{prefix}{name}" for prefix in ("", "self_") for name in ("token_log_probs", "token_margins", "token_entropies")
)


@dataclass
class SequenceColumns:
    """Names the columns that hold answers, predictions and the tokens' values."""

    target: str = "target"  # a string; of span QA a list of golds too, the first of which is the target
    prediction: str = "prediction"
    correct: str | None = None  # of span QA; None: exact match after SQuAD's normalisation with any gold
    example_id: str | None = None
    slices: list[str] = field(default_factory=list)
    tokens: Mapping[str, str] = field(default_factory=dict)  # name in the schema -> column, where it differs
    tokenize: str = "intl"  # sacreBLEU's tokenizer


def sequence_scores(rows: Iterator[Row], columns: SequenceColumns, task: str, info: RunInfo, report: Report) -> Scores:
    """Returns the scores of one run of span_qa or translation.

    Raises ConvertError, naming file and line, for no rows, a missing column, two rows with one id, and what is no
    string, no list of numbers, or no truth value where one is expected. What the numbers must satisfy is checked
    when they are saved.
    """
    ids: dict[str, str] = {}
    predictions, golds, right, slices = [], [], [], []
    tokens: dict[str, list[np.ndarray]] = {name: [] for name in TOKENS}
    for where, row in rows:
        own = str(len(ids)) if columns.example_id is None else text_of(where, row, columns.example_id)
        if own in ids:
            raise ConvertError(f"{where}: id {own!r} is that of {ids[own]} already")
        ids[own] = where
        golds.append(_golds(where, cell_of(where, row, columns.target), columns.target))
        # a model may say nothing at all, which is an answer too
        predictions.append(optional_text(cell_of(where, row, columns.prediction)) or "")
        if columns.correct is not None:
            right.append(_truth(where, cell_of(where, row, columns.correct), columns.correct))
        slices.append({name: optional_text(cell_of(where, row, name)) for name in columns.slices})
        for name in TOKENS:
            column = columns.tokens.get(name, name)
            tokens[name].append(_numbers(where, cell_of(where, row, column), column))
    if not ids:
        raise ConvertError("the file holds no examples")
    if columns.example_id is None:
        report(
            "no id column: rows are numbered, so the files of a dataset must hold the same examples in the same order"
        )
    target = [of[0] for of in golds]
    correct = bleu_stats = None
    if task == "span_qa":
        correct = np.array(right or [exact_match(one, of) for one, of in zip(predictions, golds, strict=True)])
        counted = "correct:given" if right else "correct:exact-match"
    else:
        bleu_stats = bleu_statistics(predictions, target, columns.tokenize)
        counted = bleu_signature(columns.tokenize)
    names = sorted(columns.slices)
    content = [[one, of, [own[name] for name in names]] for one, of, own in zip(ids, target, slices, strict=True)]
    metadata = ScoresMetadata(
        dataset=info.dataset,
        size=info.size,
        seed=info.seed,
        split=info.split,
        task=task,
        classes=[],
        parameters=info.parameters,
        flops_per_example=info.flops,
        model=info.model,
        data=hashlib.sha256(json.dumps([names, content]).encode()).hexdigest()[:16],
        signature=f"scores:converted|{counted}",
    )
    return Scores(
        metadata=metadata,
        example_id=np.array(list(ids), dtype=object),
        target=np.array(target, dtype=object),
        prediction=np.array(predictions, dtype=object),
        correct=correct,
        slices=slices_of(names, slices),
        gold_tokens=_token_scores(tokens, "", list(ids.values())),
        self_tokens=_token_scores(tokens, "self_", list(ids.values())),
        bleu_stats=bleu_stats,
    )


def _golds(where: str, cell: Any, column: str) -> list[str]:
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:
            return [cell]
    if isinstance(cell, str):
        return [cell]
    if not isinstance(cell, list) or not cell or not all(isinstance(one, str) for one in cell):
        raise ConvertError(f"{where}: {column} holds {cell!r}, expected a string, or a list of gold answers")
    return cell


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
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim != 1 or not len(values):
        raise ConvertError(f"{where}: {column} holds {str(cell)[:60]!r}, expected a list of numbers, one a token")
    return values


def _token_scores(tokens: Mapping[str, Sequence[np.ndarray]], prefix: str, where: Sequence[str]) -> TokenScores:
    log_probs, margins, entropies = (tokens[name] for name in TOKENS if name.startswith("self_") == bool(prefix))
    for place, of in zip(where, zip(log_probs, margins, entropies, strict=True), strict=True):
        if len({len(one) for one in of}) > 1:
            lengths = ", ".join(str(len(one)) for one in of)
            raise ConvertError(f"{place}: {prefix}token lists have {lengths} values, expected one of each a token")
    return TokenScores(
        log_probs=np.concatenate(log_probs).astype(np.float32),
        margins=np.concatenate(margins).astype(np.float32),
        entropies=np.concatenate(entropies).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in log_probs])]).astype(np.int64),
    )
