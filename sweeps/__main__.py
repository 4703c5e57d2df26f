"""Runs a grid, then makes its tables: `python -m sweeps -m dataset=a,b size=small,base seed='range(10)'`, `sweep=NAME`.

Every Hydra job is one cell: train, then infer. Finished cells are skipped; one that fails, or whose process dies, does
not stop the others. With `sweeps.seeds_per_job=N` up to N consecutive seeds of a cell are one job.
"""

import signal
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from conf.app import command, exit_with
from conf.errors import EdgewiseError
from conf.schema import Config
from sweeps.cell import run_job
from sweeps.check import check_data, print_checks
from sweeps.grid import abandon_sweep, finish_sweep, print_cells
from sweeps.launchers import register_launchers
from sweeps.refusals import check_alone
from sweeps.sweeper import register_sweeper
from train.pretrained.find import resolved
from train.seeds import seeds_of
from train.stopping import Stopped, raise_at_signals


def main(config: Config) -> None:
    """Runs one job of the grid and remembers whether it failed.

    A cell alone, without a grid, is only listed with `sweeps.list=true`, and only checked with `sweeps.check=true`.
    """
    if HydraConfig.get().mode == RunMode.RUN:  # a job of a multirun has none, or MULTIRUN
        check_alone(config)
    if config.sweeps.list:
        print_cells(seeds_of(config))
        return
    if config.sweeps.check:  # of a multirun the whole grid has been checked, and no job was started
        print_checks(check_data(seeds_of(resolved(config))))
        return
    if not run_job(config):
        _FAILED.append(config.seed)


_FAILED: list[int] = []

if __name__ == "__main__":
    try:
        register_launchers(sys.argv[1:])
        register_sweeper()
    except EdgewiseError as error:
        exit_with(error)
    raise_at_signals()
    try:
        command(main, config_name="sweeps")()
    except BaseException as error:
        signalled = isinstance(error, (Stopped, KeyboardInterrupt))
        abandon_sweep("stopped by a signal" if signalled else "ended before its last cell")
        if isinstance(error, KeyboardInterrupt):  # a second Ctrl-C
            raise Stopped(signal.SIGINT) from None
        raise
    status = finish_sweep()
    sys.exit(1 if _FAILED else status)
