"""Keeps what Hydra records of a multirun private: readable by its owner alone, and without secrets."""

import atexit
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from conf.secrets import without_secrets


class PrivateMultirun(Callback):
    """Makes the folder of a multirun and its `multirun.yaml` private, and takes secrets out of the file.

    The file holds every override as it was typed, such as `hydra.job.env_set.HF_TOKEN=…`.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes the folder and the empty file before Hydra writes to it, with modes 700 and 600."""
        path = _record(config)
        with suppress(OSError):  # Hydra, which needs the same, says what is wrong
            missing = [folder for folder in path.parents if not folder.exists()]
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            path.chmod(0o600)
            atexit.register(_remove_empty, path, missing, os.getpid())

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Takes secrets out of the file, which Hydra has written by now."""
        _clean(_record(config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Takes secrets out of the file of a multirun whose jobs ran elsewhere."""
        _clean(_record(config))


def _record(config: DictConfig) -> Path:
    return Path(config.hydra.sweep.dir).absolute() / "multirun.yaml"


def _clean(path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        return
    before = path.read_text(encoding="utf-8")
    values = OmegaConf.to_container(OmegaConf.create(before), resolve=False)
    cleaned = without_secrets(values)
    if cleaned != values:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(OmegaConf.to_yaml(OmegaConf.create(cleaned)))
        os.replace(partial, path)


def _remove_empty(path: Path, made: list[Path], pid: int) -> None:
    """Removes what a multirun that never came to its first job left: the file, and the folders `made`, innermost first.

    A folder that holds something else by now stays.
    """
    with suppress(OSError):
        if pid == os.getpid() and path.stat().st_size == 0:
            path.unlink()
            for folder in made:
                folder.rmdir()
