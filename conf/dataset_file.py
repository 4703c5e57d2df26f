"""Writes a dataset's config as a YAML file of the group `dataset`, and finds such files by the dataset's name.

They are in two folders: `conf/dataset/`, and `dataset/` of a store's configs, where training leaves each dataset that
was given to it on the command line.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from conf.errors import EdgewiseError
from conf.names import checked_name
from conf.schema import Dataset, Recipe

CONF = Path(__file__).parent
DEFAULT_ROOT = "runs"  # of conf/tracking/*.yaml


def dataset_yaml(dataset: Dataset, comment: str) -> str:
    """Returns a YAML file, `comment` on top, that composes to the dataset: the fields that differ from the defaults.

    Texts are in quotes, so that YAML reads none of them as something else.
    """
    lines = [f"# {line}" if line else "#" for line in comment.splitlines()]
    default = Dataset(name="")
    for field in dataclasses.fields(Dataset):
        value = getattr(dataset, field.name)
        if value == getattr(default, field.name):
            continue
        if isinstance(value, Recipe):
            changed = {key: one for key, one in vars(value).items() if one != getattr(default.recipe, key)}
            lines.append(f"recipe: {_in_flow(changed)}")
        elif isinstance(value, dict):
            lines.append(f"{field.name}:")
            lines += [f"  {_in_quotes(str(key))}: {_in_flow(one)}" for key, one in value.items()]
        else:
            lines.append(f"{field.name}: {_in_flow(value)}")
    return "\n".join(lines) + "\n"


def configs_of_store(root: str | Path) -> Path:
    """Returns the folder of a store's own configs, which Hydra searches after the project's."""
    return Path(os.path.expanduser(root)).absolute() / "conf"


def file_of_dataset(name: str, root: str | Path) -> Path | None:
    """Returns the file that describes the dataset of this name, the project's before the store's; None for neither."""
    try:
        checked_name("dataset.name", name)
    except EdgewiseError:
        return None  # a path, say: whoever checks the config says so
    files = [folder / "dataset" / f"{name}.yaml" for folder in (CONF, configs_of_store(root))]
    return next((file for file in files if file.is_file()), None)


def with_named_dataset(arguments: Sequence[str]) -> list[str]:
    """Returns a command line with `dataset=NAME` added where it has `dataset.name=NAME` alone and the name is known.

    So the rest of the dataset comes from its file, and what the command line gives wins. Prints on stderr what is taken
    from where. A command line that chooses a dataset, an experiment or a config itself stays as it is.
    """
    name = name_alone(arguments)
    file = None if name is None else file_of_dataset(name, store_of(arguments))
    if file is None:
        return list(arguments)
    given = {argument.partition("=")[0] for argument in arguments}
    try:
        there = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        there = None  # Hydra says what is wrong with it
    if isinstance(there, dict):
        kept = [key for key in there if f"dataset.{key}" not in given and key != "recipe"]
        print(f"note: dataset {name}: {', '.join(kept)} from {file}", file=sys.stderr)
    return [*arguments, f"dataset={name}"]


def name_alone(arguments: Sequence[str]) -> str | None:
    """Returns the dataset's name where a command line gives that, and chooses no dataset, experiment or config."""
    given = dict(argument.partition("=")[::2] for argument in arguments if "=" in argument)
    chosen = {"dataset", "experiment", "sweep"} & {key.lstrip("+") for key in given}
    own_config = any(argument.startswith(("--config-name", "-cn")) for argument in arguments)
    return None if chosen or own_config else given.get("dataset.name") or None


def store_of(arguments: Sequence[str]) -> str:
    """Returns the store that a command line names, `tracking.root`, or the default."""
    roots = [argument.partition("=")[2] for argument in arguments if argument.startswith("tracking.root=")]
    return roots[-1].strip("'\"") if roots else DEFAULT_ROOT


def search_store(root: str | Path) -> None:
    """Makes Hydra look for configs in the store too, where the project has none of the name."""
    configs = configs_of_store(root)
    if not configs.is_dir():
        return

    class StoreSearchPath(SearchPathPlugin):
        """Adds the folder of the store's configs to Hydra's search path."""

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            """Appends the folder."""
            search_path.append(provider="store", path=f"file://{configs}")

    Plugins.instance().register(StoreSearchPath)


def _in_flow(value: Any) -> str:
    """Writes a value on one line, texts in double quotes; `${` is escaped, which OmegaConf fills in otherwise."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_in_flow, value)) + "]"
    if isinstance(value, str):
        return _in_quotes(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))
    return "null" if value is None else str(value).lower()


def _in_quotes(text: str) -> str:
    """Returns a text as YAML writes it in double quotes."""
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30)).strip()
