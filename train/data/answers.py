"""Reads the gold answers of a question from a value of text: one answer as it is, or a JSON list of several."""

import json

from metrics.rows import short


def gold_answers(value: str | None) -> list[str]:
    """Returns the distinct answers in their order, those without a word left out; [] where there is none.

    Raises ValueError for what looks like JSON and isn't a list of texts: else a list in Python's own notation would
    become an answer.
    """
    if value is None or not value.strip():
        return []
    if value.lstrip()[0] not in "[{":
        return [value]
    try:
        answers = json.loads(value)
    except (ValueError, RecursionError):
        answers = None
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(f"{short(value)}, expected one answer, or a JSON list of answers")
    return [answer for answer in dict.fromkeys(answers) if answer.strip()]
