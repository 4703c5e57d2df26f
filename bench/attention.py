"""Compares both ways of `train.attention` on one device, forward and backward: `just bench-attention`.

Each time is the best of a few turns. `ROW_BYTES`, from which on a single CPU takes one row after the other, was read
off this table.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from train.attention import plain, row_by_row

SHAPES = (  # rows, queries, keys, heads, width
    (16, 512, 512, 8, 64),
    (32, 256, 256, 8, 64),
    (64, 128, 128, 8, 64),
    (64, 80, 80, 8, 64),
    (16, 512, 512, 2, 32),
    (32, 256, 256, 2, 32),
    (64, 128, 128, 2, 32),
    (64, 40, 512, 8, 64),
    (64, 16, 128, 8, 64),
)
TURNS = 7


def times(shape: tuple[int, ...]) -> dict[str, tuple[float, float, float]]:
    """Measures each way: seconds of the forward pass, seconds of the gradient, GiB of the gradient's temporaries."""
    rows, queries, keys, heads, width = shape
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(rows, n, heads, width)), jnp.float32) for n in (queries, keys, keys))
    bias = jnp.asarray(rng.normal(size=(1, heads, queries, keys)), jnp.float32)
    segments = tuple(jnp.broadcast_to(jnp.arange(n) * 2 // n + 1, (rows, n)) for n in (queries, keys))

    def compiled(way: Callable[..., jax.Array]) -> tuple[jax.stages.Compiled, jax.stages.Compiled]:
        gradient = jax.grad(lambda q, k, v, bias: jnp.sum(way(q, k, v, bias, segments) ** 2), argnums=(0, 1, 2, 3))
        forward = jax.jit(lambda q, k, v, bias: way(q, k, v, bias, segments))
        return forward.lower(q, k, v, bias).compile(), jax.jit(gradient).lower(q, k, v, bias).compile()

    ways = {name: compiled(way) for name, way in (("plain", plain), ("row by row", row_by_row))}
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for _ in range(TURNS):  # in turns: what else the machine does disturbs both
        for name, programs in ways.items():
            for program, seconds in zip(programs, taken[name], strict=True):
                start = time.perf_counter()
                jax.block_until_ready(program(q, k, v, bias))
                seconds.append(time.perf_counter() - start)
    held = {}
    for name, (_, both) in ways.items():
        analysis = both.memory_analysis()
        assert analysis is not None
        held[name] = analysis.temp_size_in_bytes / 2**30
    return {name: (min(forward), min(both_ways), held[name]) for name, (forward, both_ways) in taken.items()}


def main() -> None:
    """Prints one row of times for each of SHAPES."""
    columns = ("rows × queries × keys × heads × width", "KiB a row", "forward", "gradient", "plain holds", "row by row")
    table = Table(
        title=f"speed of attention row by row, relative to plain attention, on {jax.devices()[0].device_kind}"
    )
    for column in columns:
        table.add_column(column)
    for shape in SHAPES:
        found = times(shape)
        all_rows, by_row = found["plain"], found["row by row"]
        kib = 4 * shape[1] * shape[2] * shape[3] / 1024
        ratios = (f"{all_rows[i] / by_row[i]:.2f} ×" for i in range(2))
        table.add_row(
            " × ".join(map(str, shape)), f"{kib:.0f}", *ratios, *(f"{x[2]:.2f} GiB" for x in (all_rows, by_row))
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
