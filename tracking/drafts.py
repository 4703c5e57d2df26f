"""Checks what a caller wants kept, before anything is written; the checks hold for any backend."""

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import PurePosixPath
from typing import Any

from tracking.interface import ArtifactDraft, TrackingError, check_artifact_name, check_file_name


def check_draft(draft: ArtifactDraft) -> None:
    """Raises TrackingError unless the draft's names are sound and none is both a file and a directory."""
    check_artifact_name(draft.name)
    if not draft.type:
        raise TrackingError(f"artifact {draft.name}: expected a type that is not empty")
    for name in draft.files:
        check_file_name(name)
        if not name.isprintable():
            raise TrackingError(f"file name {name!r} in artifact {draft.name}: expected printable characters only")
        for parent in PurePosixPath(name).parents:
            if str(parent) in draft.files:
                raise TrackingError(f"artifact {draft.name} holds {str(parent)!r} both as a file and as a directory")


def check_aliases(aliases: Iterable[str]) -> list[str]:
    """Returns the aliases as a list.

    Raises TrackingError for one that could be no alias in W&B, or that reads as a version.
    """
    found = [aliases] if isinstance(aliases, str) else list(aliases)
    for alias in found:
        if re.fullmatch(r"v\d+", alias):
            raise TrackingError(f"alias {alias!r}: v and a number is a version's own name; choose another alias")
        if not re.fullmatch(r"[^/:\s]{1,128}", alias) or not alias.isprintable():
            raise TrackingError(f"alias {alias!r}: expected at most 128 printable characters, no '/', ':' or space")
    return found


MOST_ROWS = 10_000  # of a table to look at


def check_table(key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Raises TrackingError unless every row has a value for each column and there are few enough to look at."""
    if len(rows) > MOST_ROWS:
        raise TrackingError(f"table {key} has {len(rows):,} rows: expected at most {MOST_ROWS:,}; log an artifact")
    for index, row in enumerate(rows):
        if len(row) != len(columns):
            raise TrackingError(f"table {key}: row {index} has {len(row)} values for {len(columns)} columns")


def check_lines(key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
    """Raises TrackingError unless each line has a value for each x."""
    for name, line in lines.items():
        if len(line) != len(x):
            raise TrackingError(f"chart {key}: line {name!r} has {len(line)} values for {len(x)} points")


def number(key: str, value: Any) -> float:
    """Returns a metric's value, of any array library, as a Python number. Raises TrackingError for anything else."""
    if key == "step":
        raise TrackingError("a metric cannot be named 'step': that is the history's own key")
    try:
        item = value.item() if hasattr(value, "item") else value
    except (TypeError, ValueError, RuntimeError):  # an array of several numbers
        item = value
    if not isinstance(item, Real):
        raise TrackingError(f"metric {key}={value!r}: expected one number")
    return item if isinstance(item, (int, float)) else float(item)
