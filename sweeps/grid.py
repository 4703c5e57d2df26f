"""Composes the grid of a multirun before its first job starts, and makes its tables when the last one is through."""

import dataclasses
import functools
import os
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conf.app import exit_with, to_config
from conf.errors import EdgewiseError, first_line, no_room
from conf.names import check_cell_names
from conf.schema import Config
from sweeps.check import check_data, print_check_lines, print_checks
from sweeps.launchers import check_launcher
from sweeps.overrides import overrides_of_cells
from sweeps.refusals import check_grid, check_told_apart
from sweeps.results import CellResult, cell_result, make_results_latest
from sweeps.runs import Cell
from sweeps.seeds import split_seed
from sweeps.states import cell_states
from sweeps.status import print_grid
from tracking import open_tracker
from tracking.interface import Run, Tracker, TrackingError
from train.identity import identity_hash, train_run_id
from train.pretrained.find import resolved
from train.stopping import Stopped

GROUP_VARIABLE = "EDGEWISE_SWEEP"


@dataclasses.dataclass(eq=False)
class Combination:
    """Holds the config that cells share which differ in their seed alone; it is composed and resolved once for all."""

    config: Config

    @functools.cached_property
    def resolved(self) -> Config | None:
        """Returns the config as `resolved` fills it in; None where that fails, as the cell will, saying why."""
        try:
            return resolved(self.config)
        except EdgewiseError:
            return None


@dataclasses.dataclass(frozen=True)
class GridCell:
    """Names a cell of the grid by what it shares with others and by its seed."""

    combination: Combination
    seed: int

    @property
    def config(self) -> Config:
        """Returns the cell's config as it was composed."""
        return dataclasses.replace(self.combination.config, seed=self.seed)

    @property
    def resolved(self) -> Config | None:
        """Returns the cell's config as `resolved` fills it in; None where that fails."""
        config = self.combination.resolved
        return None if config is None else dataclasses.replace(config, seed=self.seed)

    def cell(self) -> Cell:
        """Returns the cell as the grid's run keeps it: with its training run, where its config and data can say."""
        config, run_id = self.resolved, None
        if config is not None:
            with suppress(EdgewiseError):  # its data is not there: the cell will fail and say so
                run_id = train_run_id(config)
        config = config or self.config
        return Cell(config.dataset.name, config.size.name, config.seed, config.infer.split, run_id)


@dataclasses.dataclass
class Sweep:
    """Holds a multirun that has started: its cells, and the run that keeps the grid.

    `grid` has the configs of `cells`, in the same order. `config_of_dataset` has of each dataset the config of its last
    cell, for the tables: what they depend on (`metrics`, `report`, `tracking`) can't be swept, so all its cells agree.
    """

    grid: list[GridCell]
    cells: list[Cell]
    config_of_dataset: dict[str, Config]
    tracker: Tracker
    run: Run
    seeds_per_job: int
    makes_tables: bool


# Hydra makes the callback and gives no way back to it, and what a callback raises is only a warning: the sweep is left
# here for `finish_sweep`, which the command calls when Hydra is through.
_STARTED: list[Sweep] = []


class AroundSweep(Callback):
    """Looks at the whole grid before the first job: a cell that does not compose stops the sweep at once."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Starts the sweep of the multirun's config.

        Ends the process with status 0 where the cells are only to be listed or checked, and with an error where one, or
        the data of one, is wrong.
        """
        try:
            check_launcher(config.hydra.launcher)
            grid = compose_grid(config)
            check_grid([cell.config for cell in grid])
            if grid[0].config.sweeps.list:
                print_cells([cell.config for cell in grid])
                sys.exit(0)
            check = grid[0].config.sweeps.check
            if check is not False:
                open_tracker(grid[0].config.tracking)  # where it can't be, that is what to say
                checks = check_data([cell.resolved or cell.config for cell in grid])
                if check:
                    print_checks(checks)
                    sys.exit(0)
                print_check_lines(checks)
            _STARTED.append(start_sweep(grid))
        except Exception as error:  # Hydra would make a warning of any, and run the cells of a sweep without a record
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                traceback.print_exc()
            exit_with(_said(error))


def _said(error: Exception) -> Exception:
    """Returns an error that has come up before the first cell as one whose message says where and what it is."""
    if isinstance(error, EdgewiseError | HydraException | OmegaConfBaseException):
        return error
    if isinstance(error, OSError):
        if (full := no_room(error)) is not None:
            return full
        where = f"{error.filename}: " if error.filename else ""
        return EdgewiseError(
            f"{where}{error.strerror or first_line(error)}; no cell was started. Make it a place that can be read and "
            "written, and run the same command again"
        )
    return EdgewiseError(
        f"{type(error).__name__} before the first cell: {first_line(error)}. No cell was started; HYDRA_FULL_ERROR=1 "
        "shows where it comes from"
    )


def compose_grid(multirun: DictConfig) -> list[GridCell]:
    """Returns the cells in the order in which Hydra's sweeper runs them; each combination of keys is composed once.

    Raises EdgewiseError, or Hydra's and OmegaConf's own errors, for a cell that does not compose.
    """
    params = multirun.hydra.sweeper.params or {}
    # As they were typed: ${dataset.name} in one is each cell's own.
    given: Any = OmegaConf.to_container(multirun.hydra.overrides.task, resolve=False)
    arguments = [f"{key}={params[key]}" for key in params] + given
    jobs = overrides_of_cells(arguments)
    hydra_overrides = list(multirun.hydra.overrides.hydra)
    combinations: dict[tuple[str, ...], Combination] = {}
    cells = []
    for job in jobs:
        rest, seed = split_seed(job)
        if rest not in combinations:
            composed = hydra.compose(multirun.hydra.job.config_name, [*hydra_overrides, *rest])
            combinations[rest] = Combination(to_config(composed))
        combination = combinations[rest]
        cells.append(GridCell(combination, combination.config.seed if seed is None else seed))
    return cells


def seeds_per_job() -> int:
    """Returns how many seeds the multirun that has started puts into one job."""
    return _STARTED[-1].seeds_per_job if _STARTED else 1


def print_cells(configs: Sequence[Config]) -> None:
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
        table.add_row(
            escape(dataset), escape(size), seeds, f"{train.steps:,}", str(train.batch_size), escape(train.init)
        )
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


def start_sweep(grid: Sequence[GridCell]) -> Sweep:
    """Opens the store and keeps the grid, which `check_grid` has passed, in a run of its own.

    `sweeps.status` finds it there. Raises EdgewiseError for a store that can't be opened, and for cells that are one
    cell, or have too long a name, once their checkpoint has said what its size is called (`size=auto`).
    """
    configs = [cell.config for cell in grid]
    first = configs[0]
    cells = [cell.cell() for cell in grid]
    keys = [cell.key for cell in cells]
    for cell in cells:
        check_cell_names(cell.dataset, cell.size, cell.split)
    check_told_apart(keys)
    group = first.tracking.group or first.sweeps.name or f"sweep-{identity_hash({'cells': sorted(keys)})}"
    os.environ[GROUP_VARIABLE] = group
    for config in configs:  # they were composed before the group was known; the metrics at the end belong to it too
        config.tracking.group = group
    tracker = open_tracker(first.tracking)
    record = {
        "cells": [dataclasses.asdict(cell) for cell in cells],
        "command": shlex.join(sys.argv[1:]),
        "begun": time.time(),  # a run that goes on keeps its start
    }
    run = tracker.start_run(f"sweep-{group}", job_type="sweep", name=group, group=group, config=record)
    config_of_dataset = {config.dataset.name: config for config in configs}
    return Sweep([*grid], cells, config_of_dataset, tracker, run, first.sweeps.seeds_per_job, first.sweeps.metrics)


def abandon_sweep(reason: str) -> None:
    """Ends the run of a sweep that did not come to its end; the cells keep what they have saved."""
    if _STARTED:
        with suppress(TrackingError):  # that the disk is full, say, has been printed already
            _STARTED.pop().run.finish("stopped", f"{reason}; the same command goes on")


def finish_sweep() -> int:
    """Concludes the sweep of this process, where one was started, and returns the command's exit status."""
    return conclude(_STARTED.pop()) if _STARTED else 0


def conclude(sweep: Sweep) -> int:
    """Prints the grid's state, makes the training page and each dataset's tables, and ends the grid's run.

    Each cell's own model and scores become the latest of their names. Returns the command's exit status: 1 where a
    cell or a table failed.
    """
    with sweep.run:
        try:
            status = _concluded(sweep)
        except (Stopped, KeyboardInterrupt):
            sweep.run.finish("stopped", "stopped by a signal while it made the tables; the same command makes them")
            raise
    return status


def _concluded(sweep: Sweep) -> int:
    """Does what `conclude` does, within the grid's run."""
    found = zip(sweep.grid, cell_states(sweep.tracker, sweep.cells), strict=True)
    results = [cell_result(state, cell.resolved, sweep.tracker) for cell, state in found]
    states = [result.state for result in results]
    print_grid(states)
    not_done = sum(state.state != "done" for state in states)
    make_results_latest(results, sweep.tracker)
    without_tables = 0
    if sweep.makes_tables:
        _make_training_page(sweep)
        without_tables = _make_tables(sweep, results)
    sweep.run.set_summary({"cells": len(states), "not_done": not_done, "without_tables": without_tables})
    failures = []
    if not_done:
        failures.append(f"{not_done} of {len(states)} cells are not done; the same command does what is missing")
        root = sweep.grid[0].config.tracking.root
        flags = "" if root == "runs" else f" --root {shlex.quote(root)}"
        print(f"{failures[0]}. `python -m tracking show RUN{flags}` shows why a run failed", file=sys.stderr)
    if without_tables:
        failures.append(f"the tables of {without_tables} of {len(sweep.config_of_dataset)} datasets were not made")
        print(f"{failures[-1]}: see the error above", file=sys.stderr)
    sweep.run.finish("failed" if failures else "finished", "; ".join(failures) or None)
    return 1 if failures else 0


def _make_training_page(sweep: Sweep) -> None:
    """Writes the page of the cells' training: beside the report of the one dataset, or in a folder of the sweep's name.

    Where it can't be written that is said, and nothing has failed: the store has all that it shows.
    """
    from sweeps.training.page import write_training_page

    [first, *others] = sweep.config_of_dataset.values()
    name = first.tracking.group or first.dataset.name
    folder = Path(first.metrics.out or f"out/{first.dataset.name}")  # each dataset's own
    if others:
        folder = folder.parent / name
    try:
        print(write_training_page(sweep.tracker, sweep.cells, folder, name), flush=True)
    except EdgewiseError as error:
        print(f"note: {error}", file=sys.stderr)


def _make_tables(sweep: Sweep, results: Sequence[CellResult]) -> int:
    """Makes the tables of each dataset that has a finished cell; returns for how many that failed.

    They are of exactly the scores of the sweep's own cells, whichever versions are the latest.
    """
    from metrics.output.headline import one_run_lines, print_headline
    from metrics.stage import SCORES_FILE, metrics_of_scores

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    failed = 0
    for dataset, config in sweep.config_of_dataset.items():
        scores = [result.scores for result in results if result.scores and result.state.cell.dataset == dataset]
        if not scores:
            print(f"{dataset}: no cell is done, so there are no tables", file=sys.stderr)
            continue
        try:
            if len(scores) == 1:  # nothing failed, but one run makes no tables
                for line in one_run_lines(scores[0].file(SCORES_FILE), config.metrics):
                    console.print(line)
                continue
            print_headline(metrics_of_scores(config, sweep.tracker, scores, console.print), console)
        except (EdgewiseError, OSError) as error:  # the other datasets' tables are made all the same
            failed += 1
            said = no_room(error) or error if isinstance(error, OSError) else error
            print(f"error: metrics of {dataset}: {said}", file=sys.stderr)
    return failed
