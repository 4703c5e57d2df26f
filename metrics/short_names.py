"""Shortens names for drawings, which have less room than a page of text."""

import os
from collections.abc import Iterable


def short_names(names: Iterable[str], most: int) -> dict[str, str]:
    """Returns each name as a drawing shows it: one longer than `most` characters loses its middle.

    Where all names begin alike, what they share is left out first, as far as need be. Names that would still look
    alike keep more of their characters, until all can be told apart.
    """
    different = list(dict.fromkeys(names))
    shared = len(os.path.commonprefix(different)) if len(different) > 1 else 0
    while True:
        own = max(len(name) - shared for name in different)
        start = max(0, min(shared, shared - (most - 1 - own))) if shared >= most // 2 else 0
        shown = {name: _cut(name, most, start) for name in different}
        if len(set(shown.values())) == len(different):
            return shown
        most += 2


def _cut(name: str, most: int, start: int) -> str:
    """Returns a name of at most `most` characters: without those before `start`, and then without its middle."""
    if len(name) <= most:
        return name
    text = f"…{name[start:]}" if start else name
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"
