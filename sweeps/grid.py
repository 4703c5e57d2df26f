"""The grid of a multirun: its cells before it starts, and its tables when it is through."""

import dataclasses
import os
import shlex
import sys
from contextlib import suppress
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from conf.app import exit_with, to_config
from conf.errors import EdgewiseError
from conf.schema import Config
from sweeps.status import Cell, cell_states, print_grid
from tracking import open_tracker
from tracking.interface import Run, Tracker, TrackingError
from train.identity import identity_hash, train_run_id
from train.pretrained.find import resolved

GROUP_VARIABLE = "EDGEWISE_SWEEP"


@dataclasses.dataclass
class Sweep:
    """A multirun that has started: its cells and the config of each, and the run that keeps the grid."""

    cells: list[Cell]
    configs: list[Config]
    tracker: Tracker
    run: Run


# Hydra makes the callback and gives no way back to it, and what a callback raises is only a warning: the sweep is left
# here for `finish_sweep`, which the command calls when Hydra is through.
_STARTED: list[Sweep] = []


class AroundSweep(Callback):
    """Looks at the whole grid before the first job: a cell that does not compose stops the sweep at once."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            configs = grid_configs(config)
            if configs[0].sweeps.list:
                list_cells(configs)
                sys.exit(0)
            _STARTED.append(start_sweep(configs))
        except (EdgewiseError, HydraException, OmegaConfBaseException) as error:
            exit_with(error)


def grid_configs(multirun: DictConfig) -> list[Config]:
    """The config of every cell, in the order in which Hydra's sweeper runs them."""
    params = multirun.hydra.sweeper.params or {}
    arguments = [f"{key}={params[key]}" for key in params] + list(multirun.hydra.overrides.task)
    overrides = OverridesParser.create().parse_overrides(arguments)
    [jobs] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    hydra_overrides = list(multirun.hydra.overrides.hydra)
    composed: dict[tuple[str, ...], Config] = {}
    configs = []
    for job in jobs:  # seeds differ in a number alone: each combination of the rest is composed once
        rest = tuple(override for override in job if not override.startswith("seed="))
        if rest not in composed:
            composed[rest] = to_config(hydra.compose(multirun.hydra.job.config_name, hydra_overrides + list(rest)))
        seeds = [override.removeprefix("seed=") for override in job if override.startswith("seed=")]
        if seeds and not seeds[0].isdigit():
            raise EdgewiseError(f"seed={seeds[0]}: expected whole numbers from 0, such as seed='range(10)'")
        configs.append(dataclasses.replace(composed[rest], seed=int(seeds[0])) if seeds else composed[rest])
    return configs


def seeds_per_job() -> int:
    """How many seeds the multirun that has started puts into one job."""
    return _STARTED[-1].configs[0].sweeps.seeds_per_job if _STARTED else 1


def list_cells(configs: list[Config]) -> None:
    """Prints the cells, one line a dataset and size."""
    lines: dict[tuple[str, str], list[Config]] = {}
    for config in configs:
        lines.setdefault((config.dataset.name, config.size.name), []).append(config)
    table = Table(title=f"{len(configs)} cells")
    for column in ("dataset", "size", "seeds", "steps", "batch size", "from"):
        table.add_column(column)
    for (dataset, size), cells in lines.items():
        train = cells[0].train
        seeds = " ".join(str(cell.seed) for cell in cells)
        table.add_row(dataset, size, seeds, f"{train.steps:,}", str(train.batch_size), train.init)
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


def start_sweep(configs: list[Config]) -> Sweep:
    """Opens the store and keeps the grid in a run of its own, where `sweeps.status` finds it."""
    first = configs[0]
    if (n := max(config.mesh.seed for config in configs)) > 1:
        raise EdgewiseError(
            f"mesh.seed={n} in a grid: expected 1, because the grid's own seeds say which there are; "
            f"sweeps.seeds_per_job={n} puts {n} of them into one job"
        )
    cells = [_cell(config) for config in configs]
    names = [(cell.dataset, cell.size, cell.seed) for cell in cells]
    if twice := {name for name in names if names.count(name) > 1}:
        raise EdgewiseError(
            f"the grid holds {'-'.join(map(str, sorted(twice)[0]))} more than once: a cell is (dataset, size, seed), "
            "so other keys can't be swept in one multirun; give each value of theirs its own tracking.root"
        )
    group = first.tracking.group or first.sweeps.name or f"sweep-{identity_hash({'cells': sorted(names)})}"
    os.environ[GROUP_VARIABLE] = group
    for config in configs:  # they were composed before the group was known; the metrics at the end belong to it too
        config.tracking.group = group
    tracker = open_tracker(first.tracking)
    grid = {"cells": [dataclasses.asdict(cell) for cell in cells], "command": shlex.join(sys.argv[1:])}
    run = tracker.start_run(f"sweep-{group}", job_type="sweep", name=group, group=group, config=grid)
    return Sweep(cells, configs, tracker, run)


def _cell(config: Config) -> Cell:
    try:
        config = resolved(config)
        run_id = train_run_id(config)
    except EdgewiseError:  # its data or checkpoint is not there: the cell will fail and say so
        run_id = None
    return Cell(config.dataset.name, config.size.name, config.seed, config.infer.split, run_id)


def abandon_sweep(reason: str) -> None:
    """Ends the run of a sweep that did not come to its end; the cells keep what they have saved."""
    if _STARTED:
        with suppress(TrackingError):  # of a full disk has been said already that it is full
            _STARTED.pop().run.finish("stopped", f"{reason}; the same command goes on")


def finish_sweep() -> int:
    """Prints the grid's state and each dataset's tables; the exit status: 1 where a cell or a table failed."""
    if not _STARTED:
        return 0
    sweep = _STARTED.pop()
    with sweep.run:
        states = cell_states(sweep.tracker, sweep.cells)
        print_grid(states)
        failed = sum(state.state != "done" for state in states)
        by_dataset = {config.dataset.name: config for config in sweep.configs}
        if sweep.configs[0].sweeps.metrics:
            from metrics.output.headline import print_headline
            from metrics.stage import compute_metrics

            console = Console(highlight=False, soft_wrap=True)
            for dataset, config in by_dataset.items():
                if not any(state.state == "done" and state.cell.dataset == dataset for state in states):
                    print(f"{dataset}: no cell is done, so there are no tables", file=sys.stderr)
                    continue
                try:
                    print_headline(compute_metrics(config, sweep.tracker, console.print), console)
                except EdgewiseError as error:
                    failed += 1
                    print(f"error: metrics of {dataset}: {error}", file=sys.stderr)
        sweep.run.set_summary({"cells": len(states), "not_done": failed})
        if failed:
            print(
                f"{failed} of {len(states)} cells are not done; the same command does what is missing. "
                "`python -m sweeps.status` says why each failed",
                file=sys.stderr,
            )
        sweep.run.finish("failed" if failed else "finished", f"{failed} not done" if failed else None)
    return 1 if failed else 0
