"""Computes attention inside segments with a relative bias by Pallas kernels for NVIDIA GPUs, forward and backward.

Pallas hands these kernels to Triton, which compiles them. A program of a kernel has a block of queries or of keys of
one head and one row, and reads the other side block by block, so no weights are ever written to memory: a softmax is
summed up on the way, relative to the largest logit so far. The backward pass computes the weights again from the
logarithm of each query's sum, in three kernels: for the gradients of keys and values, for that of queries, and for that
of the bias. Each adds up its sums in a fixed order.

T5's bias depends on the distance between a key and a query alone, so the kernels read one number for each head and each
distance. The bias's gradient is added up in one small square for each distance between a block of keys and a block of
queries, and these squares are summed along their diagonals outside of the kernel. Neither [H, T, S] nor [B, H, T, S] is
ever written to memory.

A block of keys that no query of a block sees is not read: of a row with several segments most are left out.

Shape names as in `train.t5`. T and S, here, are multiples of `Plan.kept`: `train.attention.kernel` pads. On a CPU the
kernels run in Pallas' interpreter, which is slow and is for tests. No chip has run them yet; that they fit one is known
from compiling them ahead of time, which `python -m bench.attention_on_gpu --compile h200` does.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

UNSEEN = -1e30  # the logit of a key that a query does not see
LOG2_E = math.log2(math.e)  # the kernels' logits are multiplied by this: a GPU computes powers of 2
ROWS_OF_WARP = 16  # of a block that 32 threads have: as many as in a tensor core's product
MOST_GROUPS = 8  # of rows, for each of which the bias's gradient is added up by itself: more programs at a time

Gradients = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, None, None, None]
Ranges = tuple[Any, Any]  # [B, M] int32 each: the first block that each of M blocks sees, and one past the last
Residuals = tuple["Arrays", jax.Array, jax.Array, jax.Array]


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


class Arrays(NamedTuple):
    """Holds the arrays that all kernels read, and inside of a kernel the references to them."""

    q: Any  # [B, T, H, K]
    k: Any  # [B, S, H, K]
    v: Any  # [B, S, H, K]
    bias: Any  # [H, T+S] float32 by distance, times LOG2_E, or None
    query_segments: Any  # [B, T] int32
    key_segments: Any  # [B, S] int32
    unseen: Any  # [B, T] float32: the logit of a key that this query does not see
    keep: Any  # [B, H, S] float32, or None


class ResultArrays(NamedTuple):
    """Holds the arrays that the kernels of the backward pass read besides, or the references to them."""

    gradient: Any  # of the result, [B, T, H, K]
    log_sums: Any  # log2 of the sum of each query's powers of 2, [B, H, T] float32
    means: Any  # of the gradients of each query's weights, by these weights, [B, H, T] float32


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
    """Attends with queries `q` [B, T, H, K] to `k` and `v` [B, S, H, K]; returns [B, T, H, K] in their dtype.

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
    """Returns the result, and what the backward pass needs: inputs, visible blocks, result and logarithms of sums."""
    q, k, v, by_distance, query_segments, key_segments, keep, plan = arguments
    rows, queries, heads, _ = q.shape
    visible, unseen = visibility(query_segments, key_segments, plan.read)
    bias = None if by_distance is None else by_distance * LOG2_E
    arrays = Arrays(q, k, v, bias, query_segments, key_segments, unseen, keep)
    sums = jax.ShapeDtypeStruct((rows, heads, queries), jnp.float32)
    out, log_sums = call_kernel(
        forward_kernel,
        plan,
        plan.kept,
        plan.forward_stages,
        (queries // plan.kept, heads, rows),
        (arrays, ranges(coarser(visible, plan.kept // plan.read))),
        (as_shape(q), sums),
    )
    return out, (arrays, visible, out, log_sums)


def _backward(plan: Plan, residuals: Residuals, gradient: jax.Array) -> Gradients:
    """Returns the gradients of the arguments of `attend`."""
    arrays, visible, out, log_sums = residuals
    means = jnp.einsum("bthk,bthk->bht", gradient, out, preferred_element_type=jnp.float32)
    results = ResultArrays(gradient, log_sums, means)
    rows, queries, heads, _ = arrays.q.shape
    keys = arrays.k.shape[1]
    coarse = plan.kept // plan.read
    dk, dv = call_kernel(
        keys_kernel,
        plan,
        plan.kept,
        plan.backward_stages,
        (keys // plan.kept, heads, rows),
        (arrays, results, ranges(coarser(jnp.swapaxes(visible, 1, 2), coarse))),
        (as_shape(arrays.k), as_shape(arrays.v)),
    )
    [dq] = call_kernel(
        queries_kernel,
        plan,
        plan.kept,
        plan.backward_stages,
        (queries // plan.kept, heads, rows),
        (arrays, results, ranges(coarser(visible, coarse))),
        (as_shape(arrays.q),),
    )
    if arrays.bias is None:
        return dq, dk, dv, None, None, None, None
    size = plan.read
    groups, distances = math.gcd(rows, MOST_GROUPS), queries // size + keys // size - 1
    [blocks] = call_kernel(
        bias_kernel,
        plan,
        size,
        plan.backward_stages,
        (distances, heads, groups),
        (arrays, results, visible.astype(jnp.int32)),
        (jax.ShapeDtypeStruct((groups, heads, distances, size, size), jnp.float32),),
    )
    return dq, dk, dv, summed_along_diagonals(jnp.sum(blocks, axis=0)), None, None, None


_attend.defvjp(_forward, _backward)


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


# --- which blocks see which ------------------------------------------------------------------------------------------


def visibility(query_segments: jax.Array, key_segments: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Tells of segments [B, T] and [B, S] which blocks of `size` queries see something of which blocks of keys.

    Returns that, [B, T/size, S/size] bool, and the logit of a key that a query does not see, [B, T] float32: UNSEEN,
    or 0 where the query sees no key at all. Then all keys weigh the same, as in plain attention, and all are visible.
    """
    rows, queries = query_segments.shape
    key_blocks = key_segments.reshape(rows, 1, -1, size)  # [B, S] -> [B, 1, S/size, size]
    seen = jnp.any(query_segments[:, :, None, None] == key_blocks, axis=3)  # [B, T, S/size]
    sees_nothing = ~jnp.any(seen, axis=2) & (query_segments >= 0)  # [B, T]
    seen |= sees_nothing[:, :, None]
    visible = jnp.any(seen.reshape(rows, queries // size, size, -1), axis=2)  # [B, T/size, S/size]
    return visible, jnp.where(sees_nothing, 0.0, UNSEEN)


def coarser(visible: jax.Array, times: int) -> jax.Array:
    """Returns `visible` [B, M, N] for blocks so many times as large along M: [B, M/times, N]."""
    rows, m, n = visible.shape
    return jnp.any(visible.reshape(rows, m // times, times, n), axis=2)


def ranges(visible: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns of `visible` [B, M, N] the first n that each m sees, and one past the last, [B, M] int32 each.

    Where it sees none, both are 0.
    """
    end = visible.shape[2] - jnp.argmax(visible[:, :, ::-1], axis=2)
    end = jnp.where(jnp.any(visible, axis=2), end, 0)
    return jnp.argmax(visible, axis=2).astype(jnp.int32), end.astype(jnp.int32)


# --- the kernels -----------------------------------------------------------------------------------------------------


def forward_kernel(arrays: Arrays, range_refs: Ranges, out_ref: Any, log_sums_ref: Any, *, plan: Plan) -> None:
    """Computes the result of a block of queries, and the logarithms of their sums."""
    i, head, row = (pl.program_id(axis) for axis in range(3))
    own = block(i, plan.kept)
    queries = Queries.load(arrays, row, head, own)

    def add_keys(j: jax.Array, sums: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        attended, largest, total = sums
        keys = Keys.load(arrays, row, head, block(j, plan.read))
        x = logits(queries, keys, bias_block(arrays, head, own, block(j, plan.read)), plan)
        new_largest = jnp.maximum(largest, jnp.max(x, axis=1))
        rescale = jnp.exp2(largest - new_largest)
        powers = exp2(x - new_largest[:, None], plan)
        total = total * rescale + jnp.sum(powers, axis=1)
        if keys.keep is not None:
            powers *= keys.keep[None, :]
        weighted = product(powers.astype(keys.v.dtype), keys.v)
        return attended * rescale[:, None] + weighted, new_largest, total

    start = (
        jnp.zeros(queries.q.shape, jnp.float32),
        jnp.full((plan.kept,), UNSEEN, jnp.float32),
        jnp.zeros((plan.kept,), jnp.float32),
    )
    attended, largest, total = lax.fori_loop(*bounds(range_refs, row, i), add_keys, start)
    triton.store(out_ref.at[row, own, head, :], (attended / total[:, None]).astype(out_ref.dtype))
    triton.store(log_sums_ref.at[row, head, own], largest + jnp.log2(total))


def keys_kernel(
    arrays: Arrays, results: ResultArrays, range_refs: Ranges, dk_ref: Any, dv_ref: Any, *, plan: Plan
) -> None:
    """Computes the gradients of a block of keys and of their values."""
    j, head, row = (pl.program_id(axis) for axis in range(3))
    own = block(j, plan.kept)
    keys = Keys.load(arrays, row, head, own)

    def add_queries(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        dk, dv = sums
        other = block(i, plan.read)
        queries, result = Queries.load(arrays, row, head, other), Result.load(results, row, head, other)
        bias = bias_block(arrays, head, other, own, keys_first=True)
        weights = weights_again(queries, keys, result, bias, plan, keys_first=True)
        dv += product(weights.astype(result.gradient.dtype), result.gradient)
        d_logits = logit_gradients(weights, keys, result, keys_first=True)
        dk += product(d_logits.astype(queries.q.dtype), queries.q)
        return dk, dv

    zeros = jnp.zeros(keys.k.shape, jnp.float32)
    dk, dv = lax.fori_loop(*bounds(range_refs, row, j), add_queries, (zeros, zeros))
    if keys.keep is not None:
        dv *= keys.keep[:, None]
    triton.store(dk_ref.at[row, own, head, :], dk.astype(dk_ref.dtype))
    triton.store(dv_ref.at[row, own, head, :], dv.astype(dv_ref.dtype))


def queries_kernel(arrays: Arrays, results: ResultArrays, range_refs: Ranges, dq_ref: Any, *, plan: Plan) -> None:
    """Computes the gradient of a block of queries."""
    i, head, row = (pl.program_id(axis) for axis in range(3))
    own = block(i, plan.kept)
    queries, result = Queries.load(arrays, row, head, own), Result.load(results, row, head, own)

    def add_keys(j: jax.Array, dq: jax.Array) -> jax.Array:
        other = block(j, plan.read)
        keys = Keys.load(arrays, row, head, other)
        weights = weights_again(queries, keys, result, bias_block(arrays, head, own, other), plan)
        d_logits = logit_gradients(weights, keys, result)
        return dq + product(d_logits.astype(keys.k.dtype), keys.k)

    dq = lax.fori_loop(*bounds(range_refs, row, i), add_keys, jnp.zeros(queries.q.shape, jnp.float32))
    triton.store(dq_ref.at[row, own, head, :], dq.astype(dq_ref.dtype))


def bias_kernel(arrays: Arrays, results: ResultArrays, visible_ref: Any, blocks_ref: Any, *, plan: Plan) -> None:
    """Adds up the gradient of the logits over a group of rows and all pairs of blocks of one distance.

    `visible_ref` is [B, M, N] int32 and says which of M blocks of queries see something of which of N blocks of keys.
    """
    n, head, group = (pl.program_id(axis) for axis in range(3))
    rows, query_blocks, key_blocks = visible_ref.shape
    rows //= pl.num_programs(2)
    size = plan.read
    distance = n - (query_blocks - 1)  # of a block of keys from a block of queries, in blocks
    first, end = jnp.maximum(0, -distance), jnp.minimum(query_blocks, key_blocks - distance)
    bias = bias_block(arrays, head, block(first, size), block(first + distance, size))

    def add_row(row: jax.Array, total: jax.Array) -> jax.Array:
        def add_block(i: jax.Array, total: jax.Array) -> jax.Array:
            def visible_block() -> jax.Array:
                of_queries, of_keys = block(i, size), block(i + distance, size)
                queries, keys = Queries.load(arrays, row, head, of_queries), Keys.load(arrays, row, head, of_keys)
                result = Result.load(results, row, head, of_queries)
                weights = weights_again(queries, keys, result, bias, plan)
                return total + logit_gradients(weights, keys, result)

            visible = triton.load(visible_ref.at[row, i, i + distance]) != 0
            added: jax.Array = lax.cond(visible, visible_block, lambda: total)
            return added

        added: jax.Array = lax.fori_loop(first, end, add_block, total)
        return added

    total = lax.fori_loop(group * rows, (group + 1) * rows, add_row, jnp.zeros((size, size), jnp.float32))
    triton.store(blocks_ref.at[group, head, n], total)


# --- what the kernels share ------------------------------------------------------------------------------------------


class Queries(NamedTuple):
    """Holds what a program has read of a block of N queries, of one row and head."""

    q: jax.Array  # [N, K]
    segments: jax.Array  # [N]
    unseen: jax.Array  # [N]

    @classmethod
    def load(cls, arrays: Arrays, row: jax.Array, head: jax.Array, positions: pl.Slice) -> "Queries":
        """Reads the block that stands at `positions`."""
        return cls(
            triton.load(arrays.q.at[row, positions, head, :]),
            triton.load(arrays.query_segments.at[row, positions]),
            triton.load(arrays.unseen.at[row, positions]),
        )


class Keys(NamedTuple):
    """Holds what a program has read of a block of N keys, of one row and head."""

    k: jax.Array  # [N, K]
    v: jax.Array  # [N, K]
    segments: jax.Array  # [N]
    keep: jax.Array | None  # [N]

    @classmethod
    def load(cls, arrays: Arrays, row: jax.Array, head: jax.Array, positions: pl.Slice) -> "Keys":
        """Reads the block that stands at `positions`."""
        return cls(
            triton.load(arrays.k.at[row, positions, head, :]),
            triton.load(arrays.v.at[row, positions, head, :]),
            triton.load(arrays.key_segments.at[row, positions]),
            None if arrays.keep is None else triton.load(arrays.keep.at[row, head, positions]),
        )


class Result(NamedTuple):
    """Holds what a program of the backward pass has read of the results of a block of N queries."""

    gradient: jax.Array  # [N, K]
    log_sums: jax.Array  # [N]
    means: jax.Array  # [N]

    @classmethod
    def load(cls, results: ResultArrays, row: jax.Array, head: jax.Array, positions: pl.Slice) -> "Result":
        """Reads the block that stands at `positions`."""
        return cls(
            triton.load(results.gradient.at[row, positions, head, :]),
            triton.load(results.log_sums.at[row, head, positions]),
            triton.load(results.means.at[row, head, positions]),
        )


def block(n: jax.Array, size: int) -> pl.Slice:
    """Returns the positions of block `n`."""
    return pl.Slice(n * size, size)


def bounds(range_refs: Ranges, row: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Reads the first block that block `n` of a row sees, and one past the last."""
    first, end = (triton.load(ref.at[row, n]) for ref in range_refs)
    return first, end


def bias_block(
    arrays: Arrays, head: jax.Array, queries: pl.Slice, keys: pl.Slice, keys_first: bool = False
) -> jax.Array | None:
    """Reads the bias of a block of queries and a block of keys, [M, N] or, with `keys_first`, [N, M].

    Returns None where there is no bias.
    """
    if arrays.bias is None:
        return None
    query = across(jnp.arange(queries.size), 1 - keys_first)
    key = across(jnp.arange(keys.size), keys_first)
    bias: jax.Array = triton.load(
        arrays.bias.at[head, keys.start - queries.start + arrays.q.shape[1] - 1 + key - query]
    )
    return bias


def across(x: jax.Array, axis: int) -> jax.Array:
    """Returns `x` [N] as [N, 1] or [1, N]: one number for all along `axis`."""
    return jnp.expand_dims(x, axis)


def logits(queries: Queries, keys: Keys, bias: jax.Array | None, plan: Plan, keys_first: bool = False) -> jax.Array:
    """Returns the logits float32 of M queries and N keys, times LOG2_E: [M, N] or, with `keys_first`, [N, M]."""
    x = product(keys.k, queries.q.T) if keys_first else product(queries.q, keys.k.T)
    x *= LOG2_E
    if bias is not None:
        x += bias
    key_segments = across(keys.segments, keys_first)
    unseen = across(queries.unseen, 1 - keys_first)
    if plan.pads_keys:
        unseen = jnp.where(key_segments < 0, UNSEEN, unseen)
    return jnp.where(across(queries.segments, 1 - keys_first) == key_segments, x, unseen)


def weights_again(
    queries: Queries, keys: Keys, result: Result, bias: jax.Array | None, plan: Plan, keys_first: bool = False
) -> jax.Array:
    """Returns the weights of M queries for N keys float32: [M, N] or, with `keys_first`, [N, M]."""
    x = logits(queries, keys, bias, plan, keys_first)
    return exp2(x - across(result.log_sums, 1 - keys_first), plan)


def logit_gradients(weights: jax.Array, keys: Keys, result: Result, keys_first: bool = False) -> jax.Array:
    """Returns the gradient of the logits that `weights` come from, not times LOG2_E: float32, of the same shape."""
    d_weights = product(keys.v, result.gradient.T) if keys_first else product(result.gradient, keys.v.T)
    if keys.keep is not None:
        d_weights *= across(keys.keep, keys_first)
    return weights * (d_weights - across(result.means, 1 - keys_first))


def exp2(x: jax.Array, plan: Plan) -> jax.Array:
    """Returns 2 to the power of `x`, and 0 where that is below the least normal number of float32.

    Numbers below that one would take a GPU three operations more for each power.
    """
    if plan.interpret:
        return jnp.exp2(x)
    [powers] = triton.elementwise_inline_asm(
        "ex2.approx.ftz.f32 $0, $1;",
        args=[x],
        constraints="=f,f",
        pack=1,
        result_shape_dtypes=[as_shape(x)],
    )
    return jnp.asarray(powers)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a b, [M, N] x [N, K] -> [M, K] float32."""
    multiplied: jax.Array = triton.dot(a, b, precision=lax.Precision.HIGHEST)
    return multiplied


def summed_along_diagonals(blocks: jax.Array) -> jax.Array:
    """Returns [H, T+S] float32: the sum over all pairs of each distance, in the order in which `attend` has them.

    Entry [h, n, r, c] of `blocks` [H, T/M + S/M - 1, M, M] has the distance (n - (T/M - 1)) · M + c - r.
    """
    heads, n, size, _ = blocks.shape
    # Rows of 2·M numbers, read as if they had one less, shift row i by i. They start from the last row of a block.
    rows = jnp.pad(blocks[:, :, ::-1], ((0, 0), (0, 0), (0, 0), (0, size))).reshape(heads, n, 2 * size**2)
    shifted = rows[:, :, :-size].reshape(heads, n, size, 2 * size - 1)
    by_distance = jnp.pad(jnp.sum(shifted, axis=2), ((0, 0), (0, 0), (0, 1)))  # [H, N, 2·M]
    # The later half of what one block has is of the same distances as the earlier half of the next one's.
    earlier, later = (by_distance[:, :, half : half + size].reshape(heads, n * size) for half in (0, size))
    return jnp.pad(earlier, ((0, 0), (0, size))) + jnp.pad(later, ((0, 0), (size, 0)))
