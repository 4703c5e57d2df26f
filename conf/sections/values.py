"""Checks single values of the config, and says in which key one is wrong."""

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
    """Raises EdgewiseError, with the key, for a value below the least."""
    if value < least:
        raise EdgewiseError(f"{key}={value}: expected {least} or more")


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
