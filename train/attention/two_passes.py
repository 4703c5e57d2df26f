"""Joins a kernel's forward and backward pass to one function that JAX can differentiate."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax


class Attend(Protocol):
    """Describes attention by a kernel, whose `plan` says how to compute it."""

    def __call__(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        by_distance: jax.Array | None,
        query_segments: jax.Array,
        key_segments: jax.Array,
        keep: jax.Array | None,
        plan: Any,
    ) -> jax.Array:
        """Attends with queries `q` to `k` and `v`; returns an array like `q`.

        They are [B, T, H, K] and [B, S, H, K] on a GPU, [B, T, H*K] and [B, S, H*K] on a TPU.

        `by_distance` [H, T+S] float32 holds at index n the bias of a key that is n - (T-1) after its query; the last
        number is not used. Segments are [B, T] and [B, S] int32; a key whose segment is below 0 does not count. `keep`
        [B, H, S] float32 multiplies the values of each key: 0 or 1/(1 - rate). Gradients go to q, k, v and
        `by_distance`.
        """


def joined(forward_pass: Callable[..., tuple[jax.Array, Any]], backward_pass: Callable[..., tuple[Any, ...]]) -> Attend:
    """Returns attention whose gradients are those of `backward_pass`, from what `forward_pass` keeps for it."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(7,))  # the plan
    def attend(*arguments: Any) -> jax.Array:
        return forward_pass(*arguments)[0]

    attend.defvjp(forward_pass, backward_pass)
    result: Attend = attend
    return result
