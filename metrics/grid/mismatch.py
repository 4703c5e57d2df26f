"""Notes where runs that are averaged or compared were trained or scored with different settings.

Tables average over a size's runs and compare sizes. If one run took more steps than the others, or was scored in
another way, the numbers would reflect that without a word. What a run was trained with is in its scores file's
metadata, under `config`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from metrics.scores import ScoresMetadata

# What differs from run to run by design: the seed, the size, and the digest of what was scored.
OWN_TO_A_RUN = {"training": {"seed", "size"}, "scoring": {"model"}}
INIT = "train.init"  # of the training settings: the digest of the checkpoint that training starts from, or null
_NAMED_KEYS = 3
_NAMED_GROUPS = 3

Settings = dict[str, dict[str, str]]  # section -> dotted key -> JSON


def settings_notes(runs: Sequence[ScoresMetadata]) -> list[str]:
    """Writes one note for each size whose runs differ, and one for each size that differs from the smallest.

    `runs` are one dataset's, sizes in order. A section of settings that a file doesn't have, as files by other programs
    don't, is not compared.
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
            named = list(groups.items())[:_NAMED_GROUPS]
            described = [f"{_seeds(seeds)} {_described(differing)}" for differing, seeds in named]
            more = f"; and {len(groups) - _NAMED_GROUPS} more groups" if len(groups) > _NAMED_GROUPS else ""
            notes.append(
                f"The runs of {size} were trained or scored with different settings, and their means mix them: "
                f"{'; '.join(described)}{more}; all against {_seeds(same)}."
            )
    first, *others = usual.items()
    for size, reference in others:
        differing = _differences(_across_sizes(reference), _across_sizes(first[1]))
        if differing:
            notes.append(
                f"{size} was trained or scored with other settings than {first[0]}: it {_described(differing)}."
            )
    return notes


def _settings(run: ScoresMetadata) -> Settings:
    """Returns the settings that a run should share with the others of its size, by section."""
    sections: Settings = {"scores": {"signature": json.dumps(run.signature)}}
    for section, own in OWN_TO_A_RUN.items():
        values = run.config.get(section)
        if isinstance(values, Mapping):
            sections[section] = dict(
                item for key, value in sorted(values.items()) if key not in own for item in _flat(key, value)
            )
    return sections


def _across_sizes(run: ScoresMetadata) -> Settings:
    """Returns the settings that a run should share with other sizes.

    Training settings are left out unless they have a key `size`: without it, the architecture stands among them. A
    checkpoint that training starts from is of its size, so it counts only that there is one.
    """
    sections, training = _settings(run), run.config.get("training")
    if not isinstance(training, Mapping) or "size" not in training:
        sections.pop("training", None)
    elif sections["training"].get(INIT, "null") != "null":
        sections["training"][INIT] = '"a checkpoint"'
    return sections


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    """Flattens nested settings to (dotted key, JSON of the value)."""
    if isinstance(value, Mapping) and value:
        return [item for name, inner in sorted(value.items()) for item in _flat(f"{key}.{name}", inner)]
    return [(key, json.dumps(value, sort_keys=True))]


def _most_common(runs: Sequence[ScoresMetadata]) -> ScoresMetadata:
    """Finds the first run with the settings that most runs have."""
    texts = [json.dumps(_settings(run), sort_keys=True) for run in runs]
    return runs[texts.index(Counter(texts).most_common(1)[0][0])]


def _differences(one: Settings, other: Settings) -> tuple[tuple[str, str, str], ...]:
    """Lists (key, its value, the other's value) of each setting that differs."""
    return tuple(
        (f"{section}.{key}", one[section].get(key, "none"), other[section].get(key, "none"))
        for section in one
        if section in other
        for key in sorted({*one[section], *other[section]})
        if one[section].get(key) != other[section].get(key)
    )


def _described(differing: Sequence[tuple[str, str, str]]) -> str:
    named = ", ".join(f"{key} {_short(own)}, not {_short(usual)}" for key, own, usual in differing[:_NAMED_KEYS])
    more = len(differing) - _NAMED_KEYS
    return f"has {named}{f' and {more} more' if more > 0 else ''}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
