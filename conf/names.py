"""Checks names of datasets, sizes, splits and seeds, and joins them into names of artifacts and runs.

One rule holds at all doors (training, scoring, conversion, metrics), before any work is done. A joined name can be told
apart from every other: within a part, `-` is written `--`, and a single `-` stands between parts, so that (a, b-c) is
`a-b--c` and (a-b, c) is `a--b-c`. Nothing reads a joined name again: metadata says what the parts are.
"""

import re

from conf.errors import EdgewiseError

MOST_CHARACTERS = 64  # of one name
MOST_JOINED = 128  # of an artifact's name or a run's id, which hold up to three names: what W&B and the store take
HASH_DIGITS = 12  # of the hash in which the ids of most runs end
LARGEST_SEED = 2**31 - 1  # what a 32-bit random key tells apart from its neighbours
_DIGITS = re.compile(r"0|[1-9][0-9]*")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def checked_name(key: str, value: object) -> str:
    """Returns `value` where it can be part of an artifact's name.

    Raises EdgewiseError, naming `key`, where it can't.
    """
    if isinstance(value, str) and len(value) <= MOST_CHARACTERS and _NAME.fullmatch(value):
        return value
    raise EdgewiseError(
        f"{key}={value!r}: expected 1 to {MOST_CHARACTERS} letters, digits, '_', '.' and '-', the first and the last "
        f"neither '.' nor '-', because it becomes part of artifacts' and files' names{_instead(key, value)}"
    )


def checked_seed(key: str, value: object) -> int:
    """Returns `value`, or what its digits say, where that is a whole number from 0 to 2³¹ − 1.

    Raises EdgewiseError, naming `key`, where it isn't.
    """
    if isinstance(value, str) and _DIGITS.fullmatch(value) and len(value) <= MOST_CHARACTERS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED:
        return value
    raise EdgewiseError(
        f"{key}={value!r}: expected a whole number from 0 to {LARGEST_SEED:,} (2³¹ − 1), written without leading zeros"
    )


def joined_name(*parts: str) -> str:
    """Returns `part-part…`, different for different parts; each part has passed `checked_name`.

    Names that `joined_name` returns can be joined by `-` again, and the result is what it returns for all of the parts.
    """
    return "-".join(part.replace("-", "--") for part in parts)


def check_cell_names(dataset: str, size: str, split: str) -> None:
    """Raises EdgewiseError where an artifact or a run of the cell would have a longer name than stores and W&B take.

    The longest artifact is the scores, the longest run the one that makes them, which ends in a hash. Each of the names
    has passed `checked_name`; the seed may be any.
    """
    cell = joined_name(dataset, size, f"s{LARGEST_SEED}", split)
    for kind, name in (("artifact", f"scores-{cell}"), ("run", f"infer-{cell}-{'0' * HASH_DIGITS}")):
        if len(name) > MOST_JOINED:
            raise EdgewiseError(
                f"dataset.name={dataset} size.name={size} infer.split={split}: the {kind} {name} would have "
                f"{len(name)} characters in its name, expected at most {MOST_JOINED} (a hyphen counts twice); give "
                "shorter names"
            )


def _instead(key: str, value: object) -> str:
    """Returns what to write instead, where something of the value can be kept."""
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(value))[:MOST_CHARACTERS].strip(".-")
    return f". Write {key}={kept}" if _NAME.fullmatch(kept) else ""
