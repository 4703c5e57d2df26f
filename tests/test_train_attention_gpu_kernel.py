"""What surrounds the kernels for GPUs: which blocks see which, and the sums along diagonals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.attention.choice import GPU_KERNEL_JAX

if jax.__version_info__[:2] not in GPU_KERNEL_JAX:
    pytest.skip("Pallas' way to GPUs is not tested with this JAX", allow_module_level=True)

from train.attention import kernel
from train.attention.gpu_kernel.backward import summed_along_diagonals
from train.attention.gpu_kernel.visible_blocks import UNSEEN, coarser, ranges, visibility
from train.attention.plain import plain


def test_blocks_see_those_that_share_a_segment():
    segments = jnp.asarray([[1, 1, 2, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    visible, unseen = visibility(segments, segments, 2)
    apart = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(visible, np.array([apart, np.ones((4, 4))], bool))
    np.testing.assert_array_equal(unseen, np.full((2, 8), UNSEEN, np.float32))
    first, end = ranges(visible)
    assert first.tolist() == [[0, 1, 1, 3], [0] * 4] and end.tolist() == [[1, 3, 3, 4], [4] * 4]
    first, end = ranges(coarser(visible, 2))
    assert first.tolist() == [[0, 1], [0, 0]] and end.tolist() == [[3, 4], [4, 4]]


def test_a_query_that_sees_no_key_sees_all_blocks_and_padding_sees_none():
    queries, keys = jnp.asarray([[3, 1, -1, -1]]), jnp.asarray([[1, 1, 2, 2]])
    visible, unseen = visibility(queries, keys, 2)
    assert visible.tolist() == [[[True, True], [False, False]]]
    assert unseen.tolist() == [[0.0, *[np.float32(UNSEEN)] * 3]]
    assert [x.tolist() for x in ranges(visible)] == [[[0, 0]], [[2, 0]]]


@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (4, 8), (8, 2)])
def test_squares_are_summed_along_diagonals(queries, keys):
    size, rng = 2, np.random.default_rng(0)
    squares = rng.normal(size=(3, queries // size + keys // size - 1, size, size))
    expected = np.zeros((3, queries + keys))
    for n in range(squares.shape[1]):
        for r in range(size):
            for c in range(size):
                distance = (n - (queries // size - 1)) * size + c - r
                expected[:, distance + queries - 1] += squares[:, n, r, c]
    np.testing.assert_allclose(summed_along_diagonals(jnp.asarray(squares)), expected, atol=1e-6)


def test_gradients_of_queries_that_see_no_key_are_plain_attentions():
    rng = np.random.default_rng(0)
    sizes = ((130, 0.3), (70, 0.5), (70, 1))
    q, k, v = (jnp.asarray(scale * rng.normal(size=(1, n, 1, 16)), jnp.float32) for n, scale in sizes)
    # of the queries the first 40 and the last 10 have no key, and of the keys none is without a query
    segments = jnp.arange(130)[None] // 40, jnp.arange(70)[None] // 40 + 1

    def gradients(way):
        return jax.jit(jax.grad(lambda q, k, v: jnp.sum(way(q, k, v) ** 2), argnums=(0, 1, 2)))(q, k, v)

    found = gradients(lambda q, k, v: kernel.attend(q, k, v, None, segments, 0.0, None, "gpu", interpret=True))
    for ours, theirs in zip(found, gradients(lambda q, k, v: plain(q, k, v, None, segments)), strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)
