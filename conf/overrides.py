"""Checks a command line's overrides, KEY=VALUE, before Hydra does, and says how to write what Hydra can't read."""

import re
import shlex
from collections.abc import Sequence
from typing import Any, cast

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from conf.errors import EdgewiseError, first_line
from conf.names import checked_seed
from conf.text import check_key

MAPPINGS = ("dataset.classes", "dataset.columns")  # keys whose values are mappings
TEXTS = ("dataset.template",)  # keys whose values are text, whatever they look like
_SPECIAL = re.compile(r"[\\()\[\]{}:=,]")  # what a backslash takes its meaning from
_SAFE = re.compile(r"[\w@%+=:,./-]+")  # what no shell reads as anything else


def check_overrides(arguments: Sequence[str]) -> None:
    """Raises EdgewiseError, naming it, for an override that Hydra can't read or whose keys are no text.

    The message has the line to type, where what was meant can be told.
    """
    parser = OverridesParser.create()
    for place in override_places(arguments):
        argument = arguments[place]
        if "=" not in argument:
            raise EdgewiseError(_no_override(arguments, place))
        try:
            override = parser.parse_override(argument)
        except HydraException as error:
            key, _, written = argument.partition("=")
            if key == "seed":
                checked_seed(key, written)
            raise EdgewiseError(
                f"{argument}: Hydra can't read it ({first_line(error)}); {_instead(arguments, place)}"
            ) from None
        value = override.value()
        if isinstance(value, str) and ":" in value and override.key_or_group in MAPPINGS:
            raise EdgewiseError(f"{argument}: expected a mapping; {_whole_mapping(arguments, override.key_or_group)}")
        if isinstance(value, dict):  # Python takes true and 1.0 for the key 1, which may be in the config already
            for name, one in value.items():
                check_key(override.key_or_group, name, one)


def override_places(arguments: Sequence[str]) -> list[int]:
    """Returns which arguments are to be overrides: neither flags, nor a flag's value, nor `~key`, nor empty."""
    return [
        place
        for place, (before, argument) in enumerate(zip(["", *arguments], arguments))
        if argument
        and not argument.startswith(("-", "~"))
        and (not before.startswith("-") or before in ("-m", "--multirun"))
    ]


def shell_quoted(text: str) -> str:
    """Returns a text as a shell's command line takes it, in quotes where it needs them."""
    if _SAFE.fullmatch(text):
        return text
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


def hydra_text(text: str) -> str:
    """Returns a text as Hydra's grammar takes it as a key or as a value: as it is, escaped, or (a value) in quotes."""
    escaped = _SPECIAL.sub(lambda found: "\\" + found[0], text)
    inner = escaped.strip()
    start, end = escaped[: len(escaped) - len(escaped.lstrip())], escaped[len(escaped.rstrip()) :]
    escaped = start.replace(" ", "\\ ") + inner + (end.replace(" ", "\\ ") if inner else "")
    if _value_of(f"key={{{escaped}: x}}") == {text: "x"} or text.isdigit():
        return escaped
    return _in_quotes(text)


def _no_override(arguments: Sequence[str], place: int) -> str:
    """Returns the message for a word that is no override: often the rest of one that a shell has cut at a space."""
    argument = arguments[place]
    for first in range(place - 1, -1, -1):
        key, equals, _ = arguments[first].partition("=")
        if equals and not arguments[first].startswith("-"):
            whole = " ".join(arguments[first : place + 1])
            if (line := _line_to_type(whole)) is not None:
                return f"{argument}: expected KEY=VALUE. If it belongs to {key}, type {line}"
            break
    return f"{argument}: expected KEY=VALUE, such as seed=0"


def _instead(arguments: Sequence[str], place: int) -> str:
    """Returns what to type instead of an argument that Hydra can't read."""
    argument = arguments[place]
    for following in arguments[place + 1 :]:  # a shell has cut it at its spaces
        if _is_closed(argument) or following.startswith("-") or re.match(r"[\w.]+=", following):
            break
        argument += f" {following}"
    if (line := _line_to_type(argument)) is not None:
        return f"type {line}"
    if argument.partition("=")[0] in MAPPINGS:
        return (
            "its command line takes such names neither with nor without quotes: put them into a file, as "
            "`python -m conf.init DIR` writes it, and give dataset=NAME"
        )
    return (
        "a value with other characters than letters, digits and /-\\+.$%*@?| goes in quotes: "
        f"'{argument.partition('=')[0]}=\"VALUE\"'"
    )


def _whole_mapping(arguments: Sequence[str], key: str) -> str:
    """Returns what to type where a shell has made a word for each pair of {a:b,c:d}."""
    pairs = [written for name, _, written in (argument.partition("=") for argument in arguments) if name == key]
    line = _line_to_type(f"{key}={{{', '.join(pairs)}}}".replace(":", ": "))
    return "put it in quotes, as README.md shows" if line is None else f"type {line}"


def _is_closed(text: str) -> bool:
    """Tells whether every bracket of a text is closed."""
    return all(text.count(opening) <= text.count(closing) for opening, closing in ("{}", "[]"))


def _line_to_type(argument: str) -> str | None:
    """Returns an override as a shell and Hydra can read it, quoted for both; None where there is no such line."""
    key, _, written = argument.partition("=")
    written = written.strip()
    try:
        value = yaml.load(written, Loader=yaml.BaseLoader)  # which reads every value as text
    except yaml.YAMLError:
        value = written
    if key in TEXTS or not isinstance(value, (dict, list)) or (isinstance(value, dict) and "" in value.values()):
        value = written
    line = f"{key}={_rendered(value)}"
    found = _value_of(line)
    return shell_quoted(line) if found is not None and _as_text(found) == _as_text(value) else None


def _rendered(value: Any) -> str:
    """Writes a value, a text or what YAML has made of texts, in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{hydra_text(str(key))}: {_rendered(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_rendered, value)) + "]"
    read = _value_of(f"key={value}")
    is_plain = isinstance(read, (str, int)) and not isinstance(read, bool) and str(read) == value
    return str(value) if is_plain else _in_quotes(value)


def _in_quotes(text: str) -> str:
    return '"' + re.sub(r'(\\*)"', r'\1\1\\"', text) + '"'


def _value_of(override: str) -> Any:
    """Returns what Hydra reads as the value of an override; None where it can't read it."""
    try:
        return cast(Any, OverridesParser.create().parse_override(override).value())
    except HydraException:
        return None


def _as_text(value: Any) -> Any:
    """Returns a value with everything in it as text, keys included: YAML and Hydra differ in what they call numbers."""
    if isinstance(value, dict):
        return {str(key): _as_text(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return str(value)
