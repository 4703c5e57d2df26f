import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.schema import Mesh
from train.attention import attention, plain, row_by_row, segment_mask
from train.attention.choice import ROW_BYTES
from train.sharding import make_mesh, on_mesh

ROWS, HEADS, WIDTH = 3, 2, 8


def arrays(queries, keys, bias_rows):
    """q, k, v, bias, and segments of which each row has two and some padding."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(ROWS, n, HEADS, WIDTH)), jnp.float32) for n in (queries, keys, keys))
    bias = jnp.asarray(rng.normal(size=(bias_rows, HEADS, queries, keys)), jnp.float32)
    segments = tuple(
        jnp.asarray([[1] * (n // 3 + row) + [2] * (n // 3) + [0] * (n - 2 * (n // 3) - row) for row in range(ROWS)])
        for n in (queries, keys)
    )
    return q, k, v, bias, segments


FLOAT32 = 1e-5  # the same sums in another order


@pytest.mark.parametrize("bias_rows", [1, ROWS])
def test_row_by_row_is_all_rows_at_once(bias_rows):
    q, k, v, bias, segments = arrays(12, 15, bias_rows)

    def loss(way):
        return lambda q, k, v, bias: jnp.sum(way(q, k, v, bias, segments) ** 3)

    np.testing.assert_allclose(row_by_row(q, k, v, bias, segments), plain(q, k, v, bias, segments), atol=FLOAT32)
    found, expected = (jax.grad(loss(way), argnums=(0, 1, 2, 3))(q, k, v, bias) for way in (row_by_row, plain))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=FLOAT32 * float(jnp.abs(b).max()))


def test_neither_needs_a_bias_or_segments():
    q, k, v, _, _ = arrays(12, 15, 1)
    np.testing.assert_allclose(row_by_row(q, k, v, None, None), plain(q, k, v, None, None), atol=FLOAT32)


def test_dropped_keys_are_dropped_weights():
    """T5X drops weights, with one mask for all queries of a row: the mask is the same here, its place is not."""
    q, k, v, bias, segments = arrays(12, 15, 1)
    key, rate = jax.random.key(3), 0.4
    weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) + bias + segment_mask(*segments, jnp.float32))
    keep = jax.random.bernoulli(key, 1 - rate, (ROWS, HEADS, 1, 15))
    expected = jnp.einsum("bhts,bshk->bthk", jnp.where(keep, weights / (1 - rate), 0), v)
    np.testing.assert_allclose(attention(q, k, v, bias, segments, rate, key), expected, atol=FLOAT32)
    assert not np.allclose(attention(q, k, v, bias, segments, rate, None), expected, atol=0.1)


def temporaries(rows, queries):
    """Bytes between the inputs and outputs of the gradient on one CPU device, as the compiler counts them."""
    q = jax.ShapeDtypeStruct((rows, queries, HEADS, WIDTH), jnp.float32)
    bias = jax.ShapeDtypeStruct((1, HEADS, queries, queries), jnp.float32)
    gradient = jax.grad(lambda q, bias: jnp.sum(attention(q, q, q, bias) ** 2))
    mesh = make_mesh(Mesh(), jax.devices()[:1])
    return jax.jit(on_mesh(gradient, mesh)).lower(q, bias).compile().memory_analysis().temp_size_in_bytes


def test_on_a_cpu_long_rows_weights_are_never_held_together():
    queries = int(np.sqrt(ROW_BYTES / 4 / HEADS)) + 1
    all_weights = 4 * HEADS * queries**2  # of one more row
    assert temporaries(48, queries) - temporaries(16, queries) < 32 * all_weights / 4
    assert temporaries(48, queries // 2) - temporaries(16, queries // 2) > 32 * all_weights / 4  # short ones are
