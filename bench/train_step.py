"""Measures one train step at a fixed shape: `python -m bench.train_step size=base train.batch_size=128 …`.

The batch is packed as classification's are: `--segments` inputs fill each row to the end, and each has its share of
`--targets` target positions. The whole step counts: dropout, gradients, optimizer. Prints one line of JSON.

`model_flops_utilization` is the model's own operations, three times the forward pass's of rows that are one input each,
over the time of a step and the peak: what a product of large matrices reaches on the device, in the activations' dtype,
unless `--peak` says. `--profile N` adds the N kernels of a GPU that take most of a step.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

from bench.work import composed
from conf.schema import Config
from train import t5
from train.sharding import make_mesh, platform_of
from train.step import StepConfig, compile_train_step


def packed_batch(rows: int, length: int, targets: int, segments: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Returns random token ids [rows, length] and [rows, targets] int32, and the segments that they are cut into.

    Raises ValueError where a row has fewer positions than segments.
    """
    if segments < 1 or min(length, targets) < segments:
        raise ValueError(f"{segments} segments in {length} and {targets} positions: expected one position each or more")
    rng = np.random.default_rng(0)

    def cut(n: int) -> np.ndarray:
        return np.broadcast_to(np.arange(n) * segments // n + 1, (rows, n)).astype(np.int32)

    return {
        "inputs": rng.integers(2, vocabulary, (rows, length), dtype=np.int32),
        "targets": rng.integers(2, vocabulary, (rows, targets), dtype=np.int32),
        "input_segments": cut(length),
        "target_segments": cut(targets),
    }


def peak_flops(dtype: str, n: int = 8192, times: int = 10) -> float:
    """Returns in FLOP/s how fast the device multiplies two matrices [n, n] of this dtype, the best of `times`.

    Their numbers are random: a chip multiplies equal ones faster.
    """
    a = jax.random.normal(jax.random.key(0), (n, n), dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(multiply(a, a))
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(multiply(a, a))
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)


def kernel_seconds(run: Callable[[], Any], most: int) -> dict[str, dict[str, float]]:
    """Returns of the `most` kernels that take a GPU the most time in `run` their seconds and how often they ran.

    Kernels whose names differ in a number at the end alone are taken together. Empty where no GPU is profiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        [file] = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        seconds: Counter[str] = Counter()
        times: Counter[str] = Counter()
        for plane in planes:
            for line in plane.lines if plane.name.startswith("/device:GPU") else ():
                for event in line.events if line.name.startswith("Stream") else ():
                    name = event.name.rstrip("0123456789").rstrip("_.")
                    seconds[name] += event.duration_ns / 1e9
                    times[name] += 1
    return {name: {"seconds": taken, "times": times[name]} for name, taken in seconds.most_common(most)}


def measure(config: Config, segments: int, targets: int, steps: int, peak: float, profiled: int = 0) -> dict[str, Any]:
    """Returns what a step of this config takes: compilation, the median of `steps` steps, memory and utilization.

    With `profiled`, its so many kernels that take most of one step too (`kernel_seconds`).
    """
    size = t5.with_vocabulary(config.size, config.tokenizer.vocabulary_size)
    assert size.vocabulary_size is not None
    mesh = make_mesh(config.mesh)
    c = StepConfig.from_config(config, size, platform_of(mesh))
    compiled = compile_train_step(c, mesh)
    rows, length = config.train.batch_size, config.dataset.max_input_length
    batch = packed_batch(rows, length, targets, segments, size.vocabulary_size)
    key = jax.random.key(0)
    state = jax.block_until_ready(compiled.init(key))
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(compiled.step(state, batch, key))
    compile_seconds = time.perf_counter() - start
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(compiled.step(state, batch, key))
        seconds.append(time.perf_counter() - start)
    flops = 3 * rows * float(t5.forward_flops(size, np.array(length), np.array(targets)))
    memory = jax.local_devices()[0].memory_stats() or {}
    found = {
        "size": size.name,
        "rows": rows,
        "length": length,
        "segments": segments,
        "targets": targets,
        "dtype": c.dtype,
        "unroll": c.execution.unroll,
        "attention": str(compiled.attention),
        "device": mesh.devices.flat[0].device_kind,
        "compile_seconds": compile_seconds,
        "step_seconds": median(seconds),
        "model_flops": flops,
        "peak_flops": peak,
        "model_flops_utilization": flops / median(seconds) / peak,
        "most_bytes": memory.get("peak_bytes_in_use"),
        "loss": float(metrics["loss"]),
    }
    if profiled:
        found["kernels"] = kernel_seconds(lambda: jax.block_until_ready(compiled.step(state, batch, key)), profiled)
    return found


def main() -> None:
    """Measures the step that the command line asks for, and prints the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_step", description=__doc__)
    parser.add_argument("overrides", nargs="+", help="config overrides: dataset=yahoo_answers size=base …")
    parser.add_argument("--segments", type=int, default=4, help="inputs in a row")
    parser.add_argument("--targets", type=int, default=8, help="target positions in a row")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed, after the first")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device; by default those of a matrix product")
    parser.add_argument("--profile", type=int, default=0, help="how many kernels to name, of those that take most")
    options = parser.parse_args()
    config = composed(options.overrides)
    dtype = StepConfig.from_config(config, config.size).dtype
    peak = options.peak * 1e12 if options.peak else peak_flops(dtype)
    print(json.dumps(measure(config, options.segments, options.targets, options.steps, peak, options.profile)))


if __name__ == "__main__":
    main()
