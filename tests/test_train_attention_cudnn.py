"""What is handed to cuDNN, computed here by JAX's own implementation of the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import has_cuda
from train.attention import cudnn
from train.attention.plain import MASKED, plain

FLOAT32 = 1e-5  # the same sums in another order


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(3, n, 2, 8)), jnp.float32) for n in (6, 10, 10))
    bias = jnp.asarray(rng.normal(size=(1, 2, 6, 10)), jnp.float32)
    segments = jnp.asarray([[1, 1, 1, 2, 2, 0]] * 3), jnp.asarray([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0]] * 3)
    return q, k, v, bias, segments


def by_jax(*arguments):
    return cudnn.attend(*arguments, implementation="xla")


def test_bias_and_segments_do_what_they_do_in_plain_attention(arrays):
    q, k, v, bias, segments = arrays
    bias = bias.at[..., 3].set(MASKED)  # a key that comes after its query

    def gradients(way):
        return jax.grad(lambda q, k, v, bias: jnp.sum(way(q, k, v, bias, segments) ** 3), argnums=(0, 1, 2, 3))(
            q, k, v, bias
        )

    np.testing.assert_allclose(by_jax(q, k, v, bias, segments), plain(q, k, v, bias, segments), atol=FLOAT32)
    for found, expected in zip(gradients(by_jax), gradients(plain), strict=True):
        np.testing.assert_allclose(found, expected, atol=FLOAT32 * float(jnp.abs(expected).max()))


def test_neither_is_needed(arrays):
    q, k, v, _, segments = arrays
    np.testing.assert_allclose(by_jax(q, k, v, None, None), plain(q, k, v, None, None), atol=FLOAT32)
    np.testing.assert_allclose(by_jax(q, k, v, None, segments), plain(q, k, v, None, segments), atol=FLOAT32)


def test_what_is_added_to_the_logits_is_not_kept_for_the_backward_pass(arrays, capsys):
    """It is as large as the weights, which the fused attention does not keep either."""
    q, k, v, bias, segments = arrays
    jax.ad_checkpoint.print_saved_residuals(lambda q, bias: by_jax(q, k, v, bias, segments), q, bias)
    kept = capsys.readouterr().out
    assert kept and cudnn.ADDED not in kept


@pytest.mark.skipif(has_cuda(), reason="JAX has cuDNN here")
def test_without_cudnn_there_is_a_reason():
    assert cudnn.library_obstacle(1, 64, 64, 2, 64, jnp.dtype("bfloat16")).startswith("cuDNN: ")
