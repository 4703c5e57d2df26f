"""The comparison of attention's ways on a GPU: what of it needs none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.attention.choice import GPU_KERNEL_JAX

if jax.__version_info__[:2] not in GPU_KERNEL_JAX:
    pytest.skip("Pallas' way to GPUs is not tested with this JAX", allow_module_level=True)

from bench import attention_on_gpu, gpu_page
from train.attention import DistanceBias


def test_a_gradient_of_pairs_is_summed_as_the_biass_own():
    by_distance = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7)), jnp.float32)
    pairs, backward = jax.vjp(lambda x: DistanceBias(x).matrix(3, 5, "float32"), by_distance)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=pairs.shape), jnp.float32)
    np.testing.assert_allclose(attention_on_gpu.by_distance(gradient), *backward(gradient), rtol=1e-5)


def test_what_the_compiler_says_becomes_a_table():
    said = {"temporaries": 2**30, "accessed": 2.5e9, "launches": 17, "kernels": None}
    kernels = {"keys_kernel": {"registers": 255, "spilled": 16}, "forward_kernel": {"registers": 184, "spilled": 0}}
    report = {"sides": {"plain": said, "kernel": said | {"kernels": kernels}}}
    assert attention_on_gpu.page_table({"h200": report}).splitlines()[2:] == [
        "| h200 | plain | 1,024 MiB | 2.5 GB | 17 |  |",
        "| h200 | kernel | 1,024 MiB | 2.5 GB | 17 | forward 184, keys 255 (16) |",
    ]


def test_a_train_step_that_does_not_fit_is_in_the_table():
    step = {"temporaries": 2**30, "memory": 2**31, "accessed": 2e9, "launches": 1234, "seconds": 61.0}
    rows = gpu_page.ROWS[:2]
    table = gpu_page.page_table(rows, [step, dict.fromkeys(step) | {"seconds": 9.0}])
    assert table.splitlines()[2:] == [
        "| base, plain, a loop | 1.0 GiB | 2% | 2 GB | 1,234 | 61 s |",
        "| base, plain, written out | more than there is |  |  |  | 9 s |",
    ]
    assert [row.file for row in rows] == ["base_plain_loop.json", "base_plain_unrolled.json"]
    assert {"train.attention=plain", "train.unroll=true"} <= set(rows[1].overrides)


@pytest.mark.slow  # the kernels' variants to compile for Pallas' interpreter
def test_the_comparison_runs_on_a_cpu():
    sides = attention_on_gpu.jitted(interpret=True)
    found = attention_on_gpu.measure(attention_on_gpu.Shape(1, 128, 2, 16), sides, 4, calls=1, turns=1)
    assert found["goal_ms"] == 0.7 and set(found["sides"]) == set(sides)
    for side in found["sides"].values():
        assert max(side["errors"].values()) < 1e-2 and side["forward_and_backward_ms"] > 0
