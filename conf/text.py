"""Checks that values are text where text is due: YAML and Hydra read `no`, `1.50` and `null` as values of other kinds.

A whole number is taken for its digits, because labels are often numbers. Anything else is refused with the line that
says the text: what was written can't be told from the value any more, as `no`, `off` and `false` are one truth value.
"""

import json
from collections.abc import Mapping
from typing import Any

from conf.errors import EdgewiseError

IN_YAML = "in YAML {key}: {text}"
IN_CONFIG = "in YAML {key}: {text}, on the command line '{path}={text}'"
IN_CONFIG_LIST = "in YAML {key}: [{text}], on the command line '{path}=[{text}]'"
IN_CONFIG_MAPPING = "in YAML {key}: {text}, on the command line '{mapping}={{{key}: {text}, …}}'"


def checked_text(path: str, value: object, how: str = IN_CONFIG) -> str:
    """Returns `value` where it is text, and the digits of a whole number.

    `path` is the value's key with dots between its parts; `how` is a pattern that shows where to write the text, with
    the fields `path`, `mapping` (the path without its last part), `key` (the last part) and `text`. Raises
    EdgewiseError, naming `path`, for a value of another kind.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    mapping, _, key = path.rpartition(".")
    line = how.format(path=path, mapping=mapping, key=key, text=_quoted(value))
    raise EdgewiseError(f"{path} is {_kind(value)}, expected text. Write it in quotes: {line}")


def optional_text(path: str, value: object, how: str = IN_CONFIG) -> str | None:
    """Returns None for None, and else as `checked_text` does."""
    return None if value is None else checked_text(path, value, how)


def checked_texts(path: str, mapping: Mapping[Any, object], how: str = IN_CONFIG_MAPPING) -> dict[str, str]:
    """Returns a mapping whose keys and values are text, by `checked_text`.

    Raises EdgewiseError, naming the entry, for a key or value that is no text, and for two keys that are one as text.
    """
    texts: dict[str, str] = {}
    for key, value in mapping.items():
        check_key(path, key, value)
        if str(key) in texts:
            raise EdgewiseError(f"{path} has the key {str(key)!r} twice, once as a number; keys are compared as text")
        texts[str(key)] = checked_text(f"{path}.{key}", value, how)
    return texts


def check_key(path: str, key: object, value: object) -> None:
    """Raises EdgewiseError where a mapping's key is neither text nor a whole number; `value` is what stands there."""
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise EdgewiseError(
            f"{path} has a key that is {_kind(key)}, expected text. Write it in quotes in a YAML file, because "
            f"Hydra's command line takes none around a key: {_quoted(key)}: {value}"
        )


def _kind(value: object) -> str:
    """Says what a value is, and what else may have been written for it."""
    if value is None:
        return "null (which is also what YAML reads `~` and nothing as)"
    if isinstance(value, bool):
        written = "yes, on and true" if value else "no, off and false"
        return f"the truth value {json.dumps(value)} (YAML reads {written} as one)"
    if isinstance(value, float):
        return f"the number {value} (1.50 and 1.5 are one number)"
    return f"{value!r}, a {type(value).__name__}"


def _quoted(value: object) -> str:
    """Returns a quoted text that may have been meant; for a truth value, the word that YAML takes for it most often."""
    if isinstance(value, bool):
        return '"yes"' if value else '"no"'
    return '"null"' if value is None else f'"{value}"'
