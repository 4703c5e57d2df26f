"""Prints the grid as a table: `python -m sweeps.status [--root DIR] [--json] [--training DIR]`. Starts without JAX."""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conf.errors import EdgewiseError, last_line
from conf.pipes import run_command
from sweeps.runs import Cell, CellRuns, known_cells
from tracking import is_alive
from tracking.interface import RunRecord, Tracker
from tracking.store import Store

STATES = ("done", "running", "failed", "missing")
MARKS = {
    "done": "[green]done[/]",
    "running": "[cyan]running[/]",
    "failed": "[red]failed[/]",
    "missing": "[dim]missing[/]",
}


@dataclasses.dataclass(frozen=True)
class CellState:
    """Says how far a cell is. `state` is one of STATES, `run` the id of the run that it comes from.

    `step` is the last one that a running cell has logged; `error` is the last line of why it is not done.
    """

    cell: Cell
    state: str
    run: str | None = None
    step: int | None = None
    error: str | None = None


def cell_states(tracker: Tracker, cells: Iterable[Cell]) -> list[CellState]:
    """Returns the state of each cell, by the runs that train and score it."""
    runs = CellRuns(tracker)
    return [_cell_state(cell, runs, tracker) for cell in cells]


def _cell_state(cell: Cell, runs: CellRuns, tracker: Tracker) -> CellState:
    """Returns the state of a cell: done when it is trained and scored, else that of its last run."""
    training = runs.training(cell)
    scoring = runs.scoring(cell, training) if training is not None and training.state == "finished" else None
    last = scoring or training
    scored = scoring.id if scoring is not None and scoring.state == "finished" else None
    is_done = scored is not None and any(artifact.type == "scores" for artifact in tracker.outputs(scored))
    failure = runs.unprepared(cell)
    if is_done and cell.train_run:
        failure = None  # it is of other settings than the run that the cell names
    if failure is not None and (last is None or _last_active(failure) > _last_active(last)):
        return _unfinished(cell, failure, tracker)
    if last is None:
        return CellState(cell, "missing")
    if is_done:
        return CellState(cell, "done", last.id)
    if last.state == "finished":
        return CellState(cell, "missing", last.id, error="its scores were removed" if scored else "trained, not scored")
    return _unfinished(cell, last, tracker)


def _last_active(run: RunRecord) -> float:
    """Returns when a run ended or, of one that has not ended, when it last said that it is alive."""
    return run.heartbeat if run.ended is None else run.ended


def _unfinished(cell: Cell, run: RunRecord, tracker: Tracker) -> CellState:
    """Returns the state of a cell whose training or scoring, this run, has not finished."""
    if is_alive(run):
        history = tracker.history(run.id)
        return CellState(cell, "running", run.id, step=int(history[-1]["step"]) if history else 0)
    if run.state == "running":
        return CellState(cell, "failed", run.id, error=f"process {run.pid} on {run.host} died")
    if run.state == "stopped":  # by a signal, after saving: it is to be run, from there on
        return CellState(cell, "missing", run.id, error=run.error)
    return CellState(cell, "failed", run.id, error=last_line(run.error) or run.state)


def print_grid(states: Sequence[CellState]) -> None:
    """Prints one row a dataset and size, one column a state with its count; then what runs or failed, and why."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(_counts_table(states))
    for state in states:
        name = escape(f"{state.cell.dataset} {state.cell.size} seed {state.cell.seed}")  # no markup
        if state.state == "running":
            console.print(f"{MARKS['running']} {name}: step {state.step}, {state.run}", highlight=False)
        elif state.error:
            console.print(f"{MARKS[state.state]} {name}: ", end="")
            console.print(f"{state.error} ({state.run})", markup=False, highlight=False)


def _counts_table(states: Sequence[CellState]) -> Table:
    """Counts the cells in each state, by dataset and size and in all."""
    table = Table()
    for column in ("dataset", "size", *STATES):
        table.add_column(column, justify="left" if column in ("dataset", "size") else "right")
    rows: dict[tuple[str, str], list[CellState]] = {}
    for state in states:
        rows.setdefault((state.cell.dataset, state.cell.size), []).append(state)
    for (dataset, size), members in rows.items():
        table.add_row(escape(dataset), escape(size), *(str(n) if n else "" for n in counts_of(members).values()))
    table.add_section()
    table.add_row("all", "", *map(str, counts_of(states).values()))
    return table


def counts_of(states: Iterable[CellState]) -> dict[str, int]:
    """Counts the cells in each of STATES."""
    counts = Counter(state.state for state in states)
    return {name: counts[name] for name in STATES}


def main(arguments: list[str] | None = None) -> int:
    """Prints the grid of a store and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.status", description="The grid as a table.")
    parser.add_argument("--root", metavar="DIR", help="the store's folder (tracking.root); default: runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--training", metavar="DIR", type=Path, help="write the curves of all cells' training to DIR/training.html"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="tracking.root=DIR",
        help="the same as --root DIR, as the other commands take it",
    )
    options = parser.parse_args(arguments)
    try:
        root = _root(options.root, options.overrides)
        tracker = Store(root, create=False)
        grid = known_cells(tracker)
        states = cell_states(tracker, grid)
        if options.training is not None:
            from sweeps.training.page import write_training_page  # it reads the states from here

            page = write_training_page(tracker, grid, options.training, root)
            print(page, file=sys.stderr if options.json else sys.stdout)
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        cells = [
            {
                **dataclasses.asdict(state.cell),
                "state": state.state,
                "run": state.run,
                "step": state.step,
                "error": state.error,
            }
            for state in states
        ]
        print(json.dumps({"cells": cells, "counts": counts_of(states)}, indent=2))
    else:
        print_grid(states)
    return 0


def _root(root: str | None, overrides: Sequence[str]) -> str:
    """Returns the store's folder; EdgewiseError for an override that the command doesn't take."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key != "tracking.root" or not value:
            raise EdgewiseError(
                f"{override}: sweeps.status shows the whole grid of a store and takes no other key than "
                "tracking.root=DIR (or --root DIR)"
            )
        root = value
    return root or "runs"


if __name__ == "__main__":
    run_command(main)
