"""Replaces Hydra's sweeper by one that can put several seeds of a cell into one job (`sweeps.seeds_per_job`).

And a job that is lost does not end its sweep.
"""

from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sweeps.grid import seeds_per_job
from sweeps.launching import EnduringLauncher
from sweeps.seeds import overrides_of_jobs

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

if TYPE_CHECKING:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
else:
    # Hydra imports its plugins' modules anew when it starts, and the class is another one then than an import gives.
    BasicSweeper = Plugins.instance().class_name_to_class[BASIC]


class SeedSweeper(BasicSweeper):
    """Sweeps as Hydra's own sweeper does, but for the jobs that it makes of the cells."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Sets the sweeper up, with the launcher that the config names."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.launcher = EnduringLauncher(self.launcher)

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Returns the jobs' overrides, in batches of at most `max_batch_size` jobs."""
        [cells] = BasicSweeper.split_arguments(overrides, None)
        jobs = overrides_of_jobs(cells, seeds_per_job())
        return [list(batch) for batch in BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size)]


def register_sweeper() -> None:
    """Makes Hydra take `SeedSweeper` where it would take its own, because it makes no sweeper of another package."""
    Plugins.instance().class_name_to_class[BASIC] = SeedSweeper
