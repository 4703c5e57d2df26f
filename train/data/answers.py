"""Reads the answers of a question, or the references of a translation, from a value of text."""

import json

from metrics.rows import ListText, short


def gold_answers(value: str | None) -> list[str]:
    """Returns a question's distinct answers in their order, those without a word left out; [] where there is none.

    The value is one answer as it is, or a JSON list of several. Raises ValueError for what looks like JSON and isn't a
    list of texts: else a list in Python's own notation would become an answer.
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


def references(value: str | None) -> list[str]:
    """Returns a translation's references in their order, those without a word left out; [] where there is none.

    A list in the file gives several; text is one reference, also where it looks like JSON.
    """
    texts = value.items() if isinstance(value, ListText) else [value or ""]
    return [text for text in texts if text.strip()]
