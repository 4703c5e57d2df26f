"""Reads the seeds of a grid's cells from Hydra's overrides, and cuts them into those that run in one job."""

from collections.abc import Iterable, Sequence

from conf.names import checked_seed


def split_seed(overrides: Iterable[str]) -> tuple[tuple[str, ...], int | None]:
    """Splits a cell's overrides into all but `seed=N`, and N; None where the seed is the config's own.

    Raises EdgewiseError as `checked_seed` does.
    """
    rest: list[str] = []
    seed = None
    for override in overrides:
        if not override.startswith("seed="):
            rest.append(override)
            continue
        seed = checked_seed("seed", override.removeprefix("seed="))
    return tuple(rest), seed


def consecutive_seeds(seeds: Iterable[int], most: int) -> list[list[int]]:
    """Sorts the seeds and cuts them at every gap and after every `most`: [0, 1, 2, 5] by 2 -> [0, 1], [2], [5]."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1 and len(runs[-1]) < most:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return runs


def overrides_of_jobs(cells: Sequence[list[str]], seeds_per_job: int) -> list[list[str]]:
    """Returns the overrides of each job, made of those of each cell: consecutive seeds of a cell share a job.

    Cells that differ in more than the seed share none, and a gap among the seeds ends a job. Where `seeds_per_job` is
    1, the cells are the jobs, as they are; else the jobs of cells that differ in the seed alone follow each other, by
    rising seed. Raises EdgewiseError as `split_seed` does.
    """
    if seeds_per_job == 1:
        return list(cells)
    seeds_of: dict[tuple[str, ...], list[int]] = {}
    for cell in cells:
        rest, seed = split_seed(override for override in cell if not override.startswith("mesh.seed="))
        seeds = seeds_of.setdefault(rest, [])
        if seed is not None:
            seeds.append(seed)
    jobs: list[list[str]] = []
    for rest, seeds in seeds_of.items():
        if not seeds:
            jobs.append(list(rest))
        for job in consecutive_seeds(seeds, seeds_per_job):
            jobs.append([*rest, f"seed={job[0]}", f"mesh.seed={len(job)}"])
    return jobs
