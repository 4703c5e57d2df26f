"""Registers Hydra's launchers, which say where the cells of a sweep run. Each is a plugin that may be absent.

conf/hydra/launcher/NAME.yaml holds this project's values of a launcher. It stands on the plugin's own defaults, which
are registered here as NAME_plugin, because the plugin registers them under the same name as ours.
"""

import importlib
import re
import warnings

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

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
    # Hydra 1.3 also merges ours with the plugin's of the same name, which changes nothing, and warns of its end.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
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
        ConfigStore.instance().store(group="hydra/launcher", name=f"{name}_plugin", node=node, provider="edgewise")
