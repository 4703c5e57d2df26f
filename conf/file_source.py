"""Has Hydra check the YAML files that it reads a config from."""

from pathlib import Path

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult

from conf.errors import EdgewiseError
from conf.yaml_checks import check_yaml


class FileConfigSource(file_config_source.FileConfigSource):
    """Reads config files as Hydra's source of this name does, but refuses YAML that is not what it seems.

    The name is needed: a launcher sends the registry of sources to its jobs, where Hydra registers its own class again
    and accepts no other name in its place.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns what the file holds. Raises Hydra's ConfigCompositionException for what `check_yaml` refuses."""
        file = Path(self.path, self._normalize_file_name(config_path))
        if file.is_file():
            try:
                check_yaml(str(file), file.read_text(encoding="utf-8", errors="replace"))
            except EdgewiseError as error:
                raise ConfigCompositionException(str(error)) from None
        return super().load_config(config_path)


def register_file_source() -> None:
    """Makes Hydra read files by this module's source, in place of the one that its plugins have registered."""
    Plugins.instance()
    SourcesRegistry.instance().types["file"] = FileConfigSource
