"""Says whether a cell fits on a TPU slice or a GPU, and its costs: `python -m train.compile topology=v5e:4x4 size=3b`.

Compiles the train step and the scoring step ahead of time, on a machine that has no such device, by the compiler that
it would use (libtpu, or XLA's for GPUs), and prints what that compiler says. Needs no data: the config has the shapes.
The exit status is not 0 where a step does not fit.
"""

import sys

from conf.app import command
from conf.errors import EdgewiseError
from conf.schema import Config
from tracking.printing import print_json
from train.compile.topology import GPUS, available_memory, prepare_environment, require_compiler, topology_devices


def main(config: Config) -> None:
    """Compiles, prints, and exits with status 1 where a step does not fit."""
    topology = checked_topology(config)
    require_compiler(topology)
    devices = topology_devices(topology)
    from train.compile.programs import programs  # JAX starts here, not where the config is wrong
    from train.compile.report import as_json, compile_program, print_reports
    from train.sharding import make_mesh

    mesh = make_mesh(config.mesh, devices)
    hbm = available_memory(devices[0])
    reports = [compile_program(program, hbm) for program in programs(config, mesh)]
    if config.compile.json:
        print_json(as_json(config, devices, mesh, reports))
    else:
        print_reports(config, devices, mesh, reports)
    sys.exit(0 if all(report.fits for report in reports) else 1)


def checked_topology(config: Config) -> str:
    """Returns the slice's name. Raises EdgewiseError where none is given, and for several seeds at once."""
    if config.topology is None:
        raise EdgewiseError(
            "topology is not set: give topology=v5e:4x4, or another TPU slice by its compiler's name, or a GPU: "
            f"{', '.join(GPUS)}"
        )
    if config.mesh.seed > 1:
        raise EdgewiseError(
            f"mesh.seed={config.mesh.seed}: expected 1. Each seed compiles for its own part of the devices: give the "
            "topology of one part"
        )
    return config.topology


if __name__ == "__main__":
    prepare_environment()
    command(main)()
