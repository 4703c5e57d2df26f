import os
import sys
from importlib.metadata import version

import pytest
from hypothesis import settings

from conf.garbage import look_for_cycles_seldom
from tests.longest import LONGEST

# How long an example takes is the machine's business: no test fails for it.
settings.register_profile("edgewise", deadline=None)
settings.load_profile("edgewise")

look_for_cycles_seldom()  # as every command does

# LLVM without its optimizations and XLA's older way to write a CPU's code: a third of the time to compile a small cell.
# JAX 0.11 and later have no such older way, and end where they read of it.
QUICK_COMPILATION = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    QUICK_COMPILATION += " --xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
    """Compiles quickly in the default suite, the processes that it starts too; the slow tests compile as users do."""
    if config.option.markexpr == "not slow":
        os.environ.setdefault("XLA_FLAGS", QUICK_COMPILATION)


def pytest_collection_modifyitems(items):
    """Puts the longest files first: at the end of a run no worker is left with one while the other has nothing."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
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


@pytest.fixture
def without_pictures(monkeypatch):
    """Metrics draw no figures, and their page is empty: both take seconds."""

    def write_page(path, *given, **named):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<html></html>")

    monkeypatch.setattr("metrics.output.directory.write_figures", lambda *given: {})
    monkeypatch.setattr("metrics.output.directory.write_report", write_page)


@pytest.fixture(autouse=True, scope="session")
def compilation_cache():
    """What one test compiled, the next and the processes that it starts need not."""
    from train.compilation_cache import keep_compiled

    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(keep_compiled())
    # Python's own too: without kept bytecode each process compiles all that it imports again, for 2 s of train's 4.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="module")
def wandb_server():
    """A loopback W&B server which this process and those that it starts take for W&B; its rules must not be broken."""
    from tests.wandb_server import WandbServer

    patch = pytest.MonkeyPatch()
    with WandbServer() as server:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        tear_down_wandb()
        yield server
        tear_down_wandb()
        patch.undo()
        assert server.problems == []


def tear_down_wandb():
    """Ends the SDK's service process, which else would go on talking to the server of an earlier test."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
