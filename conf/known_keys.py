"""Checks a command line's keys, choices and types before Hydra composes the config, and names what was meant.

Hydra's own message for a mistyped key advises `+key=value`, which would add a key that nothing reads.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.dataset_file import CONF, configs_of_store, store_of
from conf.errors import EdgewiseError
from conf.overrides import override_places
from conf.schema import Config

GROUPS = sorted({file.parent.name for file in CONF.glob("*/*.yaml")})
_MAY_BE_NULL = ("sweep", "experiment")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
_MOST_NAMED = 3  # keys that are offered in place of one that isn't there


def check_known(arguments: Sequence[str]) -> None:
    """Raises EdgewiseError for an override of a key that isn't there, for a choice that isn't, and for a wrong type.

    Several values of a key are refused where the command line has no `-m`. What Hydra can't read was refused before.
    """
    parser = OverridesParser.create()
    is_grid = "-m" in arguments or "--multirun" in arguments
    folders = _config_folders(arguments)
    for place in override_places(arguments):
        argument = arguments[place]
        override = parser.parse_override(argument)
        key = override.key_or_group
        if override.is_delete() or override.package is not None or key.startswith(("hydra.", "hydra/")):
            continue
        if override.is_sweep_override() and not is_grid:
            raise EdgewiseError(
                f"{argument}: several values make a grid, which needs -m: python -m sweeps -m …; one text with a comma "
                f"goes in quotes: '{key}=\"…\"'"
            )
        if key in GROUPS:
            _check_choices(argument, key, override, folders)
        else:
            _check_key(argument, key, override)


def keys_of(kind: type, before: str = "") -> Iterator[str]:
    """Yields every key of a dataclass and of those that it holds, with dots between."""
    for name, its_type in _fields(kind).items():
        if isinstance(its_type, type) and dataclasses.is_dataclass(its_type):
            yield from keys_of(its_type, f"{before}{name}.")
        else:
            yield before + name


def _check_choices(argument: str, group: str, override: Override, folders: Sequence[Path] | None) -> None:
    """Raises EdgewiseError for a choice of a group that is no name, or none of a file in `folders`, where known."""
    for value in _values(override):
        if value is None and group in _MAY_BE_NULL:
            continue
        there = sorted({file.stem for folder in folders or [CONF] for file in (folder / group).glob("*.yaml")})
        names = value if isinstance(value, list) else [value]
        for name in names:
            if isinstance(name, str) and (folders is None or "${" in name or _is_there(name, group, folders)):
                continue
            if not isinstance(name, str) or not name:
                raise EdgewiseError(f"{argument}: expected the name of a config, one of {', '.join(there)}")
            near = difflib.get_close_matches(name, there, n=1)
            meant = f"did you mean {group}={near[0]}? There are" if near else "there are"
            raise EdgewiseError(f"{argument}: there is no conf/{group}/{name}.yaml; {meant} {', '.join(there)}")


def _is_there(name: str, group: str, folders: Sequence[Path]) -> bool:
    return any((folder / group / f"{name.removesuffix('.yaml')}.yaml").is_file() for folder in folders)


def _check_key(argument: str, key: str, override: Override) -> None:
    """Raises EdgewiseError for a key that the config doesn't have, and for a value of another type."""
    kind: Any = Config
    parts = key.split(".")
    for place, part in enumerate(parts):
        if not dataclasses.is_dataclass(kind):
            return  # within a mapping, whose keys are free
        assert isinstance(kind, type)
        if part not in _fields(kind):
            raise EdgewiseError(f"{argument}: there is no key {key}{_meant(key)}")
        holder, kind = kind, _fields(kind)[part]
        if place == len(parts) - 1 and kind in _KINDS:
            _check_type(argument, holder, part, override)


def _check_type(argument: str, holder: type, name: str, override: Override) -> None:
    """Raises EdgewiseError for a value that OmegaConf would not take for the field of this name."""
    expected = _KINDS[_fields(holder)[name]]
    for value in _values(override):
        if isinstance(value, str) and "${" in value:
            continue
        try:
            OmegaConf.structured(holder)[name] = value
        except OmegaConfBaseException:
            raise EdgewiseError(f"{argument}: expected {expected}") from None


def _meant(key: str) -> str:
    """Returns which keys may have been meant: of the same last part, or written alike."""
    last = {one: one.rpartition(".")[2] for one in keys_of(Config)}
    meant = key.rpartition(".")[2]
    near = [one for one, name in last.items() if name == meant] or difflib.get_close_matches(key, last, n=1)
    alike = difflib.get_close_matches(meant, set(last.values()), n=2)
    near = near or [one for one, name in last.items() if name in alike]
    if not near:
        return "; conf/sections/ describes those that there are"
    return f"; did you mean {' or '.join(near[:_MOST_NAMED])}?"


def _values(override: Override) -> list[Any]:
    """Returns the values of an override: one, or those of a list of choices; none of a range or a glob."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [_plain(one) for one in value.list]
    return [] if override.is_sweep_override() else [_plain(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.text if isinstance(value, QuotedString) else value


def _fields(kind: type) -> dict[str, Any]:
    """Returns the fields of a dataclass with their types; of an optional one, the type of its values."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        is_optional = type(None) in typing.get_args(hint)
        found[name] = inner[0] if is_optional and len(inner) == 1 else hint
    return found


def _config_folders(arguments: Sequence[str]) -> list[Path] | None:
    """Returns the folders that Hydra looks for configs in; None where a command line names some of another kind."""
    folders = [CONF, configs_of_store(store_of(arguments))]
    for argument in arguments:
        if argument.startswith(("--config-", "-cd", "-cp", "-cn")):  # which may name further folders
            return None
        if argument.startswith("hydra.searchpath="):
            for path in argument.partition("=")[2].strip("[]").split(","):
                kind, _, folder = path.strip(" '\"").partition("://")
                if kind != "file":
                    return None
                folders.append(Path(folder))
    return folders
