"""Reads sample logs of EleutherAI's lm-evaluation-harness, samples_TASK_DATE.jsonl, of multiple-choice tasks.

With --log_samples the harness writes one object a document and filter: `doc_id`, `doc`, `target` (as text: the index of
the right choice, or the choice), `arguments` ({"gen_args_0": {"arg_0": context, "arg_1": continuation}, …}; lists of
pairs in older versions), `resps`, `filtered_resps` ([log-likelihood, is greedy] a choice, as text in some versions),
`filter` and the metrics, such as `acc`. A log-likelihood is the sum over the continuation's tokens, not normalised.
Source: lm_eval/evaluator.py, lm_eval/loggers/evaluation_tracker.py and lm_eval/api/task.py of version 0.4.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics.convert.examples import ConvertError, Example, Report
from metrics.rows import Record, short


@dataclass
class HarnessOptions:
    """Holds how a sample log is to be read: the filter, which fields of `doc` to carry along, and what targets are."""

    filter_name: str | None = None  # None: the only one there is
    slices: Sequence[str] = ()
    text: str | None = None  # a field of `doc`; None: the context that all choices continue
    cluster: str | None = None  # a field of `doc`
    labels: str | None = None  # targets are a choice's text (`name`) or its `index` from 0; None: the one that fits


@dataclass
class _Document:
    where: str
    doc_id: Any
    target: str
    values: list[float]
    choices: list[str] | None  # continuations, stripped
    right: bool | None  # what the harness says of its likeliest choice
    slices: dict[str, str | None]
    text: str | None
    cluster: str | None


def is_harness_row(row: Mapping[str, Any]) -> bool:
    """Tells whether a row of a JSONL file was written by the harness."""
    return {"doc_id", "target", "filtered_resps"} <= set(row)


def harness_examples(
    rows: Iterator[Record], options: HarnessOptions, report: Report
) -> tuple[list[Example], list[str]]:
    """Returns the examples in the order of their doc_id, and the classes.

    Classes are the continuations where every document has the same, as with boolq; else the choices by position, `0`,
    `1`, …, and a document with fewer choices gives the rest likelihood 0. Raises ConvertError for several filters of
    which none is chosen, for tasks that aren't multiple choice, for targets that name no choice or contradict the
    harness's own `acc`, and for targets that may be texts as well as indices.
    """
    read, chosen = list(rows), options.filter_name
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for _, row in read))
    if chosen is None and len(filters) > 1:
        raise ConvertError(
            f"the samples were filtered in {len(filters)} ways; choose one: --filter {'|'.join(filters)}"
        )
    if chosen is not None and read and chosen not in filters:
        raise ConvertError(f"no samples have the filter {chosen!r}; they have {', '.join(filters)}")
    documents = [
        _document(where, row, options) for where, row in read if chosen is None or row.get("filter", "none") == chosen
    ]
    documents.sort(key=lambda one: (isinstance(one.doc_id, str), one.doc_id))
    most = max((len(one.values) for one in documents), default=0)
    first = documents[0].choices if documents else None
    by_text = first is not None and len(set(first)) == len(first) and all(one.choices == first for one in documents)
    classes = list(first) if by_text and first is not None else [str(k) for k in range(most)]
    if not by_text:
        report(f"choices differ from document to document, so classes are their positions, 0 to {most - 1}")
    if fewer := sum(len(one.values) < most for one in documents):
        report(f"{fewer:,} documents have fewer than {most} choices; what they lack has likelihood 0")
    right = _right_choices(documents, options.labels)
    examples = [
        Example(
            where=one.where,
            example_id=str(one.doc_id),
            target=classes[k],
            values=one.values + [-math.inf] * (most - len(one.values)),
            slices=one.slices,
            text=one.text,
            cluster=one.cluster,
        )
        for one, k in zip(documents, right, strict=True)
    ]
    return examples, classes


def _document(where: str, row: Mapping[str, Any], options: HarnessOptions) -> _Document:
    if not is_harness_row(row):
        raise ConvertError(f"{where}: lacks doc_id, target or filtered_resps; not a sample of the harness")
    values = [
        _log_likelihood(where, response) for response in _responses(where, row["filtered_resps"], row.get("resps"))
    ]
    calls = _calls(row.get("arguments"))
    choices = _continuations(calls)
    if "acc_mutual_info" in row and len(values) % 2 == 0:
        # the second half scores the choices without their context
        values = values[: len(values) // 2]
        choices = choices and choices[: len(choices) // 2]
    if len(values) < 2:
        raise ConvertError(f"{where}: has {len(values)} choice; expected the log-likelihoods of two or more")
    doc = row.get("doc")
    wanted = [name for name in (*options.slices, options.text, options.cluster) if name is not None]
    missing = [name for name in wanted if not isinstance(doc, Mapping) or name not in doc]
    if missing:
        raise ConvertError(f"{where}: doc lacks {', '.join(missing)}")
    fields = {name: None if doc[name] is None else str(doc[name]) for name in wanted} if doc else {}
    contexts = {context for context, _ in (calls or [])[: len(values)] if isinstance(context, str)}
    context = contexts.pop() if len(contexts) == 1 else None
    doc_id = row["doc_id"]
    if not isinstance(doc_id, (int, str)) or isinstance(doc_id, bool):
        raise ConvertError(f"{where}: doc_id is {doc_id!r}, expected a whole number or a text")
    accuracy = row.get("acc")
    return _Document(
        where=where,
        doc_id=doc_id,
        target=str(row["target"]),
        values=values,
        choices=choices if choices is not None and len(choices) == len(values) else None,
        right=bool(accuracy) if isinstance(accuracy, (int, float)) else None,
        slices={name: fields[name] for name in options.slices},
        text=context if options.text is None else fields[options.text],
        cluster=None if options.cluster is None else fields[options.cluster],
    )


def _responses(where: str, filtered: Any, unfiltered: Any) -> list[Any]:
    """Returns one [log-likelihood, is greedy] a choice."""
    for responses in (filtered, unfiltered):
        if isinstance(responses, list) and responses:
            # unfiltered, each choice has a list of repeats
            flat = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in responses]
            if all(isinstance(one, list) and len(one) == 2 for one in flat):
                return flat
    raise ConvertError(
        f"{where}: filtered_resps holds {str(filtered)[:60]}, expected [log-likelihood, is greedy] for each choice; "
        "only multiple-choice tasks can be converted"
    )


def _log_likelihood(where: str, response: Any) -> float:
    try:
        value = float(response[0])
    except (TypeError, ValueError, OverflowError):
        raise ConvertError(f"{where}: log-likelihood {short(repr(response[0]))} is no number") from None
    if math.isnan(value) or value > 1e-4:
        raise ConvertError(f"{where}: {value} is no log-likelihood")
    return value


def _calls(arguments: Any) -> list[tuple[Any, Any]] | None:
    """Returns the (context, continuation) of each choice; None for arguments that aren't laid out so."""
    if isinstance(arguments, Mapping):
        if not all(re.fullmatch(r".*_\d+", name) for name in arguments):
            return None
        numbered = sorted(arguments.items(), key=lambda item: int(item[0].rpartition("_")[2]))
        return [(call.get("arg_0"), call.get("arg_1")) for _, call in numbered if isinstance(call, Mapping)]
    if isinstance(arguments, list):
        return [(call[0], call[1]) for call in arguments if isinstance(call, list) and len(call) >= 2]
    return None


def _continuations(calls: Sequence[tuple[Any, Any]] | None) -> list[str] | None:
    if calls is None:
        return None
    texts = [continuation.strip() for _, continuation in calls if isinstance(continuation, str)]
    return texts if len(texts) == len(calls) else None


def _right_choices(documents: Sequence[_Document], labels: str | None) -> list[int]:
    """Returns the index of each document's right choice.

    `target` is text either way, and "1" may be an index or a choice. Unless `labels` says which, the reading is taken
    that fits every document and, where it is logged, `acc` = (the likeliest choice is the right one). If both do and
    they differ, ConvertError asks for --labels.
    """
    readings = {"index": _by_index, "name": _by_text}
    if labels is not None:
        readings = {labels: readings[labels]}
    fitting: dict[str, list[int]] = {}
    contradiction = None
    for name, reading in readings.items():
        found = [k for one in documents if (k := reading(one)) is not None]
        if len(found) < len(documents):
            continue
        wrong = next((one for one, k in zip(documents, found, strict=True) if _contradicts_accuracy(one, k)), None)
        if wrong is None:
            fitting[name] = found
        contradiction = contradiction or wrong
    if len(fitting) == 2 and fitting["index"] != fitting["name"]:
        raise _ambiguous(documents, fitting)
    if fitting:
        return next(iter(fitting.values()))
    if contradiction is not None:
        assert contradiction.right is not None
        raise ConvertError(
            f"{contradiction.where}: acc={contradiction.right:d} contradicts the target {contradiction.target!r} and "
            "the log-likelihoods; tasks that score choices some other way can't be converted"
        )
    raise _no_choice(documents, list(readings.values()))


def _contradicts_accuracy(one: _Document, right: int) -> bool:
    likeliest = one.values.index(max(one.values))
    return one.right is not None and one.right != (likeliest == right)


def _ambiguous(documents: Sequence[_Document], fitting: Mapping[str, list[int]]) -> ConvertError:
    one, by_index, by_text = next(
        (one, by_index, by_text)
        for one, by_index, by_text in zip(documents, fitting["index"], fitting["name"], strict=True)
        if by_index != by_text
    )
    return ConvertError(
        f"{one.where}: target {one.target!r} is the text of choice {by_text} and the index of choice {by_index} "
        f"(from 0) of the choices {one.choices}, and nothing in the log tells which is meant; give --labels name if "
        "targets are the texts of choices, or --labels index if they are indices"
    )


def _no_choice(documents: Sequence[_Document], readings: Sequence[Callable[[_Document], int | None]]) -> ConvertError:
    """Returns the error for targets that no reading finds among the choices of every document."""
    lost = next(
        (one for one in documents if all(reading(one) is None for reading in readings)),
        next(one for one in documents if readings[0](one) is None),
    )
    return ConvertError(
        f"{lost.where}: target {lost.target!r} is neither the index of a choice nor one of the choices {lost.choices}; "
        "tasks with several right answers, or with several contexts for one continuation, can't be converted"
    )


def _by_index(one: _Document) -> int | None:
    return int(one.target) if one.target.isdecimal() and int(one.target) < len(one.values) else None


def _by_text(one: _Document) -> int | None:
    choices = one.choices or []
    return choices.index(one.target.strip()) if choices.count(one.target.strip()) == 1 else None
