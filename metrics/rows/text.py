"""Turns values into text, and refuses those that aren't; shortens texts and lists of names for messages."""

import json
import math
from collections.abc import Sequence
from typing import Any

from conf.errors import EdgewiseError


class ListText(str):
    """Holds a list of texts as its JSON, which can be told from a text that happens to be JSON."""

    def items(self) -> list[str]:
        """Returns the texts of the list."""
        items: list[str] = json.loads(self)
        return items


def text_or_none(where: str, name: str, value: Any, lists: bool = False) -> str | None:
    """Returns a value as text, None for a missing one: null or NaN.

    A number or a truth value becomes what Python writes. A list of texts becomes a ListText, where there may be
    `lists`. Raises EdgewiseError, with the place and the column's name, for other lists, objects and binary values.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    if lists and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ListText(json.dumps(value, ensure_ascii=False))
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise EdgewiseError(
            f"{where}: {name} is binary, expected text or a number: {short(repr(bytes(value)))}. "
            "Store the column as UTF-8 text"
        )
    if isinstance(value, (list, tuple, dict)):
        raise EdgewiseError(
            f"{where}: {name} is a {type(value).__name__}, expected text or a number: {short(repr(value))}"
        )
    return str(value)


def invalid_unicode(text: str) -> str | None:
    """Returns what is wrong with a text that can't be written as UTF-8, such as half of a character; else None.

    JSON's escapes can name such halves (lone surrogates).
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return error.reason
    return None


def first_duplicate(names: Sequence[str]) -> str | None:
    """Returns the first name that occurs a second time; None where all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def listed(names: Sequence[str]) -> str:
    """Writes at most 20 names, each cut short: a file without a header row has whole texts for names.

    A name that is empty, or has white space at an end, stands in quotes.
    """
    shown = ", ".join(short(name if name and name == name.strip() else repr(name), 40) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def short(text: str, most: int = 80) -> str:
    """Returns the text on one line, cut to `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
