"""Checks single values of the config, and says in which key one is wrong."""

import math
from typing import TYPE_CHECKING, Any

from conf.errors import EdgewiseError

if TYPE_CHECKING:
    Text = str
    Seed = int
else:  # what OmegaConf is not to convert: it would make "False" of no, "1.5" of 1.50 and 10 of the text "010"
    Text = Any
    Seed = Any

AUTO = "auto"


def one_of(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises EdgewiseError, with the key, for a value that is not among those allowed."""
    if value not in allowed:
        raise EdgewiseError(f"{key}={value}: expected one of {', '.join(allowed)}")


def at_least(key: str, value: float, least: float) -> None:
    """Raises EdgewiseError, with the key, for a value below the least, and for one that is no number or infinite."""
    if not least <= value < math.inf:
        raise EdgewiseError(f"{key}={value}: expected {least} or more")


def above(key: str, value: float, limit: float) -> None:
    """Raises EdgewiseError, with the key, for a value that is not above the limit, or no finite number."""
    if not limit < value < math.inf:
        raise EdgewiseError(f"{key}={value}: expected a number above {limit}")


def share_below_1(key: str, value: float) -> None:
    """Raises EdgewiseError, with the key, for a value that is not in [0, 1)."""
    if not 0 <= value < 1:
        raise EdgewiseError(f"{key}={value}: expected a number in [0, 1)")


def checked_list(key: str, value: Any, example: str) -> list[Any]:
    """Returns a list that holds something; raises EdgewiseError, with the key and an example, for anything else."""
    if not isinstance(value, list) or not value:
        raise EdgewiseError(f"{key}={value}: expected a list such as {example}")
    return value


def checked_switch(key: str, value: Any) -> bool | str:
    """Returns true, false or `auto`; raises EdgewiseError for anything else."""
    if value != AUTO and not isinstance(value, bool):
        raise EdgewiseError(f"{key}={value}: expected true, false or {AUTO}")
    return bool(value) if isinstance(value, bool) else AUTO
