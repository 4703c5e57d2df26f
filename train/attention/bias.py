"""Holds a bias of attention that depends on the distance between a query and a key alone, as T5's does."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DistanceBias:
    """Holds one number for each head and each distance between a key and a query.

    `by_distance` is [H, T+S-1] float32: index n has the bias of a key that stands n - (T-1) positions after its query,
    where the T queries and the S keys are counted from the same place.
    """

    by_distance: jax.Array

    def matrix(self, queries: int, keys: int, dtype: jnp.dtype) -> jax.Array:
        """Returns the bias of each pair, [1, H, T, S] in `dtype`."""
        distance = jnp.arange(keys)[None, :] - jnp.arange(queries)[:, None]  # [T, S]
        return self.by_distance[None, :, distance + queries - 1].astype(dtype)
