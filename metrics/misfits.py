"""Says which of a dataset's latest scores don't fit the others, since when, and the command that mends it."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from conf.names import joined_name
from conf.schema import Tracking
from tracking.interface import Artifact, NotFound, Tracker
from tracking.printing import at_time
from tracking.wandb.project import WandbProject

# What all scores of one dataset and split share, and what those of one size share, with its words for a person.
_SHARED = {
    "task": "task",
    "classes": "list of classes",
    "examples": "number of examples",
    "data": "fingerprint of the data",
}
_SHARED_BY_SIZE = {"parameters": "number of parameters"}
_LONGEST = 60  # characters of a value that are shown


def advice_on_misfits(scores: Sequence[Artifact], tracker: Tracker, tracking: Tracking) -> str:
    """Returns lines that name each of the scores that doesn't fit the others, with what mends it; "" if all fit.

    `scores` are the latest versions of one dataset's scores artifacts. Their metadata is compared: the usual value
    of each key counts, of two that are as frequent the one that was there first.
    """
    usual = _usual_values(scores)
    lines = []
    for artifact in scores:
        differing = _differences(artifact, usual)
        if not differing:
            continue
        described = ", ".join(
            f"its {words} is {_short(artifact.metadata[key])}, not {_short(value)}" for key, words, value in differing
        )
        lines.append(f"{artifact.ref} does not fit the others since {at_time(artifact.created)}: {described}.")
        former = _former_that_fit(artifact, tracker, usual)
        if former is not None:
            lines.append(f"  {former.ref} fits; it counts again with:")
            lines.append(f"  {_command(tracking, 'alias', former.ref, 'latest')}")
        else:
            lines.append("  None of its other versions fits: score that cell again on the data of the others.")
    if lines:
        lines.append("If the new scores are those that you want, score the other cells on the same data too.")
    return "\n".join(lines)


def _group(artifact: Artifact, key: str) -> tuple[str, Any]:
    """Returns the group of scores that share a key's value: all of them, or those of one size."""
    return key, artifact.metadata.get("size") if key in _SHARED_BY_SIZE else None


def _usual_values(scores: Sequence[Artifact]) -> Mapping[tuple[str, Any], Any]:
    """Returns the most frequent value in each group of scores; of several, that of the artifact logged first."""
    values: dict[tuple[str, Any], list[Any]] = {}
    for artifact in sorted(scores, key=lambda artifact: artifact.created):
        for key in (*_SHARED, *_SHARED_BY_SIZE):
            if (value := artifact.metadata.get(key)) is not None:
                values.setdefault(_group(artifact, key), []).append(value)
    usual = {}
    for group, found in values.items():
        texts = [json.dumps(value) for value in found]
        usual[group] = found[texts.index(Counter(texts).most_common(1)[0][0])]
    return usual


def _differences(artifact: Artifact, usual: Mapping[tuple[str, Any], Any]) -> list[tuple[str, str, Any]]:
    """Returns the key, its words and the usual value of whatever differs in an artifact's metadata."""
    found = []
    for key, words in {**_SHARED, **_SHARED_BY_SIZE}.items():
        value = artifact.metadata.get(key)
        expected = usual.get(_group(artifact, key))
        if value is not None and expected is not None and value != expected:
            found.append((key, words, expected))
    return found


def _former_that_fit(artifact: Artifact, tracker: Tracker, usual: Mapping[tuple[str, Any], Any]) -> Artifact | None:
    """Returns the other version of the artifact that fits and that the latest tables are of, else the newest that fits.

    None where no other version fits.
    """
    fitting = [
        version
        for version in tracker.artifacts(artifact.name)
        if version.digest != artifact.digest
        and version.metadata.get("split") == artifact.metadata.get("split")
        and not _differences(version, usual)
    ]
    in_tables = None
    with suppress(NotFound):
        tables = tracker.artifact(f"{joined_name('metrics', str(artifact.metadata['dataset']))}:latest")
        in_tables = tables.metadata.get("inputs", {}).get(artifact.name)
    return max(fitting, key=lambda version: (version.digest == in_tables, version.created), default=None)


def _command(tracking: Tracking, *arguments: str) -> str:
    """Returns the command line of `python -m tracking` for the store, and W&B's project, of a config."""
    flags = [] if tracking.root == "runs" else ["--root", tracking.root]
    if tracking.backend == "wandb":
        project = WandbProject.chosen(tracking.entity, tracking.project, tracking.base_url)
        flags += ["--backend", "wandb", *project.flags]
    return shlex.join(["python", "-m", "tracking", *arguments, *flags])


def _short(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{20,}", value):
        return f"{value[:12]}…"  # a fingerprint
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
