"""Runs one job of a sweep: trains and scores a cell, or several seeds of it side by side (`mesh.seed`).

What is done already is skipped. Starts without JAX.
"""

import os
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conf.errors import EdgewiseError
from conf.schema import Config
from infer.identity import ModelSource, finished_scores, infer_run_id, quality
from sweeps.runs import Cell, CellRuns
from tracking import is_alive, open_tracker
from tracking.interface import Artifact, Tracker
from train.identity import cell_name, train_run_id, trained_model
from train.pretrained.find import resolved
from train.seeds import seeds_of, side_by_side
from train.stopping import Stop, stop_signals

if TYPE_CHECKING:
    import jax


def run_job(config: Config) -> bool:
    """Runs the cell of each of the job's seeds, those that aren't done at once; returns whether all went through.

    Raises as `run_cell` does, and Stopped where a signal came too late to stop a cell.
    """
    started = time.time()
    config.dataset.check_labelled()
    try:
        config = resolved(config)
    except Exception as error:
        return _fail_all(seeds_of(config), error, started)
    cells = seeds_of(config)
    if config.mesh.seed == 1:
        with stop_signals() as stop:
            succeeded = run_cell(cells[0], stop=stop)
        stop.check()
        return succeeded
    missing = [cell for cell in cells if not is_done(cell)]
    through = [run_cell(cell) for cell in cells if cell not in missing]  # prints that they are done
    if missing:
        _start_jax(config)  # in one thread
        from train.sharding import device_groups

        try:
            device_groups(config.mesh.seed)
        except EdgewiseError as error:
            return _fail_all(missing, error, time.time())
        through += side_by_side(config, missing, run_cell)
    return all(through)


def is_done(config: Config) -> bool:
    """Returns whether nothing is missing of a cell; `config` is resolved."""
    try:
        return finished_cell(config, open_tracker(config.tracking))[1] is not None
    except EdgewiseError:  # the cell will fail and say so
        return False


def run_cell(config: Config, devices: "Sequence[jax.Device] | None" = None, stop: Stop | None = None) -> bool:
    """Trains and scores one cell and returns whether it went through.

    `config` is resolved; `devices` and `stop` are as `train.loop.train` takes them. A failure is kept in the run that
    failed, traceback and all, and is not raised: the other cells go on. A signal is raised (`Stopped`, a SystemExit):
    it ends the sweep.
    """
    tracker = open_tracker(config.tracking)
    started = time.time()
    try:
        scores, fresh = finish_cell(config, tracker, devices, stop)
    except Exception as error:
        _fail(config, tracker, error, started)
        return False
    how = f"done in {time.time() - started:.0f} s" if fresh else "was done already"
    print(f"{cell_name(config)}: {how}, {scores.ref}, {quality(scores.metadata)}", flush=True)
    return True


def finished_cell(config: Config, tracker: Tracker) -> tuple[Artifact | None, Artifact | None]:
    """Returns the model and the scores of a cell, each None where it is missing or is to be made again."""
    model = None if config.force else trained_model(config, tracker)
    return model, None if model is None else finished_scores(config, tracker, model.digest)


def finish_cell(
    config: Config, tracker: Tracker, devices: "Sequence[jax.Device] | None" = None, stop: Stop | None = None
) -> tuple[Artifact, bool]:
    """Does what is missing of a cell; returns its scores, and whether anything had to be done."""
    model, scores = finished_cell(config, tracker)
    if scores is not None:
        return scores, False
    _start_jax(config)  # not for a cell that is done
    from infer.scoring import score
    from train import hosts
    from train.loop import train

    tracker = hosts.shared(tracker)
    if model is None:
        model = train(config, tracker, devices, stop)
    return score(config, tracker, ModelSource(model.digest, model), devices, stop), True


def _start_jax(config: Config) -> None:
    """Starts JAX: joins the other processes of the cell, where there are any, and keeps what is compiled."""
    from train import hosts
    from train.compilation_cache import keep_compiled

    hosts.join(config.hosts)
    keep_compiled()


def is_run_elsewhere(config: Config, tracker: Tracker) -> bool:
    """Returns whether another living process trains or scores this cell now."""
    try:
        records = [tracker.run(train_run_id(config))]
        if (model := trained_model(config, tracker)) is not None:
            records.append(tracker.run(infer_run_id(config, model.digest)))
    except EdgewiseError:
        return False
    here = socket.gethostname(), os.getpid()
    return any(record is not None and (record.host, record.pid) != here and is_alive(record) for record in records)


def keep_failure(config: Config, tracker: Tracker, error: Exception, since: float) -> None:
    """Makes sure that a run of this cell holds the traceback: a cell may fail before its own run starts.

    `since` is when the cell was started, in seconds since the epoch: a run of it that has failed after that has kept
    the traceback already.
    """
    dataset, size, seed, name = config.dataset.name, config.size.name, config.seed, cell_name(config)
    for record in CellRuns(tracker).all_of(Cell(dataset, size, seed, config.infer.split)):
        if record.state == "failed" and record.ended is not None and record.ended >= since:
            return
    run = tracker.start_run(
        f"train-{name}-unprepared",
        job_type="train",
        name=f"train {name}",
        group=config.tracking.group,
        tags=[dataset, size],
        config={"dataset": {"name": dataset}, "size": {"name": size}, "seed": seed},  # no identity: see `is_prepared`
        restart=True,
    )
    run.finish("failed", "".join(traceback.format_exception(error)))


def _fail(config: Config, tracker: Tracker, error: Exception, since: float) -> None:
    """Prints a cell's failure and keeps it, unless another sweep runs the cell: that one will keep how it ends."""
    if is_run_elsewhere(config, tracker):
        print(f"{cell_name(config)}: is run elsewhere: {error}", file=sys.stderr)
        return
    keep_failure(config, tracker, error, since)
    print(f"{cell_name(config)}: failed: {error}", file=sys.stderr)


def _fail_all(cells: Sequence[Config], error: Exception, since: float) -> bool:
    """Prints and keeps the one failure of several cells; returns False, as a job that has not gone through."""
    for cell in cells:
        _fail(cell, open_tracker(cell.tracking), error, since)
    return False
