"""Writes values so that W&B can hold them, and reads them back as they were.

W&B has no NaN and no infinities, and shows them as words; and it drops empty mappings from configs and summaries. So
what is sent says beside it where a text only reads as such a word, and where there was an empty mapping.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tracking.wandb.sdk import NUMBERS_AS_WORDS, json_value

Path = tuple[str | int, ...]  # the keys and indexes that lead to a value


@dataclass
class Marks:
    """Lists where texts are that read as numbers, and where empty mappings are that no list leads to."""

    texts: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns what `marks_of` reads: nothing where there is nothing to say."""
        lists = {"texts": [list(path) for path in self.texts], "empty": [list(path) for path in self.empty]}
        return {key: paths for key, paths in lists.items() if paths}


def marks_of(own: Any) -> Marks:
    """Returns the marks that `Marks.as_json` gave; of what has none, such as what others sent, none."""
    return Marks(_paths(own, "texts"), _paths(own, "empty"))


def _paths(own: Any, key: str) -> list[Path]:
    found = own.get(key) if isinstance(own, dict) else None
    paths = [path for path in found if path and isinstance(path, list)] if isinstance(found, list) else []
    return [tuple(path) for path in paths if all(isinstance(step, (str, int)) for step in path)]


def as_shown(value: dict[str, Any]) -> tuple[dict[str, Any], Marks]:
    """Returns a mapping of JSON values with words in place of NaN and infinities, and the marks that belong to it."""
    marks = Marks()
    return {key: _shown(item, (key,), marks) for key, item in value.items()}, marks


def _shown(value: Any, path: Path, marks: Marks) -> Any:
    if isinstance(value, str) and value in NUMBERS_AS_WORDS:
        marks.texts.append(path)
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(float(value))]
    if isinstance(value, dict):
        if not value and all(isinstance(key, str) for key in path):
            marks.empty.append(path)
        return {key: _shown(item, (*path, key), marks) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item, (*path, index), marks) for index, item in enumerate(value)]
    return value


def as_sent(shown: Any, marks: Marks) -> dict[str, Any]:
    """Returns a mapping of the SDK's as it was before `as_shown`: words are numbers, but for the texts among them."""
    value = json_value(shown)
    for *keys, last in marks.texts:
        if isinstance(text := _at([*keys, last], shown), str):
            _at(keys, value)[last] = text
    for path in marks.empty:
        holder = value
        for key in path:
            holder = holder.setdefault(key, {}) if isinstance(holder, dict) else None
    return dict(value)


def _at(path: Iterable[str | int], value: Any) -> Any:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):  # what is shown was changed at W&B
            return None
    return value
