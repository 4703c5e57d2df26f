"""One job of a sweep: a cell is trained, then scored, unless that is done already; or several seeds of a cell, side by
side (`mesh.seed`). Starts without JAX.
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
from infer.identity import ModelSource, finished_scores, quality
from tracking import is_alive, open_tracker
from tracking.interface import Artifact, Tracker
from train.identity import cell_name, train_run_id, trained_model
from train.pretrained.find import resolved
from train.seeds import seeds_of, side_by_side
from train.stopping import Stop

if TYPE_CHECKING:
    import jax


def run_job(config: Config) -> bool:
    """Runs the cell of each of the job's seeds, those that aren't done at once; whether all went through.

    Raises as `run_cell` does.
    """
    cells = seeds_of(config)
    if config.mesh.seed == 1:
        return run_cell(cells[0])
    missing = [cell for cell in cells if not is_done(cell)]
    went = [run_cell(cell) for cell in cells if cell not in missing]  # they say that they are done
    if missing:
        from train import hosts  # JAX starts here, in one thread
        from train.compilation_cache import keep_compiled
        from train.sharding import device_groups

        hosts.join(config.hosts)
        keep_compiled()
        try:
            device_groups(config.mesh.seed)
        except EdgewiseError as error:
            for cell in missing:
                keep_failure(cell, open_tracker(cell.tracking), error, since=time.time())
                print(f"{cell_name(cell)}: failed: {error}", file=sys.stderr)
            return False
        went += side_by_side(config, missing, run_cell)
    return all(went)


def is_done(config: Config) -> bool:
    """Whether nothing is missing of a cell."""
    try:
        return finished_cell(resolved(config), open_tracker(config.tracking))[1] is not None
    except EdgewiseError:  # the cell will fail and say so
        return False


def run_cell(config: Config, devices: "Sequence[jax.Device] | None" = None, stop: Stop | None = None) -> bool:
    """Trains and scores one cell, `devices` and `stop` as `train.loop.train` takes them; whether it went through.

    A failure is kept in the run that failed, traceback and all, and is not raised: the other cells go on. A signal is
    (`Stopped`, a SystemExit): it ends the sweep.
    """
    tracker = open_tracker(config.tracking)
    started = time.time()
    name = cell_name(config)
    try:
        config = resolved(config)
        name = cell_name(config)
        scores, fresh = finish_cell(config, tracker, devices, stop)
    except Exception as error:
        if is_run_elsewhere(config, tracker):  # by a job of another sweep: that one will say how it went
            print(f"{name}: {error}", file=sys.stderr)
            return False
        keep_failure(config, tracker, error, since=started)
        print(f"{name}: failed: {error}", file=sys.stderr)
        return False
    done = f"done in {time.time() - started:.0f} s" if fresh else "was done already"
    print(f"{name}: {done}, {scores.ref}, {quality(scores.metadata)}", flush=True)
    return True


def finished_cell(config: Config, tracker: Tracker) -> tuple[Artifact | None, Artifact | None]:
    """The model and the scores of a cell, where they are there and are not to be made again."""
    model = None if config.force else trained_model(config, tracker)
    return model, None if model is None else finished_scores(config, tracker, model.digest)


def finish_cell(
    config: Config, tracker: Tracker, devices: "Sequence[jax.Device] | None" = None, stop: Stop | None = None
) -> tuple[Artifact, bool]:
    """Does what is missing of a cell; its scores, and whether anything had to be done."""
    model, scores = finished_cell(config, tracker)
    if scores is not None:
        return scores, False
    from infer.scoring import score  # JAX starts here, not for a cell that is done
    from train import hosts
    from train.compilation_cache import keep_compiled
    from train.loop import train

    hosts.join(config.hosts)
    keep_compiled()
    tracker = hosts.shared(tracker)
    if model is None:
        model = train(config, tracker, devices, stop)
    return score(config, tracker, ModelSource(model.digest, model), devices, stop), True


def is_run_elsewhere(config: Config, tracker: Tracker) -> bool:
    """Whether another living process trains this cell now."""
    try:
        record = tracker.run(train_run_id(config))
    except EdgewiseError:
        return False
    mine = record is not None and (record.host, record.pid) == (socket.gethostname(), os.getpid())
    return record is not None and not mine and is_alive(record)


def keep_failure(config: Config, tracker: Tracker, error: Exception, since: float) -> None:
    """Makes sure that a run of this cell holds the traceback: a cell may fail before its own run starts."""
    name = cell_name(config)
    for record in tracker.runs(state="failed"):
        if record.ended is not None and record.ended >= since and f"-{name}-" in record.id:
            return
    run = tracker.start_run(
        f"train-{name}-unprepared",
        job_type="train",
        name=f"train {name}",
        group=config.tracking.group,
        tags=[config.dataset.name, config.size.name],
        config={"dataset": {"name": config.dataset.name}, "size": {"name": config.size.name}, "seed": config.seed},
        restart=True,
    )
    run.finish("failed", "".join(traceback.format_exception(error)))
