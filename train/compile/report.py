"""Compiles programs and reports what the compiler says of each: memory, operations, collectives."""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from conf.errors import first_line
from conf.schema import Config
from tracking.printing import in_bytes
from train.attention import Taken, recording
from train.compile import hlo
from train.compile.collectives import Collective, collectives
from train.compile.flops import flops
from train.compile.programs import LABEL_LENGTH, Program, label_length_is_assumed
from train.compile.traffic import hbm_bytes, launches
from train.sharding import platform_of
from train.step import writes_out_layers


@dataclass(frozen=True)
class Compiled:
    """Holds what a step that compiles needs and does on one device; sizes in bytes.

    `aliased` are the outputs that take their inputs' place; `temporaries` are all that lives between inputs and
    outputs. `flops` counts the matrix products that run, also what the backward pass computes again. `accessed` is read
    from and written to HBM. `open_loops` are loops whose number of turns the compiler doesn't say. `launches` are the
    operations that the device is given: kernels, library calls and copies.
    """

    arguments: float
    outputs: float
    aliased: float
    temporaries: float
    code: float
    flops: float
    accessed: float
    collectives: list[Collective]
    open_loops: int
    launches: int

    @property
    def memory(self) -> float:
        """Returns the bytes that the step needs in all."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclass(frozen=True)
class StepReport:
    """Holds what the compiler says of one step on one device.

    `hbm` is the memory in bytes that the compiler lets the step have; `model_flops` counts the model's own operations,
    forward and (in training) twice that backward; `seconds` is the time to compile; `attention` says which way
    attention took. Where the step does not fit, `compiled` is None and `error` is the compiler's message.
    """

    step: str
    shapes: dict[str, list[int]]
    hbm: float
    model_flops: float
    seconds: float
    attention: str = ""
    compiled: Compiled | None = None
    error: str | None = None

    @property
    def fits(self) -> bool:
        """Tells whether the step compiles, into the memory that there is."""
        return self.compiled is not None and self.compiled.memory <= self.hbm


def compile_program(program: Program, hbm: float) -> StepReport:
    """Compiles one program for devices with `hbm` bytes of memory, and reads what came out of it."""
    print(f"compiling the {program.step} step", file=sys.stderr, flush=True)
    start = time.monotonic()
    taken = Taken()
    try:
        with recording(taken):
            lowered = program.lower()
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.monotonic() - start
        message = first_line(error, most=10_000).removeprefix("RESOURCE_EXHAUSTED: ")
        return StepReport(program.step, program.shapes, hbm, program.model_flops, seconds, str(taken), error=message)
    seconds = time.monotonic() - start
    memory = executable.memory_analysis()
    assert memory is not None
    module = hlo.parse(executable.as_text() or "")
    compiled = Compiled(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=flops(module),
        collectives=collectives(module),
        accessed=hbm_bytes(module),
        open_loops=len(module.open_loops),
        launches=launches(module),
    )
    return StepReport(program.step, program.shapes, hbm, program.model_flops, seconds, str(taken), compiled)


# --- as JSON ---------------------------------------------------------------------------------------------------------


def as_json(
    config: Config, devices: Sequence[jax.Device], mesh: jax.sharding.Mesh, reports: Sequence[StepReport]
) -> dict[str, Any]:
    """Returns all reports, and what was compiled for which devices, as JSON values."""
    return {
        "topology": config.topology,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "size": config.size.name,
        "dataset": config.dataset.name,
        "mesh": dict(mesh.shape),
        "remat": config.train.remat,
        "unroll": written_out(config, mesh),
        "steps": [step_as_json(report) for report in reports],
    }


def written_out(config: Config, mesh: jax.sharding.Mesh) -> bool:
    """Tells whether the train step has its layers written out on this mesh."""
    return writes_out_layers(config.train, config.size, platform_of(mesh))


def step_as_json(report: StepReport) -> dict[str, Any]:
    """Returns a report as JSON values; what only a step that compiles has is null where it doesn't."""
    values = dataclasses.asdict(report)
    compiled = values.pop("compiled")
    nothing = dict.fromkeys(field.name for field in dataclasses.fields(Compiled))
    error = values.pop("error")
    memory = None if report.compiled is None else report.compiled.memory
    return {**values, **(compiled or nothing), "error": error, "memory": memory, "fits": report.fits}


# --- as a table ------------------------------------------------------------------------------------------------------


def print_reports(
    config: Config, devices: Sequence[jax.Device], mesh: jax.sharding.Mesh, reports: Sequence[StepReport]
) -> None:
    """Prints a table with a column for each step, and below it what was assumed and which steps don't fit."""
    shape = " × ".join(f"{axis}={n}" for axis, n in mesh.shape.items())
    title = (
        f"{config.size.name}, {config.dataset.name}, on {config.topology}: {len(devices)} × {devices[0].device_kind}"
    )
    table = Table(
        title=f"{title}; mesh {shape}; train.remat={config.train.remat} unroll={str(written_out(config, mesh)).lower()}"
    )
    table.add_column("on each device")
    columns = [report_lines(report) for report in reports]
    for report in reports:
        table.add_column(report.step, justify="right")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if label_length_is_assumed(config):
        console.print(
            f"assumed: label strings of {LABEL_LENGTH} tokens. tokenizer.path=FILE counts, compile.label_length=N says"
        )
    for report in reports:
        if report.error is not None:
            console.print(f"the {report.step} step does not fit: {report.error}", markup=False)


def report_lines(report: StepReport) -> Mapping[str, str]:
    """Returns the rows of a step's column in the table, by their names."""
    lines = {
        "shapes of the whole batch": ", ".join(f"{key} {rows} × {n}" for key, (rows, n) in report.shapes.items()),
        "memory the compiler lets it have": in_bytes(report.hbm, binary=True),
    }
    compiled = report.compiled
    if compiled is None:
        return lines | {"memory": "more", "compiled in": f"{report.seconds:.0f} s"}
    lines |= {
        "attention": report.attention,
        "arguments": in_bytes(compiled.arguments, binary=True),
        "outputs that don't take an argument's place": in_bytes(compiled.outputs - compiled.aliased, binary=True),
        "temporaries": in_bytes(compiled.temporaries, binary=True),
        "code": in_bytes(compiled.code, binary=True),
        "memory": f"{in_bytes(compiled.memory, binary=True)} ({compiled.memory / report.hbm:.0%})",
        "floating-point operations": f"{compiled.flops / 1e12:.3f} T",
        "those of the model": f"{report.model_flops / 1e12:.3f} T ({report.model_flops / compiled.flops:.0%})",
    }
    lines["kernels, calls and copies"] = f"{compiled.launches:,}"
    lines["read from and written to HBM"] = in_bytes(compiled.accessed, binary=True)
    for collective in compiled.collectives:
        size, sent = in_bytes(collective.bytes, binary=True), in_bytes(collective.sent, binary=True)
        lines[collective.kind] = f"{collective.count:,} of {size}, {sent} sent"
    lines["sent in all"] = in_bytes(sum(collective.sent for collective in compiled.collectives), binary=True)
    if compiled.open_loops:
        lines["loops counted once"] = f"{compiled.open_loops}: the compiler doesn't say how often they turn"
    return lines | {"compiled in": f"{report.seconds:.0f} s"}
