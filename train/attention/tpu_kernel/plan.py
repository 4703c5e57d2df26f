"""Cuts one call of the kernel for TPUs into programs, and each of its arrays into the programs' blocks."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # numbers of a register's row
BLOCK_WEIGHTS = 2**17  # most weights that are computed at a time, for a block of 2 * LANES queries or of LANES


@dataclasses.dataclass(frozen=True)
class Plan:
    """Holds the shapes of one call, and how its work is cut into programs: one for each group of heads and each row."""

    rows: int
    queries: int
    keys: int
    heads: int
    width: int  # K
    itemsize: int  # bytes of a number in q, k and v
    interpret: bool = False

    @property
    def group(self) -> int:
        """Returns how many heads a program has: the fewest whose width is a multiple of LANES, or else all."""
        fitting = [n for n in range(1, self.heads) if self.heads % n == 0 and n * self.width % LANES == 0]
        return fitting[0] if fitting else self.heads

    @property
    def block(self) -> int:
        """Returns how many queries' weights a program computes at a time."""
        fits = self.queries % (2 * LANES) == 0 and 2 * LANES * self.keys <= BLOCK_WEIGHTS
        return 2 * LANES if fits else LANES

    @property
    def blocks(self) -> list[slice]:
        """Returns the blocks of queries, in order."""
        return [slice(start, start + self.block) for start in range(0, self.queries, self.block)]

    @property
    def distances(self) -> int:
        """Returns how many distances a program holds: T + S - 1 of them are used."""
        return self.queries + self.keys

    @property
    def vmem(self) -> int:
        """Estimates the bytes of VMEM of a program of the backward pass; the compiler takes up to twice that."""
        bias = 2 * 4 * self.group * self.queries * self.keys  # the matrix and its gradient, float32
        spreading = 3 * 4 * self.block * self.distances
        weights = 6 * 4 * self.block * self.keys
        lanes = -(-self.group * self.width // LANES) * LANES
        # q, do, dq and k, v, dk, dv: two of each, because the next program's are copied meanwhile; dk and dv in float32
        arrays = 2 * self.itemsize * lanes * (3 * self.queries + 4 * self.keys) + 2 * 4 * LANES * self.keys
        return bias + max(spreading, weights) + arrays

    @property
    def grid(self) -> tuple[int, int]:
        """Returns the number of groups of heads and of rows; the rows of a group follow one another."""
        return self.heads // self.group, self.rows


@dataclasses.dataclass(frozen=True)
class Specs:
    """Holds which block of each array a program (group of heads, row) sees."""

    plan: Plan

    def inputs(self, by_distance: jax.Array | None, keep: jax.Array | None) -> list[pl.BlockSpec | None]:
        """Returns the blocks of q, k, v, the distances' bias, both segments, and the keys' factors."""
        plan = self.plan
        return [
            self.of_queries,
            self.of_keys,
            self.of_keys,
            None if by_distance is None else self.of_distances,
            pl.BlockSpec((1, 1, plan.queries), lambda group, row: (row, 0, 0)),
            pl.BlockSpec((1, 1, plan.keys), lambda group, row: (row, 0, 0)),
            None
            if keep is None
            else pl.BlockSpec((1, plan.group, 1, plan.keys), lambda group, row: (row, group, 0, 0)),
        ]

    @staticmethod
    def as_blocks(
        by_distance: jax.Array | None, query_segments: jax.Array, key_segments: jax.Array, keep: jax.Array | None
    ) -> list[jax.Array | None]:
        """Returns the small arrays with an axis of one before their last: a block's last two axes must be whole."""
        return [
            None if by_distance is None else by_distance[:, None],
            query_segments[:, None],
            key_segments[:, None],
            None if keep is None else keep[:, :, None],
        ]

    @property
    def of_queries(self) -> pl.BlockSpec:
        """Returns the block of an array [B, T, H*K]."""
        return pl.BlockSpec(
            (1, self.plan.queries, self.plan.group * self.plan.width), lambda group, row: (row, 0, group)
        )

    @property
    def of_keys(self) -> pl.BlockSpec:
        """Returns the block of an array [B, S, H*K]."""
        return pl.BlockSpec((1, self.plan.keys, self.plan.group * self.plan.width), lambda group, row: (row, 0, group))

    @property
    def of_distances(self) -> pl.BlockSpec:
        """Returns the block of an array [H, 1, T+S]."""
        return pl.BlockSpec((self.plan.group, 1, self.plan.distances), lambda group, row: (group, 0, 0))

    def matrices(self, count: int) -> list[pl.MemoryRef]:
        """Returns `count` arrays of VMEM [heads of a group, T, S] float32, which stay from row to row."""
        return [pltpu.VMEM((self.plan.group, self.plan.queries, self.plan.keys), jnp.float32)] * count

    @property
    def compiler_params(self) -> pltpu.CompilerParams:
        """Returns that groups of heads may run side by side, rows not, and how much VMEM there has to be."""
        return pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=max(2 * self.plan.vmem, 16 * 2**20)
        )


def cost(plan: Plan, products: int, arrays: int) -> pl.CostEstimate:
    """Returns what the compiler is told of a call: of so many products a weight, and so many arrays of q's size."""
    weights = plan.rows * plan.heads * plan.queries * plan.keys
    size = plan.rows * max(plan.queries, plan.keys) * plan.heads * plan.width
    return pl.CostEstimate(
        flops=2 * products * weights * plan.width,
        transcendentals=weights,
        bytes_accessed=arrays * size * plan.itemsize + 8 * plan.heads * plan.distances,
    )
