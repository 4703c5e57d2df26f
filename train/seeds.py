"""Runs several seeds of a cell in one process, side by side, each on its own group of devices (`mesh.seed`).

Each seed runs exactly the programs that its own separate run compiles, dispatched by a thread of its own. It is not one
program with an axis of seeds: every seed has its own order of examples, so its packed batches have shapes of their own.
Padding them to common ones would change the order of sums and the dropout masks, and a seed of a job would no longer be
the seed of a separate run. As it is, the two are bit for bit the same on a CPU, also when they are cut off and go on;
nothing of one seed reaches another; and one that fails doesn't stop the others. Starts without JAX.
"""

import atexit
import dataclasses
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from conf.errors import EdgewiseError
from conf.schema import Config
from train.identity import cell_name
from train.stopping import Stop, Stopped, stop_signals

if TYPE_CHECKING:
    import jax

T = TypeVar("T")
Work = Callable[[Config, "Sequence[jax.Device] | None", Stop | None], T]

SIGNAL_CHECK_SECONDS = 0.5  # Python calls a signal's handler in the main thread, and there only between two steps of it


def seeds_of(config: Config) -> list[Config]:
    """Returns the config of each of `mesh.seed` seeds (`seed`, `seed` + 1, …) as its separate run would have it."""
    mesh = dataclasses.replace(config.mesh, seed=1)
    return [dataclasses.replace(config, seed=config.seed + i, mesh=mesh) for i in range(config.mesh.seed)]


def side_by_side(config: Config, cells: Sequence[Config], work: Work[T]) -> list[T]:
    """Calls `work(cell, devices, stop)` for each of `cells`, all at once, and returns the results in their order.

    `cells` are some of `seeds_of(config)`; the i-th seed has the i-th group of devices whichever the others are. Where
    `mesh.seed` is 1, `work` is called in this thread, with None for `devices` and `stop`. A signal is for all seeds:
    `work` raises Stopped when it sees one in `stop`, and Stopped is raised here when all have ended. Raises
    EdgewiseError where the devices can't be grouped, and, when all have ended, where `work` has failed for some; the
    cause is printed on stderr at once.
    """
    if config.mesh.seed == 1:
        return [work(cell, None, None) for cell in cells]
    import jax

    from train.sharding import device_groups

    groups = device_groups(config.mesh.seed)
    results: dict[int, T] = {}
    failed: list[int] = []

    def run(cell: Config, stop: Stop) -> None:
        devices = groups[cell.seed - config.seed]
        try:
            with jax.default_device(devices[0]):  # nothing waits for another seed's device, not even a scalar
                results[cell.seed] = work(cell, devices, stop)
        except Stopped:
            pass
        except BaseException as error:
            failed.append(cell.seed)
            if not isinstance(error, EdgewiseError):
                traceback.print_exception(error)
            print(f"error: {cell_name(cell)}: {error}", file=sys.stderr, flush=True)

    with stop_signals() as stop:
        threads = [threading.Thread(target=run, args=(cell, stop), name=cell_name(cell), daemon=True) for cell in cells]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a wait without an end may miss a signal that comes just before it
                    thread.join(SIGNAL_CHECK_SECONDS)
        except KeyboardInterrupt:
            atexit.register(_end_now)
            raise
    if stop.received:
        raise Stopped(stop.received)
    if failed:
        seeds = ", ".join(map(str, sorted(failed)))
        raise EdgewiseError(f"{len(failed)} of {len(cells)} seeds failed: {seeds}; the same command runs them again")
    return [results[cell.seed] for cell in cells]


def _end_now() -> None:
    """Ends the process as Ctrl-C does, though threads are at work: Python would take them down in the midst of JAX."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)
