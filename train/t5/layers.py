"""Defines what T5's layers are made of: a linear map, a norm, the feed-forward block, and dropout with a given key.

Flax's own `nnx.Linear` and `nnx.RMSNorm` do not fit: the first fixes its dtype when it is made, where here the dtype of
the activations is chosen at each call; the second multiplies in another order, which changes the last bits.
`nnx.Dropout` draws its keys from a state of its own, where here the step's key decides.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from conf.schema import Size


def dropout(x: jax.Array, rate: float, key: jax.Array | None, broadcast_axis: int) -> jax.Array:
    """Drops entries of `x` at `rate` and scales the others by 1 / (1 - rate); without a `key`, returns `x` as it is.

    One mask is used all along `broadcast_axis`, as T5X does along the length. Shape and float dtype stay.
    """
    if key is None or rate == 0.0:
        return x
    shape = list(x.shape)
    shape[broadcast_axis] = 1
    keep = jax.random.bernoulli(key, 1.0 - rate, tuple(shape))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def split_key(key: jax.Array | None, n: int) -> list[jax.Array | None]:
    """Returns `n` keys made from one, or `n` times None where there is no key."""
    return [None] * n if key is None else list(jax.random.split(key, n))


class Dense(nnx.Module):
    """Maps linearly without bias; `kernel` [in, out] is float32 and applied in the dtype of the input."""

    def __init__(self, n_in: int, n_out: int, *, stddev: float, rngs: nnx.Rngs):
        self.kernel = nnx.Param(stddev * jax.random.normal(rngs.params(), (n_in, n_out), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` [..., in] to [..., out] of the same dtype."""
        return x @ self.kernel[...].astype(x.dtype)


class RMSNorm(nnx.Module):
    """Divides by the root mean square over the last axis (in float32) and scales; no mean, no bias."""

    def __init__(self, d: int, epsilon: float):
        self.scale = nnx.Param(jnp.ones((d,), jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x` [..., D]; shape and dtype stay."""
        x32 = x.astype(jnp.float32)
        inverse_rms = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
        return (x32 * inverse_rms).astype(x.dtype) * self.scale[...].astype(x.dtype)


class FeedForward(nnx.Module):
    """Maps D -> F -> D with a ReLU between (1.0), or gated by GELU's tanh form (1.1)."""

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        d, f = size.d_model, size.d_ff
        self.gated = size.activation == "gated_gelu"
        if self.gated:
            self.wi_0 = Dense(d, f, stddev=d**-0.5, rngs=rngs)
            self.wi_1 = Dense(d, f, stddev=d**-0.5, rngs=rngs)
        else:
            self.wi = Dense(d, f, stddev=d**-0.5, rngs=rngs)
        self.wo = Dense(f, d, stddev=f**-0.5, rngs=rngs)
        self.rate = size.dropout

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Maps `x` [B, T, D] to [B, T, D]; with a `key`, drops hidden units."""
        hidden = jax.nn.gelu(self.wi_0(x), approximate=True) * self.wi_1(x) if self.gated else jax.nn.relu(self.wi(x))
        return self.wo(dropout(hidden, self.rate, key, broadcast_axis=-2))
