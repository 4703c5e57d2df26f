"""Refuses, before the first cell, grids that can't be told apart or written, and keys that a sweep would not heed."""

import os
from collections import Counter
from collections.abc import Sequence

from conf.errors import EdgewiseError
from conf.schema import Config
from sweeps.runs import CellKey
from train.pretrained.find import is_open


def check_grid(configs: Sequence[Config]) -> None:
    """Checks the composed cells of a grid as a whole, whether they are to be run or only listed.

    Raises EdgewiseError for what `check_keys` refuses, for `mesh.seed` in a grid, for datasets whose tables would
    replace each other, and for cells that can't be told apart by dataset, size and seed.
    """
    for config in configs:
        check_keys(config)
    if (n := max(config.mesh.seed for config in configs)) > 1:
        raise EdgewiseError(
            f"mesh.seed={n} in a grid: expected 1, because the grid's own seeds say which there are; "
            f"sweeps.seeds_per_job={n} puts {n} of them into one job"
        )
    _check_outputs(configs)
    named = [config for config in configs if not is_open(config.size)]  # a checkpoint names the others at the start
    check_told_apart([(config.dataset.name, config.size.name, config.seed) for config in named])


def check_told_apart(keys: Sequence[CellKey]) -> None:
    """Raises EdgewiseError where two cells have the same dataset, size and seed."""
    if repeated := sorted(key for key, count in Counter(keys).items() if count > 1):
        raise EdgewiseError(
            f"the grid holds {'-'.join(map(str, repeated[0]))} more than once: a cell is (dataset, size, seed), "
            "so other keys can't be swept in one multirun; give each value of theirs its own tracking.root"
        )


def check_keys(config: Config) -> None:
    """Raises EdgewiseError for keys of other commands that would change a cell, or nothing."""
    if (checkpoint := config.infer.checkpoint) is not None:
        raise EdgewiseError(
            f"infer.checkpoint={checkpoint} in a sweep: expected none, because it scores the models that it trains. "
            f"`python -m infer … infer.checkpoint={checkpoint}` scores that checkpoint; train.init={checkpoint} starts "
            "the training from it"
        )
    if (scores := config.metrics.scores) is not None:
        raise EdgewiseError(
            f"metrics.scores={scores} in a sweep: expected none, because its tables are of its own cells' scores; "
            f"`python -m metrics 'metrics.scores={scores}' metrics.out=DIR` makes those of files"
        )


def check_alone(config: Config) -> None:
    """Raises EdgewiseError for what `check_keys` refuses, and for what only a grid can do, in a cell alone."""
    check_keys(config)
    if (n := config.sweeps.seeds_per_job) > 1:
        raise EdgewiseError(
            f"sweeps.seeds_per_job={n} without -m: expected a grid, such as -m seed='range({n})'; mesh.seed={n} runs "
            f"{n} seeds at once without one"
        )


def _check_outputs(configs: Sequence[Config]) -> None:
    """Raises EdgewiseError where the tables of two datasets would be written to one `metrics.out`."""
    dataset_of: dict[str, str] = {}
    for config in configs:
        name, out = config.dataset.name, config.metrics.out
        if out is None or not config.sweeps.metrics:
            continue
        first = dataset_of.setdefault(os.path.abspath(out), name)
        if first != name:
            raise EdgewiseError(
                f"metrics.out={out} for the datasets {first} and {name}: expected a folder for each, as the tables of "
                f"one would replace the other's; give 'metrics.out={out}/${{dataset.name}}', or leave the key away "
                "(out/DATASET)"
            )
