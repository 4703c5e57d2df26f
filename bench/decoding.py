"""Measures decoding beside the memory bound: `just bench-decoding size=small`.

A step of decoding multiplies a few vectors by all of the decoder's weights, so what bounds it is how fast they, and the
keys and values of what came before, are read. The bound is the time that the memory needs for these bytes alone, at the
rate at which the device adds one to a large array. The weights are random, and the texts too: an answer rarely ends
before its limit. Prints a table, and with `--json FILE` writes its figures.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.work import composed
from conf.schema import Size
from infer.decode import compile_decoding
from train import t5
from train.sharding import make_mesh
from train.step import dtype_of

HEAD_BYTES = 4  # of a number of the head, which is float32 whatever dtype the activations have
ALPHA = 0.6  # the length penalty; it changes no step's work


@dataclass(frozen=True)
class Shape:
    """Holds what is decoded: B rows of S tokens, N beams a row, up to M tokens written."""

    rows: int
    source: int
    beams: int
    written: int


def step_bytes(size: Size, shape: Shape, position: int, width: int) -> int:
    """Returns how many bytes the step of `position` (from 0) has to read, in activations of `width` bytes a number.

    They are the decoder layers' weights (of the cross-attention only those of queries and result), the head, the keys
    and values of the inputs, once a row, and those of the tokens so far, of every beam. Left out is what a program may
    keep in caches or need not do: activations, logits, and copies of beams that change places.
    """
    assert size.vocabulary_size is not None
    d, inner = size.d_model, size.heads * size.d_kv
    matrices = 3 if size.activation == "gated_gelu" else 2
    weights = 6 * d * inner + matrices * d * size.d_ff + 3 * d
    cross = 2 * shape.rows * shape.source * inner
    own = 2 * shape.rows * shape.beams * (position + 1) * inner
    return size.decoder_depth * width * (weights + cross + own) + HEAD_BYTES * d * size.vocabulary_size


def bound_seconds(size: Size, shape: Shape, steps: int, width: int, bytes_per_second: float) -> float:
    """Returns the least seconds of `steps` steps, by their bytes; the encoder is not in it."""
    return sum(step_bytes(size, shape, position, width) for position in range(steps)) / bytes_per_second


def memory_rate(megabytes: int = 256, times: int = 10) -> float:
    """Returns in bytes a second how fast the device reads an array and writes one of its size, the best of `times`."""
    x = jnp.zeros((megabytes * 2**18,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    jax.block_until_ready(add(x))
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(add(x))
        seconds.append(time.perf_counter() - start)
    return 2 * x.nbytes / min(seconds)


def measure(size: Size, dtype: str, shape: Shape, mesh: jax.sharding.Mesh, turns: int, rate: float) -> dict[str, Any]:
    """Returns how fast a batch is decoded, the best of `turns`, and the bound; encoding, measured alone, is taken off.

    Encoding is timed as decoding of one token, which has one step more than none.
    """
    params = jax.jit(lambda key: t5.init_params(size, key))(jax.random.key(0))
    params = t5.cast(params, dtype, head=False)
    vocabulary = size.vocabulary_size
    inputs = np.random.default_rng(0).integers(2, vocabulary, (shape.rows, shape.source), dtype=np.int32)
    taken, steps, compiling = [], [], []
    for limit in (1, shape.written):
        decode = compile_decoding(size, dtype, limit, shape.beams, ALPHA, mesh)
        seconds = []
        for _ in range(turns + 1):
            start = time.perf_counter()
            decoded = jax.block_until_ready(decode(params, inputs))
            seconds.append(time.perf_counter() - start)
        compiling.append(seconds[0])
        taken.append(min(seconds[1:]))
        steps.append(int(decoded.steps))
    more = steps[1] - steps[0]
    step_seconds = (taken[1] - taken[0]) / more
    bound = bound_seconds(size, shape, steps[1], jnp.dtype(dtype).itemsize, rate) / steps[1]
    return {
        **vars(shape),
        "size": size.name,
        "dtype": dtype,
        "steps": steps[1],
        "seconds": taken[1],
        "first_call_seconds": compiling[1],
        "tokens_per_second": shape.rows * steps[1] / taken[1],
        "step_seconds": step_seconds,
        "bound_step_seconds": bound,
        "times_bound": step_seconds / bound,
        "bytes_per_second": rate,
    }


def main() -> None:
    """Measures greedy decoding and a beam search, and prints them beside the bound."""
    parser = argparse.ArgumentParser(prog="just bench-decoding", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="config overrides: size=small train.dtype=bfloat16 …")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--source", type=int, default=512, help="tokens of an input")
    parser.add_argument("--written", type=int, default=64, help="tokens of an answer at most")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--turns", type=int, default=3, help="timed calls, after the one that compiles")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    config = composed(options.overrides)
    size = t5.with_vocabulary(config.size, config.tokenizer.vocabulary_size)
    mesh, dtype, rate = make_mesh(config.mesh), dtype_of(config), memory_rate()
    device = mesh.devices.flat[0].device_kind
    title = f"{size.name}, {options.rows} × {options.source} → {options.written}, {dtype}, {device}"
    table = Table(title=f"{title}, memory {rate / 1e9:.0f} GB/s")
    for column in ("beams", "tokens/s", "ms a step", "bound", "times the bound"):
        table.add_column(column, justify="right")
    found = []
    for beams in options.beams:
        shape = Shape(options.rows, options.source, beams, options.written)
        result = measure(size, dtype, shape, mesh, options.turns, rate)
        found.append(result)
        milliseconds = [f"{1000 * result[key]:.2f}" for key in ("step_seconds", "bound_step_seconds")]
        table.add_row(str(beams), f"{result['tokens_per_second']:,.0f}", *milliseconds, f"{result['times_bound']:.2f}")
        if options.json:
            options.json.write_text(json.dumps(found))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
