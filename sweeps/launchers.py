"""Registers Hydra's launchers, which say where the cells of a sweep run. Each is a plugin that may be absent.

conf/hydra/launcher/NAME.yaml holds this project's values of a launcher. It stands on the plugin's own defaults, which
are registered here as NAME_plugin, because the plugin registers them under the same name as ours.
"""

import importlib
import re

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from conf.errors import EdgewiseError

# name: the module and class of the plugin's config, and the extra of pyproject.toml that installs it
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher.config", "JobLibLauncherConf", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher.config", "LocalQueueConf", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher.config", "SlurmQueueConf", "slurm"),
    "ray": ("hydra_plugins.hydra_ray_launcher._config", "RayLauncherConf", "ray"),
}


def register_launchers(arguments: list[str]) -> None:
    """Makes the installed launchers known to Hydra. EdgewiseError where `arguments` ask for another of LAUNCHERS."""
    Plugins.instance()  # imports all plugins, which register their configs: not after this
    known = ConfigStore.instance()
    wanted = {match[1] for argument in arguments if (match := re.fullmatch(r"\+?hydra/launcher=(\w+)", argument))}
    for name, (module, config, extra) in LAUNCHERS.items():
        try:
            schema = getattr(importlib.import_module(module), config)
        except ImportError:
            if name in wanted:
                raise EdgewiseError(
                    f"hydra/launcher={name}: its plugin is not installed. Install it with: "
                    f"uv pip install --python .venv -r pyproject.toml --extra {extra}"
                ) from None
            continue
        # As plain values: Hydra imports a plugin's module again, and its class is another one then.
        node = OmegaConf.to_container(OmegaConf.structured(schema))
        known.store(group="hydra/launcher", name=f"{name}_plugin", node=node, provider="edgewise")
        # Hydra 1.3 would merge ours with the plugin's of the same name, which changes nothing, and warn of its end in
        # every worker. The workers take over what is known here.
        known.repo["hydra"]["launcher"].pop(f"{name}.yaml", None)


def check_launcher(launcher: DictConfig) -> None:
    """Raises EdgewiseError for a key of the joblib launcher that would change nothing, and for no number of workers.

    `launcher` is `hydra.launcher` as it was composed. A worker takes one job at a time (`sweeps/workers.py`), so that
    n_jobs is all that there is to choose.
    """
    given = OmegaConf.to_container(launcher)
    module, config, _ = LAUNCHERS["joblib"]
    assert isinstance(given, dict)
    if not str(given.get("_target_", "")).startswith(module.rpartition(".")[0]):
        return
    default = OmegaConf.to_container(OmegaConf.structured(getattr(importlib.import_module(module), config)))
    assert isinstance(default, dict)
    for key, value in given.items():
        if key != "n_jobs" and value != default.get(key):
            raise EdgewiseError(
                f"hydra.launcher.{str(key)}={value}: expected hydra.launcher.n_jobs=N alone, as a worker takes one job "
                "at a time; leave the key away"
            )
    n_jobs = given.get("n_jobs")
    if not isinstance(n_jobs, int) or n_jobs == 0:
        raise EdgewiseError(
            f"hydra.launcher.n_jobs={n_jobs}: expected how many jobs run at a time, 1 or more; -1: as many as CPUs"
        )
