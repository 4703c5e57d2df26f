"""Finds the models and scores of a sweep's own cells, by digest: the latest of a name may be of other settings."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from conf.errors import EdgewiseError
from conf.schema import Config
from infer.identity import infer_run_id
from sweeps.cell import finished_cell
from sweeps.states import CellState, unfinished
from tracking.interface import Artifact, Tracker, TrackingError

_MOST_NAMED = 4  # artifacts in one line


@dataclass(frozen=True)
class CellResult:
    """Holds how far a cell is and, where it is done, the model that it trained and the scores of that."""

    state: CellState
    model: Artifact | None = None
    scores: Artifact | None = None


def cell_result(state: CellState, config: Config | None, tracker: Tracker) -> CellResult:
    """Returns what a cell came to in the sweep that has `config` for it, resolved; None where that can't be.

    With a config, a cell is done where its scores by this sweep's settings are there, whatever was done with others.
    """
    if config is not None:
        with suppress(EdgewiseError):  # its data is gone since: its runs say what they can
            return _result_by_config(state, replace(config, force=False), tracker)
    if state.state != "done":
        return CellResult(state)
    assert state.run is not None  # the run that scored it
    models = [artifact for artifact in tracker.inputs(state.run) if artifact.type == "model"]
    scores = [artifact for artifact in tracker.outputs(state.run) if artifact.type == "scores"]
    return CellResult(state, next(iter(models), None), next(iter(scores), None))


def _result_by_config(state: CellState, config: Config, tracker: Tracker) -> CellResult:
    """Returns what a cell came to by the settings of `config` alone."""
    model, scores = finished_cell(config, tracker)
    if model is not None and scores is not None:
        return CellResult(CellState(state.cell, "done", infer_run_id(config, model.digest)), model, scores)
    if state.state != "done":
        return CellResult(state)
    own = None if model is None else tracker.run(infer_run_id(config, model.digest))
    if own is not None and own.state != "finished":
        return CellResult(unfinished(state.cell, own, tracker))
    error = "not scored with this sweep's settings, or its scores were removed"
    return CellResult(replace(state, state="missing", error=error))


def make_results_latest(results: Sequence[CellResult], tracker: Tracker) -> None:
    """Gives `latest` to each cell's model and scores, and prints which of them another version had taken it from."""
    moved = []
    for artifact in (artifact for result in results for artifact in (result.model, result.scores)):
        try:
            if artifact is not None and tracker.make_latest(artifact):
                moved.append(artifact.ref)
        except TrackingError as error:  # the tables don't need the alias
            print(f"latest: {error}", file=sys.stderr)
    if moved:
        more = f" and {len(moved) - _MOST_NAMED} more" if len(moved) > _MOST_NAMED else ""
        print(f"latest again, as this sweep's own: {', '.join(moved[:_MOST_NAMED])}{more}")
