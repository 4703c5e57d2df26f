"""`python -m train.compile topology=v5e:4x4 size=3b dataset=yahoo_answers`: does it fit, and what does it cost?

Compiles the train step and the scoring step ahead of time for a TPU slice, on a machine that has none, by the compiler
that a TPU would use (libtpu), and says what that compiler says. Needs no data: shapes come from the config. The exit
status is not 0 where a step does not fit.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from conf.app import command
from conf.errors import EdgewiseError
from conf.schema import Config, Size

if TYPE_CHECKING:  # JAX starts only once the environment says that there is no TPU to look for
    import jax

    from train.label_tree import Labels

INSTALL = "uv pip install --python .venv -r pyproject.toml --extra tpu"
LABEL_LENGTH = 8  # tokens, where no tokenizer says
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu asks what machine it is on and complains where nobody answers; what it compiles for is the topology's alone
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_MIN_LOG_LEVEL": "3",
    # it recurses deeper into a program of this size than the 64 KiB of its threads' stacks: 3b would crash it
    "LIBTPU_INIT_ARGS": "--fibers_default_thread_stack_size=4194304",
}


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What the compiler says of one step on one device; sizes in bytes, times in seconds.

    `temporaries` are all that lives between inputs and outputs; `memory` is what the step needs in all, `hbm` what the
    compiler lets it have. `flops` counts the matrix products that run, also what the backward pass computes again;
    `model_flops` those of the model alone, forward and (in training) twice that backward. `collectives` are
    `train.hlo.Collective` as mappings. Where a step does not fit, `error` is the compiler's message, the rest None.
    """

    step: str
    shapes: dict[str, list[int]]
    hbm: float
    model_flops: float
    seconds: float
    arguments: float | None = None
    outputs: float | None = None
    aliased: float | None = None  # outputs that take their inputs' place
    temporaries: float | None = None
    code: float | None = None
    flops: float | None = None
    collectives: list[dict[str, Any]] | None = None
    open_loops: int | None = None
    error: str | None = None

    @property
    def memory(self) -> float | None:
        if self.error is not None:
            return None
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code  # type: ignore[operator]

    @property
    def fits(self) -> bool:
        return self.memory is not None and self.memory <= self.hbm


def main(config: Config) -> None:
    """Compiles, prints, and exits with status 1 where a step does not fit."""
    if config.topology is None:
        raise EdgewiseError("topology is not set: give topology=v5e:4x4, or another TPU slice by its compiler's name")
    if config.mesh.seed > 1:
        raise EdgewiseError(
            f"mesh.seed={config.mesh.seed}: expected 1. Each seed compiles for its own part of the devices: give the "
            "topology of one part"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise EdgewiseError(f"libtpu, the TPU's compiler, is not installed. Install it with: {INSTALL}")
    devices = topology_devices(config.topology)
    reports = compile_steps(config, devices)
    if config.compile.json:
        print(json.dumps(as_json(config, devices, reports), indent=2))
    else:
        print_reports(config, devices, reports)
    sys.exit(0 if all(report.fits for report in reports) else 1)


def prepare_environment() -> None:
    """JAX is to look for no TPU here, and libtpu to ask for none: to be called before either starts."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def topology_devices(name: str) -> list["jax.Device"]:
    """The devices of a TPU slice, one a chip. Raises EdgewiseError for a name that libtpu doesn't know."""
    import jax
    from jax.experimental import topologies

    # A v4 chip's two cores work as one device, as they do by default on a real one.
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        return list(topologies.get_topology_desc(name, "tpu", **options).devices)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise EdgewiseError(
            f"topology={name}: {str(error).splitlines()[0]}; expected a TPU's name and its chips in each direction, "
            "such as v4:2x2x1 (v4-8), v5e:4x4 (v5e-16), v5p:2x2x1 (v5p-8) or v6e:2x4 (v6e-8)"
        ) from None


def compile_steps(config: Config, devices: list["jax.Device"]) -> list[StepReport]:
    """The report of each step, compiled one after the other."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    from train import t5
    from train.labels import compile_label_scoring, label_room, scoring_budget
    from train.sharding import BATCH, make_mesh, whole_rows
    from train.step import StepConfig, compile_train_step

    if config.train.dtype == "auto":
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, dtype="bfloat16"))
    size, labels = full_size(config), labels_of(config)
    mesh = make_mesh(config.mesh, devices)
    hbm = available_memory(devices[0])
    replicated = NamedSharding(mesh, PartitionSpec())
    compiled = compile_train_step(StepConfig.of(config, size), mesh)
    length = config.dataset.max_input_length
    target = config.compile.target_length or (labels.padded.shape[1] if labels else config.dataset.max_target_length)

    def ids(*shape: int, sharding: NamedSharding = NamedSharding(mesh, BATCH)) -> jax.ShapeDtypeStruct:  # noqa: B008
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)

    def forward_flops(rows: int, targets: int) -> float:
        return float(t5.forward_flops(size, np.array(length), np.array(targets))) * rows / len(devices)

    rows = whole_rows(mesh, config.compile.rows or config.train.batch_size)
    shapes = {"inputs": [rows, length], "targets": [rows, target]}
    batch = {name: ids(*shape) for name, shape in shapes.items()}
    batch |= {"input_segments": batch["inputs"], "target_segments": batch["targets"]}
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=replicated)
    reports = []
    if config.compile.step in ("all", "train"):
        lower = functools.partial(compiled.step.lower, compiled.abstract, batch, key)  # type: ignore[attr-defined]
        reports.append(compile_step("train", lower, shapes, hbm, 3 * forward_flops(rows, target)))
    if config.compile.step in ("all", "score") and labels is None:
        lower = functools.partial(compiled.eval_sums.lower, compiled.abstract.params, batch)  # type: ignore[attr-defined]
        reports.append(compile_step("teacher forcing", lower, shapes, hbm, forward_flops(rows, target)))
    elif config.compile.step in ("all", "score") and labels is not None:
        rows = scoring_budget(config.infer, labels, mesh).rows(length)
        tree = labels.tree(label_room(size, (rows, length)))
        shapes = {"inputs": [rows, length], "labels": list(labels.padded.shape), "positions": list(tree.tokens.shape)}
        scoring = compile_label_scoring(size, config.train.dtype, mesh)
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), tree)
        lower = functools.partial(scoring.lower, compiled.abstract.params, ids(rows, length), abstract)  # type: ignore[attr-defined]
        reports.append(compile_step("score", lower, shapes, hbm, forward_flops(rows, tree.tokens.size)))
    return reports


def compile_step(
    step: str, lower: Callable[[], "jax.stages.Lowered"], shapes: dict[str, list[int]], hbm: float, model_flops: float
) -> StepReport:
    """Compiles one step and reads what came out of it."""
    import jax

    from train.compile import hlo

    print(f"compiling the {step} step", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        compiled = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.monotonic() - start
        message = str(error).splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")
        return StepReport(step, shapes, hbm, model_flops, seconds, error=message)
    seconds = time.monotonic() - start
    memory = compiled.memory_analysis()
    assert memory is not None
    module = hlo.parse(compiled.as_text() or "")
    return StepReport(
        step=step,
        shapes=shapes,
        hbm=hbm,
        model_flops=model_flops,
        seconds=seconds,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=hlo.flops(module),
        collectives=[dataclasses.asdict(collective) for collective in hlo.collectives(module)],
        open_loops=len(module.open_loops),
    )


def full_size(config: Config) -> Size:
    """The architecture with a vocabulary: the tokenizer's wanted size where the config leaves it open."""
    from train import t5

    if config.size.d_model == 0:
        raise EdgewiseError("size=auto takes its shapes from a checkpoint: give size=base or another")
    return t5.with_vocabulary(config.size, config.tokenizer.vocabulary_size)


def labels_of(config: Config) -> "Labels | None":
    """The label strings, or, where no tokenizer says, made-up ones without a common beginning: as many, and as long as
    `compile.label_length` or LABEL_LENGTH says. None in a task without labels.
    """
    import numpy as np

    from train import label_tree
    from train.data.tokens import Vocabulary
    from train.labels import as_labels

    if config.dataset.task != "classification":
        return None
    classes = list(config.dataset.classes.values())
    if config.compile.label_length is None and config.tokenizer.path is not None:
        return as_labels(Vocabulary.from_file(config.tokenizer.path).encode(classes, max_length=1 << 20))
    apart = np.arange(2, 2 + len(classes), dtype=np.int32)[:, None]
    return label_tree.Labels(np.repeat(apart, config.compile.label_length or LABEL_LENGTH, axis=1))


def available_memory(device: "jax.Device") -> float:
    """The bytes of HBM that the compiler lets a program have: it says so where a program asks for too much."""
    import jax
    import jax.numpy as jnp

    sharding = jax.sharding.SingleDeviceSharding(device)
    far_too_much = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=sharding)
    try:
        jax.jit(lambda x: x + 1, out_shardings=sharding).lower(far_too_much).compile()
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"available HBM \(([\d.]+)G\)", str(error))
        if found:
            return float(found[1]) * 2**30
        raise
    raise AssertionError("4 TiB fit on one device")


# --- printing --------------------------------------------------------------------------------------------------------


def as_json(config: Config, devices: list["jax.Device"], reports: list[StepReport]) -> dict[str, Any]:
    """Everything, as JSON values."""
    from train.sharding import make_mesh

    return {
        "topology": config.topology,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "size": config.size.name,
        "dataset": config.dataset.name,
        "mesh": dict(make_mesh(config.mesh, devices).shape),
        "remat": config.train.remat,
        "steps": [{**dataclasses.asdict(report), "memory": report.memory, "fits": report.fits} for report in reports],
    }


def print_reports(config: Config, devices: list["jax.Device"], reports: list[StepReport]) -> None:
    """A table with a column for each step."""
    from train.sharding import make_mesh

    mesh = " × ".join(f"{axis}={n}" for axis, n in make_mesh(config.mesh, devices).shape.items())
    title = (
        f"{config.size.name}, {config.dataset.name}, on {config.topology}: {len(devices)} × {devices[0].device_kind}"
    )
    table = Table(title=f"{title}; mesh {mesh}; train.remat={config.train.remat}")
    table.add_column("on each device")
    lines: dict[str, list[str]] = {}
    for report in reports:
        table.add_column(report.step, justify="right")
        for name, value in report_lines(report).items():
            lines.setdefault(name, [""] * len(reports))[reports.index(report)] = value
    for name, values in lines.items():
        table.add_row(name, *values)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    unknown = config.compile.label_length is None and config.tokenizer.path is None
    if config.dataset.task == "classification" and unknown:
        console.print(
            f"assumed: label strings of {LABEL_LENGTH} tokens. tokenizer.path=FILE counts, compile.label_length=N says"
        )
    for report in reports:
        if report.error is not None:
            console.print(f"the {report.step} step does not fit: {report.error}")


def report_lines(report: StepReport) -> dict[str, str]:
    """What is said of a step, by name."""
    lines = {
        "shapes of the whole batch": ", ".join(f"{key} {rows} × {n}" for key, (rows, n) in report.shapes.items()),
        "memory the compiler lets it have": in_bytes(report.hbm),
    }
    if report.memory is None or report.flops is None or report.collectives is None:
        return lines | {"memory": "more", "compiled in": f"{report.seconds:.0f} s"}
    lines |= {
        "arguments": in_bytes(report.arguments),
        "outputs that don't take an argument's place": in_bytes((report.outputs or 0) - (report.aliased or 0)),
        "temporaries": in_bytes(report.temporaries),
        "code": in_bytes(report.code),
        "memory": f"{in_bytes(report.memory)} ({report.memory / report.hbm:.0%})",
        "floating-point operations": f"{report.flops / 1e12:.3f} T",
        "those of the model": f"{report.model_flops / 1e12:.3f} T ({report.model_flops / report.flops:.0%})",
    }
    for collective in report.collectives:
        size, sent = in_bytes(collective["bytes"]), in_bytes(collective["sent"])
        lines[collective["kind"]] = f"{collective['count']:,} of {size}, {sent} sent"
    lines["sent in all"] = in_bytes(sum(collective["sent"] for collective in report.collectives))
    if report.open_loops:
        lines["loops counted once"] = f"{report.open_loops}: the compiler doesn't say how often they turn"
    return lines | {"compiled in": f"{report.seconds:.0f} s"}


def in_bytes(size: float | None) -> str:
    """Such as 1.25 GiB."""
    value, unit = float(size or 0), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.2f} {unit}"


if __name__ == "__main__":
    prepare_environment()
    command(main)()
