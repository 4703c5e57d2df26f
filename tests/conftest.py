import os
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


def shared_data() -> Path | None:
    """The folder of real text for slow tests, where there is one."""
    folder = Path(os.environ.get("SWITCHYARD_SHARED", REPO.parent / "shared")) / "data"
    return folder if folder.is_dir() else None


@pytest.fixture
def compose():
    """A function: overrides -> the typed config, as a command would get it."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from conf.app import CONF, to_config

    def make(*overrides: str, config_name: str = "config"):
        with initialize_config_dir(CONF, version_base="1.3"):
            return to_config(hydra_compose(config_name, list(overrides)))

    return make


@pytest.fixture
def tracker(tmp_path):
    from tracking.store import Store

    return Store(tmp_path / "runs")


@pytest.fixture(autouse=True, scope="session")
def compilation_cache():
    """What one test compiled, the next and the processes it starts need not."""
    from train.compilation import keep_compiled

    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(keep_compiled())
