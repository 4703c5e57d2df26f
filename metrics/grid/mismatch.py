"""Notes where runs that are averaged or compared were trained or scored with different settings.

Tables average over a size's runs and compare sizes; if one run took more steps than the rest, or another scoring, a
number mixes that in silently. What a run was trained with is in its scores file's metadata, under `config`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from metrics.scores import ScoresMetadata

# Differ from run to run by design: the seed, the size, and the digest of what was scored.
OWN_TO_A_RUN = {"training": {"seed", "size"}, "scoring": {"model"}}
_NAMED_KEYS = 3
_NAMED_GROUPS = 3

Settings = dict[str, dict[str, str]]  # section -> dotted key -> JSON


def settings_notes(runs: Sequence[ScoresMetadata]) -> list[str]:
    """One note a size whose runs differ, and one for each size that differs from the smallest; [] if none does.

    `runs` are one dataset's, sizes in order. A section that a file doesn't have, as with files from elsewhere, is
    not compared.
    """
    notes, usual = [], {}
    for size in dict.fromkeys(run.size for run in runs):
        of_size = [run for run in runs if run.size == size]
        reference = _most_common(of_size)
        usual[size] = reference
        groups: dict[tuple[tuple[str, str, str], ...], list[int]] = {}
        for run in of_size:
            groups.setdefault(_differences(_settings(run), _settings(reference)), []).append(run.seed)
        same = groups.pop((), [])
        if groups:
            told = [f"{_seeds(seeds)} {_told(differing)}" for differing, seeds in list(groups.items())[:_NAMED_GROUPS]]
            more = f"; and {len(groups) - _NAMED_GROUPS} more groups" if len(groups) > _NAMED_GROUPS else ""
            notes.append(
                f"The runs of {size} were trained or scored with different settings, and their means mix them: "
                f"{'; '.join(told)}{more}; all against {_seeds(same)}."
            )
    first, *others = usual.items()
    for size, reference in others:
        differing = _differences(_across_sizes(reference), _across_sizes(first[1]))
        if differing:
            notes.append(f"{size} was trained or scored with other settings than {first[0]}: it {_told(differing)}.")
    return notes


def _settings(run: ScoresMetadata) -> Settings:
    sections: Settings = {"scores": {"signature": json.dumps(run.signature)}}
    for section, own in OWN_TO_A_RUN.items():
        values = run.config.get(section)
        if isinstance(values, Mapping):
            sections[section] = dict(
                item for key, value in sorted(values.items()) if key not in own for item in _flat(key, value)
            )
    return sections


def _across_sizes(run: ScoresMetadata) -> Settings:
    """Without training settings that don't hold the size apart: there, an architecture looks like a setting."""
    sections, training = _settings(run), run.config.get("training")
    if not isinstance(training, Mapping) or "size" not in training:
        sections.pop("training", None)
    return sections


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [item for name, inner in sorted(value.items()) for item in _flat(f"{key}.{name}", inner)]
    return [(key, json.dumps(value, sort_keys=True))]


def _most_common(runs: Sequence[ScoresMetadata]) -> ScoresMetadata:
    """A run with the settings that most runs have; the first of those where there are several."""
    texts = [json.dumps(_settings(run), sort_keys=True) for run in runs]
    return runs[texts.index(Counter(texts).most_common(1)[0][0])]


def _differences(one: Settings, other: Settings) -> tuple[tuple[str, str, str], ...]:
    """(key, its value, the other's value), for each that differs."""
    return tuple(
        (f"{section}.{key}", one[section].get(key, "none"), other[section].get(key, "none"))
        for section in one
        if section in other
        for key in sorted({*one[section], *other[section]})
        if one[section].get(key) != other[section].get(key)
    )


def _told(differing: Sequence[tuple[str, str, str]]) -> str:
    said = ", ".join(f"{key} {_short(own)}, not {_short(usual)}" for key, own, usual in differing[:_NAMED_KEYS])
    more = len(differing) - _NAMED_KEYS
    return f"has {said}{f' and {more} more' if more > 0 else ''}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
