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
    """Sorts the seeds and cuts them at every gap and after every `most`: [0, 1, 2, 5] by 2 -> [0, 1], [2], [5].

    What is left is cut into lengths that divide `most`, the longest first: 7 seeds by 4 are 4, 2 and 1. A job's length
    has to divide the number of devices, and where `most` does, they do.
    """
    stretches: list[list[int]] = []
    for seed in sorted(seeds):
        if stretches and seed == stretches[-1][-1] + 1:
            stretches[-1].append(seed)
        else:
            stretches.append([seed])
    longest = max(map(len, stretches), default=0)
    lengths = [length for length in range(min(most, longest), 0, -1) if most % length == 0]
    jobs = []
    for stretch in stretches:
        while stretch:
            length = next(length for length in lengths if length <= len(stretch))
            jobs.append(stretch[:length])
            stretch = stretch[length:]
    return jobs


def overrides_of_jobs(cells: Sequence[list[str]], seeds_per_job: int) -> list[list[str]]:
    """Returns the overrides of each job, made of those of each cell: consecutive seeds of a cell share a job.

    Cells that differ in more than the seed share none, and seeds are cut as `consecutive_seeds` does. Where
    `seeds_per_job` is 1, the cells are the jobs, as they are; else the jobs of cells that differ in the seed alone
    follow each other, by rising seed. Raises EdgewiseError as `split_seed` does.
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
