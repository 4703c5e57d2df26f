"""Attends by cuDNN's fused attention, which `jax.nn.dot_product_attention` calls, on NVIDIA GPUs from Ampere on.

cuDNN takes a bias but no segments, so both go into one array of the activations' dtype, [B, H, T, S]. Left alone, a
scan over layers would keep that array of each layer for the backward pass; here it is made again from the bias and the
segments, which is cheap.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from train.attention.over_mesh import over_mesh
from train.attention.plain import Segments

UNSEEN = -30_000.0  # a masked logit: its exponential is 0, and the difference of two is still exact enough for cuDNN
ADDED = "attention_added"
FIRST_CAPABILITY = (8, 0)  # of a GPU that cuDNN's fused attention runs on: Ampere's
AXES = {
    "q": ("rows", "queries", "heads", "width"),
    "k": ("rows", "keys", "heads", "width"),
    "v": ("rows", "keys", "heads", "width"),
    "query_segments": ("rows", "queries"),
    "key_segments": ("rows", "keys"),
}


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None,
    segments: Segments | None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Computes what `train.attention.plain` does, by cuDNN or another implementation of JAX's."""
    arrays = {"q": q, "k": k, "v": v}
    axes = dict(AXES)
    if segments is not None:
        arrays |= {"query_segments": segments[0], "key_segments": segments[1]}
    if bias is not None:
        arrays["bias"] = bias
        axes["bias"] = tuple(
            name if size > 1 else "one" for name, size in zip(("rows", "heads", "queries", "keys"), bias.shape)
        )
    return over_mesh(functools.partial(_attend, implementation=implementation), arrays, axes, AXES["q"], q.shape[2])


def _attend(arrays: Mapping[str, jax.Array], implementation: Literal["cudnn", "xla"]) -> jax.Array:
    """Attends on one device, which has all that its own rows and heads need."""

    @functools.partial(
        jax.checkpoint,
        prevent_cse=False,  # where layers are written out, all of them may share one array
        policy=jax.checkpoint_policies.save_anything_except_these_names(ADDED),
    )
    def attend_again(arrays: Mapping[str, jax.Array]) -> jax.Array:
        q, k, v = (arrays[name] for name in ("q", "k", "v"))
        added = added_to_logits(arrays)
        if added is not None:
            added = checkpoint_name(added, ADDED)
        return jax.nn.dot_product_attention(q, k, v, bias=added, scale=1.0, implementation=implementation)

    attended: jax.Array = attend_again(arrays)
    return attended


def added_to_logits(arrays: Mapping[str, jax.Array]) -> jax.Array | None:
    """Returns what is added to the logits, [B, H, T, S] in the dtype of `q`: the bias, and UNSEEN across segments.

    Without segments and bias there is nothing to add: None.
    """
    q, keys = arrays["q"], arrays["k"].shape[1]
    rows, queries, heads, _ = q.shape
    if "bias" not in arrays and "query_segments" not in arrays:
        return None
    added = jnp.maximum(arrays["bias"], UNSEEN) if "bias" in arrays else jnp.zeros((1, 1, 1, 1))
    if "query_segments" in arrays:
        same = arrays["query_segments"][:, None, :, None] == arrays["key_segments"][:, None, None, :]
        added = jnp.where(same, added, UNSEEN)
    return jnp.broadcast_to(added, (rows, heads, queries, keys)).astype(q.dtype)


@functools.lru_cache(maxsize=1024)
def library_obstacle(rows: int, queries: int, keys: int, heads: int, width: int, dtype: jnp.dtype) -> str:
    """Returns why cuDNN can't attend with these shapes, forward and backward; empty where it can.

    JAX itself checks the shapes, the dtype and cuDNN's version when the call is traced, so it is asked by tracing one.
    """
    capability = getattr(jax.devices()[0], "compute_capability", None)
    if capability is not None and tuple(map(int, str(capability).split("."))) < FIRST_CAPABILITY:
        return f"a GPU of compute capability {capability}, below {'.'.join(map(str, FIRST_CAPABILITY))}"
    q = jax.ShapeDtypeStruct((rows, queries, heads, width), dtype)
    k = jax.ShapeDtypeStruct((rows, keys, heads, width), dtype)
    bias = jax.ShapeDtypeStruct((rows, heads, queries, keys), dtype)

    def total(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v, bias=bias, scale=1.0, implementation="cudnn").sum()

    try:
        jax.eval_shape(jax.grad(total, argnums=(0, 1, 2, 3)), q, k, k, bias)
    except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
        return f"cuDNN: {error}"
    return ""
