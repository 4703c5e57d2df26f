"""`python -m sweeps.status [--root DIR] [--json]`: the grid as a table. Reads the store alone; starts without JAX."""

import argparse
import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from conf.errors import EdgewiseError
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


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """A place in the grid. `train_run` is the id of the run that trains it, where its config could say."""

    dataset: str
    size: str
    seed: int
    split: str = "test"
    train_run: str | None = None


@dataclasses.dataclass(frozen=True)
class CellState:
    """`state` is one of STATES; `error` is the last line of what failed; `run` the run that it speaks of."""

    cell: Cell
    state: str
    run: str | None = None
    step: int | None = None
    error: str | None = None


def cell_states(tracker: Tracker, cells: list[Cell]) -> list[CellState]:
    """The state of each cell, by the runs that train and score it."""
    runs = tracker.runs()
    return [_cell_state(tracker, cell, runs) for cell in cells]


def _cell_state(tracker: Tracker, cell: Cell, runs: list[RunRecord]) -> CellState:
    middle = f"-{cell.dataset}-{cell.size}-s{cell.seed}-"
    trained = [run for run in runs if run.id.startswith(f"train{middle}") and run.job_type == "train"]
    own = [run for run in trained if run.id == cell.train_run] or ([] if cell.train_run else trained)
    if not own:
        own = [run for run in trained if run.id.endswith("-unprepared")]
    if not own:
        return CellState(cell, "missing")
    run = max(own, key=lambda r: r.started)
    if run.state == "finished":
        models = {artifact.digest for artifact in tracker.outputs(run.id) if artifact.type == "model"}
        scored = [
            other
            for other in runs
            if other.job_type == "infer"
            and other.id.startswith(f"infer{middle}{cell.split}-")
            and any(artifact.digest in models for artifact in tracker.inputs(other.id))
        ]
        if not scored:
            return CellState(cell, "missing", run.id, error="trained, not scored")
        run = max(scored, key=lambda r: r.started)
        if run.state == "finished":
            return CellState(cell, "done", run.id)
    if is_alive(run):
        history = tracker.history(run.id)
        return CellState(cell, "running", run.id, step=int(history[-1]["step"]) if history else 0)
    if run.state == "running":
        return CellState(cell, "failed", run.id, error=f"process {run.pid} on {run.host} died")
    if run.state == "stopped":  # by a signal, after saving: it is to be run, from there on
        return CellState(cell, "missing", run.id, error=run.error)
    return CellState(cell, "failed", run.id, error=_last_line(run.error) or run.state)


def _last_line(error: str | None) -> str | None:
    lines = [line for line in (error or "").strip().splitlines() if line.strip()]
    return lines[-1] if lines else None


def known_cells(tracker: Tracker) -> list[Cell]:
    """The cells of every grid that was started in this store, and of every cell that was trained by itself."""
    cells: dict[tuple[str, str, int], Cell] = {}
    for run in tracker.runs():
        if run.job_type == "sweep":
            found = [Cell(**cell) for cell in run.config["cells"]]
        elif run.job_type == "train":
            config = run.config
            own = None if run.id.endswith("-unprepared") else run.id
            found = [Cell(config["dataset"]["name"], config["size"]["name"], config["seed"], train_run=own)]
        else:
            continue
        for cell in found:  # later grids and runs replace earlier ones
            cells[cell.dataset, cell.size, cell.seed] = cell
    return sorted(cells.values(), key=lambda cell: (cell.dataset, cell.size, cell.seed))


def print_grid(states: list[CellState]) -> None:
    """One row a dataset and size, one column a state with its count; then what failed, and why."""
    table = Table()
    for column in ("dataset", "size", *STATES):
        table.add_column(column, justify="left" if column in ("dataset", "size") else "right")
    rows: dict[tuple[str, str], list[CellState]] = {}
    for state in states:
        rows.setdefault((state.cell.dataset, state.cell.size), []).append(state)
    for (dataset, size), members in rows.items():
        counts = [sum(member.state == state for member in members) for state in STATES]
        table.add_row(dataset, size, *(str(n) if n else "" for n in counts))
    table.add_section()
    table.add_row("all", "", *(str(sum(s.state == state for s in states)) for state in STATES))
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)
    for state in states:
        name = f"{state.cell.dataset} {state.cell.size} seed {state.cell.seed}"
        if state.state == "running":
            console.print(f"{MARKS['running']} {name}: step {state.step}, {state.run}", highlight=False)
        elif state.error:
            console.print(f"{MARKS[state.state]} {name}: ", end="")
            console.print(f"{state.error} ({state.run})", markup=False, highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """Prints the grid of a store; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.status", description="The grid as a table.")
    parser.add_argument("--root", default="runs", help="the store's folder (tracking.root); default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        tracker = Store(options.root, create=False)
        states = cell_states(tracker, known_cells(tracker))
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        cells = [
            {**dataclasses.asdict(s.cell), "state": s.state, "run": s.run, "step": s.step, "error": s.error}
            for s in states
        ]
        print(json.dumps({"cells": cells, "counts": {n: sum(s.state == n for s in states) for n in STATES}}, indent=2))
    else:
        print_grid(states)
    return 0


if __name__ == "__main__":
    sys.exit(main())
