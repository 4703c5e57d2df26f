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

from conf.errors import EdgewiseError
from conf.pipes import run_command
from sweeps.runs import known_cells
from sweeps.states import STATES, CellState, cell_states
from tracking.store import Store

MARKS = {
    "done": "[green]done[/]",
    "running": "[cyan]running[/]",
    "failed": "[red]failed[/]",
    "missing": "[dim]missing[/]",
}


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
            from sweeps.training.page import write_training_page  # which loads the report; the table needs none of it

            page = write_training_page(tracker, grid, options.training, str(root))
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
