"""Computes attention inside segments with a relative bias by one Pallas kernel for TPUs, forward and backward.

A program of the kernel holds the queries, keys and values of one row for as many heads as fill the 128 lanes of a
register, and no weights ever leave the chip's vector memory (VMEM). Arrays stay as the projections leave them,
[B, T, H*K], so nothing is transposed in memory. The backward pass needs the forward pass's inputs alone: it computes
the weights again.

T5's bias depends on the distance between a key and a query alone. The kernel takes one number for each head and each
distance, spreads these numbers to a matrix [T, S] in VMEM before the first row, and sums the gradient of that matrix in
VMEM over all rows; after the last row it is summed along the diagonals. So neither [H, T, S] nor [B, H, T, S] is ever
written to memory.

A program goes over the queries in blocks, and all keys of a row are in one block: a softmax needs no second pass. On a
CPU the kernel runs in Pallas' interpreter, which is slow and is for tests.

Shape names as in `train.t5`. T and S, here, are multiples of LANES: `train.attention.kernel` pads.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from train.attention.plain import MASKED

LANES = 128  # numbers of a register's row
BLOCK_WEIGHTS = 2**17  # most weights that are computed at a time, for a block of 2 * LANES queries or of LANES
PADDED = 2 * MASKED  # the logit of a key that is there only to make S a multiple of LANES; its segment is below 0

Gradients = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, None, None, None]
Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array, jax.Array | None]


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


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    by_distance: jax.Array | None,
    query_segments: jax.Array,
    key_segments: jax.Array,
    keep: jax.Array | None,
    plan: Plan,
) -> jax.Array:
    """Attends with queries `q` [B, T, H*K] to `k` and `v` [B, S, H*K]; returns [B, T, H*K] in their dtype.

    `by_distance` [H, T+S] float32 holds at index n the bias of a key that is n - (T-1) after its query; the last number
    is not used. Segments are [B, T] and [B, S] int32; a key whose segment is below 0 does not count. `keep` [B, H, S]
    float32 multiplies the values of each key: 0 or 1/(1 - rate). Gradients go to q, k, v and `by_distance`.
    """
    attended: jax.Array = _attend(q, k, v, by_distance, query_segments, key_segments, keep, plan)
    return attended


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _attend(*arguments: Any) -> jax.Array:
    """Computes `attend`, which takes the same arguments."""
    return _forward(*arguments)[0]


def _forward(*arguments: Any) -> tuple[jax.Array, Residuals]:
    """Returns the result, and what the backward pass needs: the arguments."""
    *arrays, plan = arguments
    q, k, v, by_distance, query_segments, key_segments, keep = arrays
    specs = Specs(plan)
    out = pl.pallas_call(
        functools.partial(forward_kernel, plan=plan),
        grid=plan.grid,
        in_specs=specs.inputs(by_distance, keep),
        out_specs=specs.of_queries,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        scratch_shapes=specs.matrices(0 if by_distance is None else 1),
        compiler_params=specs.compiler_params,
        cost_estimate=cost(plan, products=2, arrays=4),
        interpret=plan.interpret,
        name="t5_attention_forward",
    )(q, k, v, *specs.as_blocks(by_distance, query_segments, key_segments, keep))
    return out, (q, k, v, by_distance, query_segments, key_segments, keep)


def _backward(plan: Plan, residuals: Residuals, gradient: jax.Array) -> Gradients:
    """Returns the gradients of the arguments of `attend`."""
    q, k, v, by_distance, query_segments, key_segments, keep = residuals
    specs = Specs(plan)
    out_specs = [specs.of_queries, specs.of_keys, specs.of_keys]
    out_shape = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k, v)]
    if by_distance is not None:
        out_specs.append(specs.of_distances)
        out_shape.append(jax.ShapeDtypeStruct((plan.heads, 1, plan.distances), jnp.float32))
    dq, dk, dv, *rest = pl.pallas_call(
        functools.partial(backward_kernel, plan=plan),
        grid=plan.grid,
        in_specs=[*specs.inputs(by_distance, keep), specs.of_queries],
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=specs.matrices(0 if by_distance is None else 2),
        compiler_params=specs.compiler_params,
        cost_estimate=cost(plan, products=5, arrays=7),
        interpret=plan.interpret,
        name="t5_attention_backward",
    )(q, k, v, *specs.as_blocks(by_distance, query_segments, key_segments, keep), gradient)
    return dq, dk, dv, rest[0][:, 0] if rest else None, None, None, None


_attend.defvjp(_forward, _backward)


# --- how arrays are cut into the programs' blocks --------------------------------------------------------------------


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


# --- the programs ----------------------------------------------------------------------------------------------------


def forward_kernel(
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    distances_ref: Any,
    query_segments_ref: Any,
    key_segments_ref: Any,
    keep_ref: Any,
    out_ref: Any,
    *matrices: Any,
    plan: Plan,
) -> None:
    """Computes the result for one row and one group of heads."""
    (bias_ref,) = matrices or (None,)
    if bias_ref is not None:
        spread_before_first_row(distances_ref, bias_ref, plan)
    masks = Masks(query_segments_ref[0], key_segments_ref[0])
    for head in range(plan.group):
        lanes = slice(head * plan.width, (head + 1) * plan.width)
        k = k_ref[0, :, lanes]
        v = kept(v_ref[0, :, lanes], keep_ref, head)
        for block in plan.blocks:
            bias = None if bias_ref is None else bias_ref[head, block]
            exponentials, total = softmax_parts(q_ref[0, block, lanes], k, bias, masks, block)
            attended = product(exponentials.astype(v.dtype), v) / total
            out_ref[0, block, lanes] = attended.astype(out_ref.dtype)


def backward_kernel(
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    distances_ref: Any,
    query_segments_ref: Any,
    key_segments_ref: Any,
    keep_ref: Any,
    gradient_ref: Any,
    dq_ref: Any,
    dk_ref: Any,
    dv_ref: Any,
    *distances_and_matrices: Any,
    plan: Plan,
) -> None:
    """Computes the gradients for one row and one group of heads, and adds up the bias's."""
    d_distances_ref, bias_ref, d_bias_ref = distances_and_matrices or (None, None, None)
    if bias_ref is not None:
        spread_before_first_row(distances_ref, bias_ref, plan)

        @pl.when(pl.program_id(1) == 0)
        def _() -> None:
            d_bias_ref[...] = jnp.zeros_like(d_bias_ref)

    masks = Masks(query_segments_ref[0], key_segments_ref[0])
    for head in range(plan.group):
        lanes = slice(head * plan.width, (head + 1) * plan.width)
        k = k_ref[0, :, lanes]
        v = kept(v_ref[0, :, lanes], keep_ref, head)
        dk = dv = jnp.zeros((plan.keys, plan.width), jnp.float32)
        for block in plan.blocks:
            q, gradient = q_ref[0, block, lanes], gradient_ref[0, block, lanes]
            bias = None if bias_ref is None else bias_ref[head, block]
            exponentials, total = softmax_parts(q, k, bias, masks, block)
            weights = exponentials / total
            d_weights = product_with_transposed(gradient, v)
            d_logits = weights * (d_weights - jnp.sum(weights * d_weights, axis=1, keepdims=True))
            if d_bias_ref is not None:
                d_bias_ref[head, block] += d_logits
            d_logits = d_logits.astype(q.dtype)
            dq_ref[0, block, lanes] = product(d_logits, k).astype(dq_ref.dtype)
            dk += product_of_transposed(d_logits, q)
            dv += product_of_transposed(weights.astype(gradient.dtype), gradient)
        dk_ref[0, :, lanes] = dk.astype(dk_ref.dtype)
        dv_ref[0, :, lanes] = kept(dv, keep_ref, head).astype(dv_ref.dtype)

    if d_bias_ref is not None:

        @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
        def _() -> None:
            for head in range(plan.group):
                d_distances_ref[head] = summed_along_diagonals(d_bias_ref, head, plan)


class Masks:
    """Tells which keys a block of queries sees: those of the query's own segment."""

    def __init__(self, query_segments: jax.Array, key_segments: jax.Array) -> None:
        """Takes the segments of one row, [1, T] and [1, S] int32."""
        self._of_queries, self._of_keys = column(query_segments), key_segments
        self._unseen = jnp.where(key_segments < 0, PADDED, MASKED)

    def apply(self, logits: jax.Array, block: slice) -> jax.Array:
        """Returns `logits` [block, S] float32 where the key is seen, and what stands for minus infinity elsewhere."""
        return jnp.where(self._of_queries[block] == self._of_keys, logits, self._unseen)


def softmax_parts(
    q: jax.Array, k: jax.Array, bias: jax.Array | None, masks: Masks, block: slice
) -> tuple[jax.Array, jax.Array]:
    """Returns exp(logit - largest) [block, S] and its sums [block, 1], float32, for q [block, K] and k [S, K]."""
    logits = product_with_transposed(q, k)
    if bias is not None:
        logits += bias
    logits = masks.apply(logits, block)
    exponentials = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    return exponentials, jnp.sum(exponentials, axis=1, keepdims=True)


def kept(v: jax.Array, keep_ref: Any, head: int) -> jax.Array:
    """Multiplies each key's values, [S, K], by its factor; without factors, returns them as they are."""
    return v if keep_ref is None else (v * column(keep_ref[0, head])).astype(v.dtype)


def column(row: jax.Array) -> jax.Array:
    """Transposes [1, N] to [N, 1]."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a b, [M, N] x [N, K] -> [M, K] float32."""
    return lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def product_with_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a bᵀ, [M, K] x [N, K] -> [M, N] float32."""
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def product_of_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns aᵀ b, [M, N] x [M, K] -> [N, K] float32."""
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


# --- the bias: from distances to a matrix and back -------------------------------------------------------------------


def spread_before_first_row(distances_ref: Any, bias_ref: Any, plan: Plan) -> None:
    """Writes the matrix of biases [group, T, S] of a group of heads, when its first row comes."""

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        for head in range(plan.group):
            for block in plan.blocks:
                size = block.stop - block.start
                # Row i of the matrix starts at index T-1-i: all rows at that of the block's first, then i further back.
                first = rotated(distances_ref[head], -(plan.queries - 1 - block.start))
                rows = shifted_by_row(jnp.broadcast_to(first, (size, plan.distances)), 1)
                bias_ref[head, block] = rows[:, : plan.keys]


def summed_along_diagonals(matrix_ref: Any, head: int, plan: Plan) -> jax.Array:
    """Returns [1, T+S] float32: the sum of one head's matrix [T, S] over all pairs of each distance."""
    total = jnp.zeros((1, plan.distances), jnp.float32)
    for block in plan.blocks:
        size = block.stop - block.start
        rows = jnp.concatenate([matrix_ref[head, block], jnp.zeros((size, plan.queries), jnp.float32)], axis=1)
        by_distance = jnp.sum(shifted_by_row(rows, -1), axis=0, keepdims=True)
        total += rotated(by_distance, plan.queries - 1 - block.start)
    return total


def shifted_by_row(x: jax.Array, step: int) -> jax.Array:
    """Rotates row i of `x` [M, N] by i·step columns to the right: for each power of 2 in i, all such rows at once."""
    row = lax.broadcasted_iota(jnp.int32, x.shape, 0)

    def shift_rows_with(bit: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.where((row >> bit) & 1 == 1, rotated(x, step * (1 << bit)), x)

    # A loop, because XLA on a CPU would fuse the turns and compute each of them anew for the next.
    shifted: jax.Array = lax.fori_loop(0, (x.shape[0] - 1).bit_length(), shift_rows_with, x)
    return shifted


def rotated(x: jax.Array, shift: int | jax.Array) -> jax.Array:
    """Rotates `x` [M, N] by `shift` columns to the right, -N < shift < N."""
    shift = jnp.int32(shift)
    return pltpu.roll(x, jnp.where(shift < 0, shift + x.shape[1], shift), 1)
