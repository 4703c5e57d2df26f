"""Compares the ways of one layer's attention on a GPU, or compiles them for one that is not there.

`python -m bench.attention_on_gpu` measures plain attention, cuDNN's and the project's own kernel at base's shape, 128
rows × 512 with dropout and a relative bias, with one and with four segments a row: the forward pass, and with it the
backward pass to q, k, v and the bias. Sides take turns, and the best turn counts. Beside the times stands how far each
result is from plain attention in float32. GOALS are the kernel's: it is kept, and taken by `train.attention=auto`, if
it reaches them.

`--compile h200` needs no GPU but JAX's CUDA plugin: it says what the compiler says of the same programs, and of the
kernels how many registers a thread takes. `--tiny` tries the script on a CPU, where its figures mean nothing.
"""

import argparse
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from bench.work import composed
from conf.errors import last_line
from train.attention import DistanceBias, Segments, cudnn, gpu_kernel, kernel, plain
from train.attention.plain import drop_keys, kept_keys
from train.compile import hlo
from train.compile.topology import GPUS, require_compiler, topology_devices
from train.compile.traffic import hbm_bytes, launches
from train.sharding import make_mesh, on_mesh

RATE = 0.1  # of dropout
GOALS = {1: 1.6, 4: 0.7}  # most milliseconds of forward and backward pass, by the segments of a row
TURNS, CALLS = 5, 10
MARKS = ("<!-- attention-on-gpu -->", "<!-- end of attention-on-gpu -->")


@dataclass(frozen=True)
class Shape:
    """Holds the shape of one layer's attention: q, k and v are [rows, length, heads, width]."""

    rows: int = 128
    length: int = 512
    heads: int = 12
    width: int = 64


Way = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def attend_by_matrix(
    way: Callable[..., jax.Array],
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array,
    segments: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Attends by plain attention or cuDNN, with a bias [1, H, T, S]; `segments` are [B, T] int32."""
    return way(q, k, drop_keys(v, RATE, key), bias, (segments, segments))


def attend_by_kernel(
    plan: gpu_kernel.Plan | None,
    interpret: bool,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array,
    segments: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Attends by the kernel for GPUs, as the network does or by another plan; `bias` is [H, T+S-1] by distance."""
    both: Segments = (segments, segments)
    if plan is None:
        return kernel.attend(q, k, v, DistanceBias(bias), both, RATE, key, "gpu", interpret)
    rows, length, heads, _ = q.shape
    keep = kept_keys(RATE, key, rows, heads, length)[:, :, 0].astype(jnp.float32) / (1.0 - RATE)
    return gpu_kernel.attend(q, k, v, jnp.pad(bias, ((0, 0), (0, 1))), *both, keep, plan)


def ways(interpret: bool) -> dict[str, tuple[Way, bool]]:
    """Returns the sides by name: the function, and whether its bias is by distance; with `interpret`, without cuDNN."""
    smaller = gpu_kernel.Plan(False, interpret, kept=64)
    shallower = gpu_kernel.Plan(False, interpret, backward_stages=2)
    sides: dict[str, tuple[Way, bool]] = {"plain": (functools.partial(attend_by_matrix, plain), False)}
    if not interpret:
        sides["cudnn"] = (functools.partial(attend_by_matrix, cudnn.attend), False)
    sides["kernel"] = (functools.partial(attend_by_kernel, None, interpret), True)
    sides["kernel, blocks of 64"] = (functools.partial(attend_by_kernel, smaller, interpret), True)
    sides["kernel, two stages backward"] = (functools.partial(attend_by_kernel, shallower, interpret), True)
    return sides


def forward_and_backward(way: Way, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the result, and the gradients of q, k, v and the bias: arrays are those of a way, then the result's."""
    q, k, v, bias, segments, key, gradient = arrays
    out, backward = jax.vjp(lambda q, k, v, bias: way(q, k, v, bias, segments, key), q, k, v, bias)
    return out, *backward(gradient)


# --- on a GPU --------------------------------------------------------------------------------------------------------


def random_arrays(shape: Shape) -> dict[str, jax.Array]:
    """Returns q, k, v, the gradient of the result, in bfloat16, and the bias by distance, float32."""
    rng = np.random.default_rng(0)
    size = (shape.rows, shape.length, shape.heads, shape.width)
    scales = {"q": 0.3, "k": 0.5, "v": 1.0, "gradient": 1.0}
    arrays = {name: jnp.asarray(rng.normal(size=size) * scale, jnp.bfloat16) for name, scale in scales.items()}
    arrays["bias"] = jnp.asarray(rng.normal(size=(shape.heads, 2 * shape.length - 1)), jnp.float32)
    return arrays


def errors(found: Sequence[Any], expected: Sequence[Any]) -> dict[str, float]:
    """Returns how far the result and each gradient are from what is expected, relative to its norm."""

    @jax.jit
    def error(a: jax.Array, b: jax.Array) -> jax.Array:
        relative: jax.Array = jnp.linalg.norm((a.astype(jnp.float32) - b).ravel()) / jnp.linalg.norm(b.ravel())
        return relative

    names = ("result", "q", "k", "v", "bias")
    pairs = zip(names, found, expected, strict=True)
    return {name: float(error(jnp.asarray(a), jnp.asarray(b, jnp.float32))) for name, a, b in pairs}


def by_distance(matrix: jax.Array) -> np.ndarray:
    """Returns [H, T+S-1] float64, the sum of a gradient [1, H, T, S] over all pairs of each distance."""
    pairs = np.asarray(matrix, np.float64)[0]
    _, queries, keys = pairs.shape
    return np.stack([np.trace(pairs, n - (queries - 1), 1, 2) for n in range(queries + keys - 1)], axis=1)


@dataclass(frozen=True)
class Side:
    """Holds one way's compiled functions, which compile once for any segments, and whether its bias is by distance."""

    forward: Callable[..., jax.Array]
    both: Callable[..., tuple[jax.Array, ...]]
    takes_distances: bool


def jitted(interpret: bool) -> dict[str, Side]:
    """Returns the sides by name."""
    return {
        name: Side(jax.jit(way), jax.jit(functools.partial(forward_and_backward, way)), takes_distances)
        for name, (way, takes_distances) in ways(interpret).items()
    }


def measure(shape: Shape, sides: Mapping[str, Side], segments: int, calls: int, turns: int) -> dict[str, Any]:
    """Returns of each side the milliseconds of both passes and its errors, or why it failed."""
    arrays = random_arrays(shape)
    matrix = DistanceBias(arrays["bias"]).matrix(shape.length, shape.length, jnp.bfloat16)
    cut = jnp.broadcast_to(jnp.arange(shape.length) * segments // shape.length + 1, (shape.rows, shape.length))
    key, gradient = jax.random.key(0), arrays["gradient"]
    expected = exact_results(arrays, cut, key)
    found: dict[str, Any] = {}
    passes: dict[str, Sequence[Callable[[], Any]]] = {}
    for name, side in sides.items():
        bias = arrays["bias"] if side.takes_distances else matrix
        given = (arrays["q"], arrays["k"], arrays["v"], bias, cut, key)
        forward, both = functools.partial(side.forward, *given), functools.partial(side.both, *given, gradient)
        try:
            jax.block_until_ready(forward())
            results = both()
        except Exception as error:  # a side that does not compile leaves the others their turn
            found[name] = {"failed": last_line(str(error))}
            continue
        *others, d_bias = results
        found[name] = {"errors": errors((*others, d_bias if side.takes_distances else by_distance(d_bias)), expected)}
        passes[name] = forward, both
    for name, (forward_seconds, both_seconds) in best_seconds(passes, calls, turns).items():
        found[name] |= {"forward_ms": 1000 * forward_seconds, "forward_and_backward_ms": 1000 * both_seconds}
    own = found["kernel"].get("forward_and_backward_ms")
    reached = own is not None and own <= GOALS[segments]
    return {"segments": segments, "goal_ms": GOALS[segments], "reached": reached, "sides": found}


def exact_results(arrays: Mapping[str, jax.Array], segments: jax.Array, key: jax.Array) -> tuple[Any, ...]:
    """Returns the result and the gradients of plain attention in float32, that of the bias by distance."""
    q, k, v, gradient = (arrays[name].astype(jnp.float32) for name in ("q", "k", "v", "gradient"))
    bias = DistanceBias(arrays["bias"]).matrix(q.shape[1], k.shape[1], jnp.dtype("float32"))
    exact = jax.jit(functools.partial(forward_and_backward, functools.partial(attend_by_matrix, plain)))
    with jax.default_matmul_precision("highest"):
        *others, d_bias = exact(q, k, v, bias, segments, key, gradient)
    return *others, by_distance(d_bias)


def best_seconds(passes: Mapping[str, Sequence[Callable[[], Any]]], calls: int, turns: int) -> dict[str, list[float]]:
    """Returns of each side the least seconds of each of its passes; a turn of one is so many calls after another."""
    best = {name: [float("inf")] * len(programs) for name, programs in passes.items()}
    for _ in range(turns):
        for name, programs in passes.items():
            for n, program in enumerate(programs):
                start = time.perf_counter()
                for _ in range(calls):
                    result = program()
                jax.block_until_ready(result)
                best[name][n] = min(best[name][n], (time.perf_counter() - start) / calls)
    return best


# --- for a GPU that is not there -------------------------------------------------------------------------------------


def compile_all(names: Sequence[str], shape: Shape) -> dict[str, Any]:
    """Returns of each GPU what its compiler says of each side's forward and backward pass: see `compiled`."""
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        # The flags are read once, when the first program is compiled.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}"
        return {name: compile_sides(name, shape, Path(folder)) for name in names}


def compile_sides(name: str, shape: Shape, dumps: Path) -> dict[str, Any]:
    """Returns what one GPU's compiler says of each side; `dumps` is the folder into which XLA writes what it makes."""
    require_compiler(name)
    [device] = topology_devices(name)
    sides = {}
    for side, (way, takes_distances) in ways(interpret=False).items():
        sides[side] = compiled(way, takes_distances, shape, device)
        sides[side]["kernels"] = registers(dumps, "sm_80" if name == "a100" else "sm_90a")
        for file in dumps.glob("*.ptx"):
            file.unlink()
    return {"device": device.device_kind, **vars(shape), "jax": jax.__version__, "sides": sides}


def compiled(way: Way, takes_distances: bool, shape: Shape, device: jax.Device) -> dict[str, Any]:
    """Returns a side's temporaries and its HBM traffic in bytes, and the kernels, calls and copies of both passes."""
    mesh = make_mesh(composed([]).mesh, [device])
    whole = NamedSharding(mesh, PartitionSpec())

    def array(dtype: Any, *size: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype, sharding=whole)

    rows, length, heads, width = vars(shape).values()
    q = array(jnp.bfloat16, rows, length, heads, width)
    by_pair = array(jnp.bfloat16, 1, heads, length, length)
    bias = array(jnp.float32, heads, 2 * length - 1) if takes_distances else by_pair
    given = (q, q, q, bias, array(jnp.int32, rows, length), array(jax.random.key(0).dtype), q)
    both = jax.jit(on_mesh(functools.partial(forward_and_backward, way), mesh), out_shardings=whole)
    program = both.lower(*given).compile()
    module = hlo.parse(program.as_text() or "")
    memory = program.memory_analysis()
    assert memory is not None
    return {"temporaries": memory.temp_size_in_bytes, "accessed": hbm_bytes(module), "launches": launches(module)}


def registers(folder: Path, architecture: str) -> dict[str, dict[str, int]] | None:
    """Returns the registers of a thread and the bytes that it spills, by the name of each kernel of the project's own.

    `folder` has what XLA wrote of a program. Returns None where ptxas, the GPU's assembler, is not there.
    """
    assembler = ptxas()
    if assembler is None:
        return None
    found = {}
    for file in sorted(folder.glob("*.ptx")):
        named = re.search(r"\.entry t5_attention_(\w+)", file.read_text())
        if named is None:
            continue
        command = [assembler, "-v", "--gpu-name", architecture, str(file), "-o", os.devnull]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        numbers = re.search(
            r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", said, re.DOTALL
        )
        assert numbers is not None, said
        found[named[1]] = {"registers": int(numbers[3]), "spilled": int(numbers[1])}
    return found


def ptxas() -> str | None:
    """Returns the path of ptxas, as JAX's CUDA plugin brings it or as it is installed; None where there is none."""
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvcc")
    except ModuleNotFoundError:
        spec = None
    for place in spec.submodule_search_locations or () if spec else ():
        if (path := Path(place) / "bin" / "ptxas").exists():
            return str(path)
    return shutil.which("ptxas")


def page_table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a table of what the compilers said, by the GPU's name."""
    heads = ("", "attention", "temporaries", "HBM traffic", "launches", "registers a thread (spilled bytes)")
    rows = []
    for name, report in reports.items():
        for side, said in report["sides"].items():
            kernels = said["kernels"] or {}
            threads = ", ".join(
                f"{kernel.removesuffix('_kernel')} {numbers['registers']}"
                + (f" ({numbers['spilled']})" if numbers["spilled"] else "")
                for kernel, numbers in sorted(kernels.items())
            )
            temporaries, traffic = f"{said['temporaries'] / 2**20:,.0f} MiB", f"{said['accessed'] / 1e9:.1f} GB"
            rows.append((name, side, temporaries, traffic, str(said["launches"]), threads))
    return "\n".join(markdown_table(heads, rows, (0, 1, 5)))


def main() -> None:
    """Measures, or compiles, and prints the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.attention_on_gpu", description=__doc__)
    parser.add_argument("--compile", nargs="+", choices=GPUS, help="compile for these GPUs instead of measuring")
    parser.add_argument("--page", type=Path, help="the page into which the table of --compile is written")
    parser.add_argument("--json", type=Path, help="the file for the result")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the script on a CPU")
    options = parser.parse_args()
    found: Any
    if options.compile:
        found = compile_all(options.compile, Shape())
        if options.page:
            write_between_marks(options.page, MARKS, page_table(found))
    else:
        if jax.default_backend() == "cpu" and not options.tiny:
            parser.error("there is no GPU here: give --compile h200 or another, or --tiny to try the script")
        shape, calls, turns = (Shape(1, 128, 2, 16), 1, 1) if options.tiny else (Shape(), CALLS, TURNS)
        found = {"device": jax.devices()[0].device_kind, **vars(shape), "jax": jax.__version__}
        sides = jitted(interpret=jax.default_backend() == "cpu")
        found["found"] = [measure(shape, sides, segments, calls, turns) for segments in GOALS]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
