"""Holds how the kernels for GPUs are compiled, and runs one of them so."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

ROWS_OF_WARP = 16  # of a block that 32 threads have: as many as in a tensor core's product


@dataclasses.dataclass(frozen=True)
class Plan:
    """Holds how the kernels are compiled.

    `pads_keys` says that some keys have a segment below 0. A program keeps a block of `kept` positions, and reads
    blocks of `read` positions; the bias's gradient is added up in squares of `read` × `read`. The stages are the blocks
    that Triton keeps on their way from memory in the loops of the forward and of the backward pass.
    """

    pads_keys: bool
    interpret: bool = False
    kept: int = 128
    read: int = 64
    forward_stages: int = 3
    backward_stages: int = 3


def call_kernel(
    kernel: Callable[..., None],
    plan: Plan,
    block_size: int,
    stages: int,
    grid: tuple[int, ...],
    inputs: tuple[Any, ...],
    outputs: Sequence[jax.ShapeDtypeStruct],
) -> list[jax.Array]:
    """Runs a kernel's programs, each with a block of `block_size` positions of its own, and returns the outputs."""
    called = pl.pallas_call(
        functools.partial(kernel, plan=plan),
        grid=grid,
        out_shape=list(outputs),
        compiler_params=triton.CompilerParams(num_warps=block_size // ROWS_OF_WARP, num_stages=stages),
        interpret=plan.interpret,
        name=f"t5_attention_{kernel.__name__}",
    )
    results: list[jax.Array] = called(*inputs)
    return results


def as_shape(x: jax.Array) -> jax.ShapeDtypeStruct:
    """Returns an array's shape and dtype."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)
