"""Attends by the project's own kernel: pads its arrays, divides them over a mesh, and draws which keys are dropped."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from train.attention.bias import DistanceBias
from train.attention.over_mesh import over_mesh
from train.attention.plain import Segments, kept_keys
from train.attention.tpu_kernel import LANES, Plan
from train.attention.tpu_kernel import attend as attend_padded

PADDING = -1  # the segment of what is there only to fill up the lanes
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
    interpret: bool,
) -> jax.Array:
    """Computes what `train.attention.attention` says, with the same keys dropped as in plain attention.

    With `interpret`, Pallas' interpreter runs the kernel, on any platform.
    """
    rows, queries, heads, _ = q.shape
    keys = k.shape[1]
    if segments is None:
        segments = jnp.zeros((rows, queries), jnp.int32), jnp.zeros((rows, keys), jnp.int32)
    more_queries, more_keys = -queries % LANES, -keys % LANES
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
        rows, queries, heads, width = arrays["q"].shape
        plan = Plan(rows, queries, arrays["k"].shape[1], heads, width, q.dtype.itemsize, interpret)
        # The projections' own form [B, T, H*K] -> [B, T, H, K] and back: XLA does nothing here.
        flat = {name: arrays[name].reshape(*arrays[name].shape[:2], heads * width) for name in ("q", "k", "v")}
        attended = attend_padded(
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

    return over_mesh(attend_own_part, arrays, AXES, AXES["q"], heads)[:, :queries]


def padded(x: jax.Array, more: int, value: int = 0) -> jax.Array:
    """Returns `x` [B, T, …] with `more` positions of `value` behind its own."""
    return x if more == 0 else jnp.pad(x, [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2), constant_values=value)


def program_bytes(rows: int, queries: int, keys: int, heads: int, width: int, dtype: jnp.dtype) -> int:
    """Returns the bytes of VMEM that one program of the kernel takes, where a device has such rows and heads."""
    queries, keys = (-(-n // LANES) * LANES for n in (queries, keys))
    return Plan(rows, queries, keys, heads, width, dtype.itemsize).vmem
