"""Attends in the way that `train.attention.choice` chooses: the one function of attention that the network calls."""

from typing import Literal

import jax
import jax.numpy as jnp

from train.attention import cudnn
from train.attention.bias import DistanceBias
from train.attention.choice import AS_MATRIX, BY_DISTANCE, CUDNN, KERNEL, NO_BIAS, ROW_BY_ROW, Call, choose_here, note
from train.attention.over_mesh import mesh_parts
from train.attention.plain import Segments, drop_keys, plain, row_by_row


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | DistanceBias | None = None,
    segments: Segments | None = None,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Attends with queries `q` [B, T, H, K] to keys `k` and values `v` [B, S, H, K]; returns [B, T, H, K].

    Logits and softmax are float32, the result has the dtype of `q`. `bias` is added to the logits:
    [B or 1, H or 1, T, S], or by distance. With `segments`, a query sees the keys of its own segment alone. With a
    random `key`, weights are dropped at `rate`, those of one of `k` for all queries of its row together, as T5X does.
    """
    rows, queries, heads, width = q.shape
    form = BY_DISTANCE if isinstance(bias, DistanceBias) else NO_BIAS if bias is None else AS_MATRIX
    call = described(rows, queries, k.shape[1], heads, width, q.dtype, form)
    choice = choose_here(call)
    note(call, choice)
    if choice.way == KERNEL:
        from train.attention import kernel  # Pallas takes a while to import

        by_distance = bias if isinstance(bias, DistanceBias) else None
        platform: Literal["tpu", "gpu"] = "gpu" if call.platform == "gpu" else "tpu"
        return kernel.attend(q, k, v, by_distance, segments, rate, key, platform, interpret=call.platform == "cpu")
    matrix = bias.matrix(queries, k.shape[1], q.dtype) if isinstance(bias, DistanceBias) else bias
    if key is not None and rate > 0.0:
        v = drop_keys(v, rate, key)
    way = {CUDNN: cudnn.attend, ROW_BY_ROW: row_by_row}.get(choice.way, plain)
    return way(q, k, v, matrix, segments)


def takes_distances(rows: int, length: int, heads: int, width: int, dtype: jnp.dtype) -> bool:
    """Tells whether self-attention over `length` positions would take its bias by distance, and not for each pair."""
    return choose_here(described(rows, length, length, heads, width, dtype, BY_DISTANCE)).way == KERNEL


def described(rows: int, queries: int, keys: int, heads: int, width: int, dtype: jnp.dtype, bias: str) -> Call:
    """Returns the description of a call on the mesh that is in use, or else on JAX's own devices."""
    kind, devices, row_parts, head_parts = mesh_parts()
    return Call(kind, devices, row_parts, head_parts, rows, queries, keys, heads, width, jnp.dtype(dtype).name, bias)
