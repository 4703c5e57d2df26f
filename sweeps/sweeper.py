"""Hydra's sweeper, which also puts several seeds of a cell into one job (`sweeps.seeds_per_job`)."""

from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins

from sweeps.grid import seeds_per_job

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
# Not by an import: Hydra imports its plugins' modules anew when it starts, and the class is another one then.
_BASIC: Any = Plugins.instance().class_name_to_class[BASIC]


class SeedSweeper(_BASIC):
    """Hydra's own sweeper but for the jobs that it makes."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """The jobs' overrides, in batches of at most `max_batch_size` jobs."""
        [cells] = _BASIC.split_arguments(overrides, None)
        return list(self.split_overrides_to_chunks(in_jobs(cells, seeds_per_job()), max_batch_size))


def in_jobs(cells: list[list[str]], n: int) -> list[list[str]]:
    """The overrides of each job, made of those of each cell: up to `n` consecutive seeds of a cell are one job.

    What differs in anything but the seed is another cell's; a gap among the seeds ends a job. With `n` = 1 the cells
    are the jobs, as they are; else those of a cell stand together, by rising seed.
    """
    if n == 1:
        return cells
    seeds: dict[tuple[str, ...], list[int]] = {}
    for cell in cells:
        rest = tuple(override for override in cell if not override.startswith(("seed=", "mesh.seed=")))
        of_cell = seeds.setdefault(rest, [])
        of_cell += [int(override.removeprefix("seed=")) for override in cell if override.startswith("seed=")]
    return [
        [*rest, f"seed={job[0]}", f"mesh.seed={len(job)}"] if job else list(rest)
        for rest, of_cell in seeds.items()
        for job in (_runs(of_cell, n) if of_cell else [[]])
    ]


def _runs(seeds: list[int], n: int) -> list[list[int]]:
    """The seeds, rising, cut at every gap and after every `n`: [0, 1, 2, 5] with 2 -> [0, 1], [2], [5]."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1 and len(runs[-1]) < n:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return runs


def register_sweeper() -> None:
    """Has Hydra take `SeedSweeper` where it would take its own: it makes no sweeper of another package's."""
    Plugins.instance().class_name_to_class[BASIC] = SeedSweeper
