"""Finds the models and scores of a sweep's own cells, by digest: the latest of a name may be of other settings."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from conf.errors import EdgewiseError
from conf.schema import Config
from sweeps.cell import finished_cell
from sweeps.states import CellState
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

    A cell whose runs are done by other settings of scoring, or whose scores were removed, is `missing` in the result.
    """
    if state.state != "done":
        return CellResult(state)
    if config is not None:
        with suppress(EdgewiseError):  # its data is gone since: its runs say what they can
            model, scores = finished_cell(replace(config, force=False), tracker)
            return _complete(state, model, scores)
    assert state.run is not None  # the run that scored it
    models = [artifact for artifact in tracker.inputs(state.run) if artifact.type == "model"]
    scores_of_run = [artifact for artifact in tracker.outputs(state.run) if artifact.type == "scores"]
    return _complete(state, next(iter(models), None), next(iter(scores_of_run), None))


def _complete(state: CellState, model: Artifact | None, scores: Artifact | None) -> CellResult:
    if scores is None:
        error = "not scored with this sweep's settings, or its scores were removed"
        return CellResult(replace(state, state="missing", error=error))
    return CellResult(state, model, scores)


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
