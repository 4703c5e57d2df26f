"""Makes a command of a function of `Config`: Hydra composes the config; its types and its errors are checked here."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.dataset_file import search_store, store_of, with_named_dataset
from conf.errors import EdgewiseError, first_line, no_room
from conf.file_source import register_file_source
from conf.garbage import look_for_cycles_seldom
from conf.known_keys import check_known
from conf.overrides import check_overrides
from conf.pipes import close_output, end_at_closed_pipe
from conf.schema import Config
from conf.version import version_line

ConfigStore.instance().store(name="schema", node=Config)
register_file_source()
# For what Hydra makes of the config before its types are checked, hydra.sweep.dir: ~ is the user's home there too.
OmegaConf.register_new_resolver("home", os.path.expanduser, replace=True)
CONF = str(Path(__file__).parent)


def to_config(composed: DictConfig) -> Config:
    """Returns the typed config. Raises EdgewiseError for a missing value and for one that its schema refuses."""
    try:
        if missing := sorted(OmegaConf.missing_keys(composed)):
            raise EdgewiseError(f"{', '.join(missing)} not set: give {' '.join(f'{key}=VALUE' for key in missing)}")
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        message = first_line(error)
        raise EdgewiseError(f"{key}: {message}" if key else message) from None
    assert isinstance(config, Config)
    config.check()
    return config


def exit_with(error: Exception) -> NoReturn:
    """Ends the command with the error's message and status 1."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def command(main: Callable[[Config], Any], config_name: str = "config") -> Callable[[], Any]:
    """Returns a Hydra app around `main`; `--version` prints the product's version instead.

    An EdgewiseError ends the app with its message and status 1, without a traceback, and so do a full disk and, where
    the output goes into a pipe, a reader that is gone.
    """

    @hydra.main(version_base="1.3", config_path=CONF, config_name=config_name)
    @functools.wraps(main)
    def app(composed: DictConfig) -> Any:
        try:
            return main(to_config(composed))
        except EdgewiseError as error:
            exit_with(error)
        except BrokenPipeError:
            close_output()
            exit_with(EdgewiseError("whoever read the output is gone, so the command stopped; send it to a file"))
        except OSError as error:
            if (full := no_room(error)) is None:
                raise
            exit_with(full)

    @functools.wraps(main)
    def start() -> Any:
        look_for_cycles_seldom()
        end_at_closed_pipe(sys.argv[1:])
        if "--version" in sys.argv[1:]:  # else Hydra prints its own
            print(version_line())
            return None
        try:
            check_overrides(sys.argv[1:])
            check_known(sys.argv[1:])
            sys.argv[1:] = with_named_dataset(sys.argv[1:])
            search_store(store_of(sys.argv[1:]))
        except EdgewiseError as error:
            exit_with(error)
        return app()

    return start
