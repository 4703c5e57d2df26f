"""Attends by the project's own kernels: pads their arrays, divides them over a mesh, and draws which keys are dropped.

`train.attention.tpu_kernel` has the kernel for TPUs, `train.attention.gpu_kernel` the one for NVIDIA GPUs.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from train.attention.bias import DistanceBias
from train.attention.over_mesh import over_mesh
from train.attention.plain import Segments, kept_keys

MULTIPLE = 128  # of which both kernels want the numbers of queries and keys: a TPU's lanes, and a block on a GPU
PADDING = -1  # the segment of what is there only to fill up the last block
AXES = {
    "q": ("rows", "queries", "heads", "width"),
    "k": ("rows", "keys", "heads", "width"),
    "v": ("rows", "keys", "heads", "width"),
    "by_distance": ("heads", "distances"),
    "query_segments": ("rows", "queries"),
    "key_segments": ("rows", "keys"),
    "keep": ("rows", "heads", "keys"),
}


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: DistanceBias | None,
    segments: Segments | None,
    rate: float,
    key: jax.Array | None,
    platform: Literal["tpu", "gpu"],
    interpret: bool,
) -> jax.Array:
    """Computes what `train.attention.attention` says, with the same keys dropped as in plain attention.

    The kernel is the one for `platform`. With `interpret`, Pallas' interpreter runs it, on any platform.
    """
    rows, queries, heads, _ = q.shape
    keys = k.shape[1]
    if segments is None:
        segments = jnp.zeros((rows, queries), jnp.int32), jnp.zeros((rows, keys), jnp.int32)
    more_queries, more_keys = -queries % MULTIPLE, -keys % MULTIPLE
    arrays = {
        "q": padded(q, more_queries),
        "k": padded(k, more_keys),
        "v": padded(v, more_keys),
        "query_segments": padded(segments[0], more_queries, PADDING),
        "key_segments": padded(segments[1], more_keys, PADDING),
    }
    if bias is not None:  # distance 0 moves from index T-1 to that of the padded T
        arrays["by_distance"] = jnp.pad(bias.by_distance, ((0, 0), (more_queries, more_keys + 1)))
    if key is not None and rate > 0.0:
        keep = kept_keys(rate, key, rows, heads, keys)[:, :, 0].astype(jnp.float32) / (1.0 - rate)  # [B, H, S]
        arrays["keep"] = jnp.pad(keep, ((0, 0), (0, 0), (0, more_keys)))

    def attend_own_part(arrays: Mapping[str, jax.Array]) -> jax.Array:
        if platform == "gpu":
            return attend_on_gpu(arrays, pads_keys=more_keys > 0, interpret=interpret)
        return attend_on_tpu(arrays, interpret)

    return over_mesh(attend_own_part, arrays, AXES, AXES["q"], heads)[:, :queries]


def attend_on_tpu(arrays: Mapping[str, jax.Array], interpret: bool) -> jax.Array:
    """Calls the kernel for TPUs with arrays by the names of AXES: the padded ones of one device."""
    from train.attention import tpu_kernel

    rows, queries, heads, width = arrays["q"].shape
    plan = tpu_kernel.Plan(rows, queries, arrays["k"].shape[1], heads, width, arrays["q"].dtype.itemsize, interpret)
    # The projections' own form [B, T, H*K] -> [B, T, H, K] and back: XLA does nothing here.
    flat = {name: arrays[name].reshape(*arrays[name].shape[:2], heads * width) for name in ("q", "k", "v")}
    attended = tpu_kernel.attend(
        flat["q"],
        flat["k"],
        flat["v"],
        arrays.get("by_distance"),
        arrays["query_segments"],
        arrays["key_segments"],
        arrays.get("keep"),
        plan,
    )
    return attended.reshape(arrays["q"].shape)


def attend_on_gpu(arrays: Mapping[str, jax.Array], pads_keys: bool, interpret: bool) -> jax.Array:
    """Calls the kernels for NVIDIA GPUs with arrays by the names of AXES: the padded ones of one device."""
    from train.attention import gpu_kernel  # not with every version of JAX: `train.attention.choice` knows with which

    return gpu_kernel.attend(
        arrays["q"],
        arrays["k"],
        arrays["v"],
        arrays.get("by_distance"),
        arrays["query_segments"],
        arrays["key_segments"],
        arrays.get("keep"),
        gpu_kernel.Plan(pads_keys, interpret),
    )


def padded(x: jax.Array, more: int, value: int = 0) -> jax.Array:
    """Returns `x` [B, T, …] with `more` positions of `value` behind its own."""
    return x if more == 0 else jnp.pad(x, [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2), constant_values=value)


def program_bytes(rows: int, queries: int, keys: int, heads: int, width: int, dtype: jnp.dtype) -> int:
    """Returns the bytes of VMEM that a program of the kernel for TPUs takes, where a device has such rows and heads."""
    from train.attention.tpu_kernel import Plan

    queries, keys = (-(-n // MULTIPLE) * MULTIPLE for n in (queries, keys))
    return Plan(rows, queries, keys, heads, width, dtype.itemsize).vmem
