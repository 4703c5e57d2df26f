"""Defines what T5's layers are made of: a linear map, a norm, the feed-forward block, and dropout with a given key.

Flax's own `nnx.Linear` and `nnx.RMSNorm` do not fit: the first fixes its dtype when it is made, where here the dtype of
the activations is chosen at each call; the second multiplies in another order, which changes the last bits.
`nnx.Dropout` draws its keys from a state of its own, where here the step's key decides.

Dropout, the norm, the ReLU with dropout and the head's product have gradients written out by hand, which keep or
multiply less than those that JAX derives: docs/performance.md says how much.
"""

import functools

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
    return _drop(x, _kept(x, rate, key, broadcast_axis), rate)


def _kept(x: jax.Array, rate: float, key: jax.Array, broadcast_axis: int) -> jax.Array:
    """Draws which entries of `x` stay: bool, of its shape with 1 at `broadcast_axis`."""
    shape = list(x.shape)
    shape[broadcast_axis] = 1
    return jax.random.bernoulli(key, 1.0 - rate, tuple(shape))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _drop(x: jax.Array, keep: jax.Array, rate: float) -> jax.Array:
    """Divides `x` by 1 - rate where `keep`, which broadcasts against it, and is 0 elsewhere.

    The backward pass needs `keep` as it was drawn; the derived one would keep it spread over the shape of `x`.
    """
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


_drop.defvjp(
    lambda x, keep, rate: (_drop(x, keep, rate), keep),
    lambda rate, keep, gradient: (_drop(gradient, keep, rate), None),
)


def float32_product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Multiplies x [..., D] by a matrix [D, V] of the same float dtype, and returns the sums [..., V] float32.

    Rounded to bfloat16, logits near each other would be equal.
    """
    return x @ matrix if x.dtype == jnp.float32 else _unrounded_product(x, matrix)


@jax.custom_vjp
def _unrounded_product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Computes `float32_product`.

    The gradient is rounded to the factors' dtype before it is multiplied: the derived one would have products of
    float32, which accelerators take far longer for.
    """
    product: jax.Array = jnp.matmul(x, matrix, preferred_element_type=jnp.float32)
    return product


def _product_gradients(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `_unrounded_product` to both factors, in their dtype."""
    x, matrix = kept
    gradient = gradient.astype(x.dtype)
    return gradient @ matrix.T, jnp.einsum("...d,...v->dv", x, gradient)


_unrounded_product.defvjp(lambda x, matrix: (_unrounded_product(x, matrix), (x, matrix)), _product_gradients)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _relu_and_drop(x: jax.Array, keep: jax.Array, rate: float) -> jax.Array:
    """Computes `_drop(relu(x), keep, rate)`.

    The backward pass needs the result alone, which the product after it keeps anyway: an entry above 0 was above 0
    before, and was not dropped.
    """
    return _drop(jax.nn.relu(x), keep, rate)


def _relu_and_drop_forward(x: jax.Array, keep: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    """Returns the result, and what the backward pass needs: the result."""
    result = _relu_and_drop(x, keep, rate)
    return result, result


_relu_and_drop.defvjp(_relu_and_drop_forward, lambda rate, result, gradient: (_drop(gradient, result > 0, rate), None))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _normalised(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """Computes RMSNorm of `x` [..., D] with `scale` [D] float32, in float32 inside; shape and dtype are those of `x`.

    The backward pass needs `x`, and computes its root mean square again; the derived one would keep arrays of the shape
    of `x` in float32, twice the size of `x` in bfloat16.
    """
    n, _ = _normal_and_inverse(x, epsilon)
    return n.astype(x.dtype) * scale.astype(x.dtype)


def _normal_and_inverse(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """Returns `x` [..., D] over its root mean square, and 1 over that [..., 1], both float32."""
    x32 = x.astype(jnp.float32)
    inverse_rms = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + epsilon)
    return x32 * inverse_rms, inverse_rms


def _normalised_backward(
    epsilon: float, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `x` and `scale`.

    With n = x / rms and g the gradient of n, that of x is (g - n · mean(g · n)) / rms, the mean over D.
    """
    x, scale = kept
    n, inverse_rms = _normal_and_inverse(x, epsilon)
    by_position = gradient.astype(jnp.float32)
    of_scale = jnp.sum(by_position * n.astype(x.dtype).astype(jnp.float32), axis=tuple(range(x.ndim - 1)))
    g = by_position * scale.astype(x.dtype).astype(jnp.float32)
    of_x = (g - n * jnp.mean(g * n, axis=-1, keepdims=True)) * inverse_rms
    return of_x.astype(x.dtype), of_scale.astype(scale.dtype)


_normalised.defvjp(lambda x, scale, epsilon: (_normalised(x, scale, epsilon), (x, scale)), _normalised_backward)


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
        scale = self.scale[...]
        if x.dtype == jnp.float32:  # what the derived gradient keeps is no larger than `x`
            return _normal_and_inverse(x, self.epsilon)[0] * scale
        return _normalised(x, scale, self.epsilon)


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
        if self.gated:
            hidden = jax.nn.gelu(self.wi_0(x), approximate=True) * self.wi_1(x)
            return self.wo(dropout(hidden, self.rate, key, broadcast_axis=-2))
        hidden = self.wi(x)
        if key is None or self.rate == 0.0:
            return self.wo(jax.nn.relu(hidden))
        return self.wo(_relu_and_drop(hidden, _kept(hidden, self.rate, key, -2), self.rate))
