"""The gradients that are written out by hand: right, and with less kept for the backward pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from conf.schema import Size
from train import t5
from train.t5.layers import FeedForward, RMSNorm, float32_product

SIZE = Size(name="tiny", d_model=16, d_kv=8, d_ff=64, layers=1, heads=2, vocabulary_size=40, dropout=0.25)
KEY = jax.random.key(3)


def random(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


def kept_bytes(function, *arguments):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(jax.vjp(function, *arguments)[1]))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_norm_s_gradients_are_those_that_jax_derives(dtype):
    graph, state = nnx.split(RMSNorm(16, 1e-6))
    x, scale, gradient = random(3, 5, 16, dtype=dtype), 1 + random(16) / 4, random(5, 16, dtype=dtype)

    def ours(x, scale):
        nnx.replace_by_pure_dict(state, {"scale": scale})
        return nnx.merge(graph, state)(x)

    def derived(x, scale):
        x = x.astype(jnp.float32)
        return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale

    result, backward = jax.vjp(ours, x, scale)
    want, backward_derived = jax.vjp(derived, x, scale)
    assert result.dtype == dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == jnp.float32 else {"rtol": 0.03, "atol": 0.03}  # 8 bits
    np.testing.assert_allclose(result.astype(jnp.float32), want, **tolerance)
    gradient = jnp.broadcast_to(gradient, x.shape)
    for got, expected in zip(backward(gradient), backward_derived(gradient.astype(jnp.float32)), strict=True):
        np.testing.assert_allclose(got.astype(jnp.float32), expected.astype(jnp.float32), **tolerance)


def test_the_norm_keeps_its_input_alone_in_bfloat16():
    norm, x = RMSNorm(16, 1e-6), random(3, 5, 16, dtype=jnp.bfloat16)
    assert kept_bytes(norm, x) <= x.nbytes + 2 * 16 * 4  # and the scale


def test_relu_and_dropout_have_the_gradient_of_one_after_the_other():
    layer, x = FeedForward(SIZE, rngs=nnx.Rngs(params=0)), random(3, 5, 16)
    keep = jax.random.bernoulli(KEY, 0.75, (3, 1, 64))

    def derived(x):
        return layer.wo(jnp.where(keep, jax.nn.relu(layer.wi(x)) / 0.75, 0))

    for one in (lambda f: f(x), lambda f: jax.vjp(f, x)[1](jnp.ones_like(x))[0]):
        np.testing.assert_allclose(one(lambda x: layer(x, KEY)), one(derived), rtol=1e-5, atol=1e-6)  # float32 rounding
    assert kept_bytes(lambda x: layer(x, KEY), x) < kept_bytes(derived, x)


def test_dropout_keeps_its_mask_as_it_was_drawn():
    x = random(3, 50, 16)
    dropped, backward = jax.vjp(lambda x: t5.dropout(x, 0.25, KEY, broadcast_axis=-2), x)
    np.testing.assert_array_equal(backward(jnp.ones_like(x))[0], np.where(dropped == 0, 0, np.float32(1) / 0.75))
    assert kept_bytes(lambda x: t5.dropout(x, 0.25, KEY, broadcast_axis=-2), x) <= 3 * 16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_head_s_product_is_float32_and_its_gradients_are_of_the_factors(dtype):
    x, matrix = random(3, 5, 64).astype(dtype), random(64, 40).astype(dtype)
    product, backward = jax.vjp(float32_product, x, matrix)
    exact = np.asarray(x, np.float64) @ np.asarray(matrix, np.float64)
    assert product.dtype == jnp.float32
    np.testing.assert_allclose(product, exact, rtol=1e-5, atol=1e-5)  # sums of 64 in float32
    if dtype == "bfloat16":
        assert np.abs(np.asarray(x @ matrix, np.float64) - exact).max() > 100 * np.abs(product - exact).max()
    derived = jax.vjp(lambda x, matrix: (x @ matrix).astype(jnp.float32), x, matrix)[1]
    for own, other in zip(backward(product), derived(product), strict=True):
        assert own.dtype == jnp.dtype(dtype)
        np.testing.assert_allclose(np.float32(own), np.float32(other), rtol=1e-2 if dtype == "bfloat16" else 1e-5)


def test_a_scaled_head_s_logits_keep_their_size_in_bfloat16():
    size = dataclasses.replace(SIZE, d_model=48, tied_head=True, scaled_head=True)  # 48 ** -0.5 is no bfloat16 number
    model, hidden = t5.model(size, t5.init_params(size, jax.random.key(0))), random(4, 30, 48).astype("bfloat16")
    head = np.asarray(model.embedding[...].astype("bfloat16"), np.float64).T
    exact, found = np.asarray(hidden, np.float64) @ head * 48**-0.5, np.asarray(model.logits(hidden), np.float64)
    assert (found * exact).sum() / (exact * exact).sum() == pytest.approx(1, abs=2e-4)


def test_parameters_are_cast_once_and_the_head_where_it_is_wanted():
    params = t5.init_params(SIZE, jax.random.key(0))
    assert t5.cast(params, "float32") == params
    lighter = t5.cast(params, "bfloat16", head=False)
    dtypes = {jax.tree_util.keystr(path): leaf.dtype for path, leaf in jax.tree_util.tree_leaves_with_path(lighter)}
    assert dtypes.pop("['embedding']") == jnp.float32
    assert set(dtypes.values()) == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(t5.cast(params, "bfloat16"))} == {jnp.dtype(jnp.bfloat16)}
