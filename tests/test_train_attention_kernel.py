"""The project's own kernels, in Pallas' interpreter, against plain attention: results and every gradient."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.schema import Mesh, Size
from tests.support import REPO
from tests.training import config_in, train_here
from tracking.store import Store
from train import t5
from train.attention import DistanceBias, asking, kernel
from train.attention.choice import GPU_KERNEL_JAX
from train.attention.plain import drop_keys, plain
from train.attention.tpu_kernel import Plan
from train.identity import train_run_id
from train.sharding import make_mesh
from train.step import StepConfig, compile_train_step

PLATFORMS = ["tpu"] + ["gpu"] * (jax.__version_info__[:2] in GPU_KERNEL_JAX)
FLOAT32, BFLOAT16 = 1e-6, 5e-3  # of the whole array's norm: sums in another order, and what bfloat16 rounds


def arrays(queries, keys, heads, width, dtype, segments):
    """q, k, v, a gradient, and rows of `segments` segments with padding of their own."""
    rng = np.random.default_rng(0)
    scales = ((queries, 0.3), (keys, 0.5), (keys, 1), (queries, 1))
    q, k, v, gradient = (jnp.asarray(s * rng.normal(size=(2, n, heads, width)), dtype) for n, s in scales)

    def of_rows(n):
        used = n - np.array([[n // 5], [1]])  # the rest is padding
        return jnp.asarray(np.where(np.arange(n) < used, 1 + np.arange(n) * segments // used, 0), jnp.int32)

    return q, k, v, gradient, (of_rows(queries), of_rows(keys))


def distance_bias(queries, keys, heads, causal):
    rng = np.random.default_rng(1)
    bias = rng.normal(size=(heads, queries + keys - 1))
    if causal:
        bias[:, queries:] = -1e10
    return jnp.asarray(bias, jnp.float32)


CASES = {  # queries, keys, heads, width, dtype, segments, causal, dropout
    "many segments, dropout": (128, 128, 2, 64, "float32", 3, False, True),
    "causal, of odd length": (37, 37, 4, 8, "float32", 1, True, False),
    "more queries than a block, other keys": (256, 130, 1, 128, "float32", 2, False, True),
    "bfloat16, of odd length": (141, 141, 2, 32, "bfloat16", 4, False, True),
    "bfloat16, causal": (128, 128, 1, 64, "bfloat16", 2, True, True),
    "padded queries alone": (141, 128, 1, 16, "float32", 2, False, False),
    "many blocks, bfloat16": (640, 512, 2, 64, "bfloat16", 5, False, True),
}
QUICK = {
    "tpu": list(CASES)[:5],
    "gpu": ["many segments, dropout", "causal, of odd length", "bfloat16, of odd length"],
}


@pytest.mark.parametrize(
    ("platform", "case"),
    [
        pytest.param(platform, case, marks=() if case in QUICK[platform] else pytest.mark.slow)
        for platform in PLATFORMS
        for case in CASES
    ],
)
def test_results_and_gradients_are_plain_attentions(case, platform):
    queries, keys, heads, width, dtype, count, causal, drops = CASES[case]
    q, k, v, gradient, segments = arrays(queries, keys, heads, width, dtype, count)
    by_distance = distance_bias(queries, keys, heads, causal)
    rate, key = 0.3, jax.random.key(5) if drops else None

    def own(q, k, v, by_distance):
        return kernel.attend(q, k, v, DistanceBias(by_distance), segments, rate, key, platform, interpret=True)

    def all_rows(q, k, v, by_distance):
        """In float32, whatever dtype the arrays have."""
        q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
        v = v if key is None else drop_keys(v, rate, key)
        return plain(q, k, v, DistanceBias(by_distance).matrix(queries, keys, jnp.float32), segments)

    def results(way, gradient):
        def compute(*inputs):
            out, backward = jax.vjp(way, *inputs)
            return out, *backward(gradient.astype(out.dtype))

        return jax.jit(compute)(q, k, v, by_distance)

    limit = FLOAT32 if dtype == "float32" else BFLOAT16
    names = ("result", "queries", "keys", "values", "bias")
    for name, found, expected in zip(names, results(own, gradient), results(all_rows, gradient), strict=True):
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert np.isfinite(found).all(), name
        assert np.linalg.norm(found - expected) <= limit * np.linalg.norm(expected), name


@pytest.mark.parametrize("platform", PLATFORMS)
def test_without_bias_and_segments_every_query_sees_every_key(platform):
    q, k, v, _, _ = arrays(20, 50, 2, 16, "float32", 1)
    found = jax.jit(lambda q, k, v: kernel.attend(q, k, v, None, None, 0.0, None, platform, interpret=True))(q, k, v)
    np.testing.assert_allclose(found, plain(q, k, v, None, None), atol=1e-6)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_query_that_sees_no_key_sees_all_alike(platform):
    """As in plain attention, and none of those that only fill up the lanes."""
    q, k, v, _, _ = arrays(20, 50, 2, 16, "float32", 1)
    segments = jnp.zeros((2, 20), jnp.int32), jnp.ones((2, 50), jnp.int32)
    attend = jax.jit(lambda q, k, v: kernel.attend(q, k, v, None, segments, 0.0, None, platform, interpret=True))
    np.testing.assert_allclose(
        attend(q, k, v), jnp.broadcast_to(v.mean(axis=1, keepdims=True), v[:, :20].shape), atol=1e-6
    )


VERSIONS = {"1.0": {}, "1.1": {"activation": "gated_gelu", "tied_head": False}}


def take_kernel_for(platform, monkeypatch):
    """Lets the network take the kernel for this platform, interpreted, where it would take that for TPUs."""
    attend = kernel.attend

    def attend_there(*arguments, interpret):
        return attend(*arguments[:-1], platform, interpret=interpret)

    monkeypatch.setattr(kernel, "attend", attend_there)


@pytest.mark.parametrize(
    ("platform", "version"),
    [
        pytest.param(platform, version, marks=() if (platform, version) == ("tpu", "1.0") else pytest.mark.slow)
        for platform in PLATFORMS
        for version in ("1.0", "1.1")
    ],
)
def test_both_stacks_of_both_versions_compute_and_learn_the_same(version, platform, monkeypatch):
    """Through the whole network: the gradient of the tables of relative biases, and of all else."""
    take_kernel_for(platform, monkeypatch)
    size = Size("tiny", d_model=16, d_kv=8, d_ff=24, layers=1, heads=2, vocabulary_size=40, **VERSIONS[version])
    params = t5.init_params(size, jax.random.key(0))
    rng = np.random.default_rng(2)
    inputs, targets = rng.integers(2, 40, (2, 21)).astype(np.int32), rng.integers(2, 40, (2, 9)).astype(np.int32)
    inputs[0, 15:], targets[1, 5:] = 0, 0

    def loss(params):
        model = t5.model(size, params)
        segments, _ = t5.plain_rows(inputs)
        target_segments, _ = t5.plain_rows(targets)
        keys = t5.split_key(jax.random.key(3), 2)
        memory = model.encode(inputs, segments, None, key=keys[0])
        logits = model.decode(t5.shift_right(targets), target_segments, None, memory, segments, key=keys[1])
        return jnp.sum(jnp.where(targets[:, :, None] > 0, jax.nn.log_softmax(logits), 0) ** 2)

    ways = [jax.jit(asking(jax.value_and_grad(loss), way)) for way in ("kernel", "plain")]
    found, expected = (way(params) for way in ways)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=FLOAT32)
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(found[1]), jax.tree.leaves(expected[1]), strict=True
    ):
        assert np.linalg.norm(ours - theirs) <= 10 * FLOAT32 * np.linalg.norm(theirs), path  # through all layers
    own, theirs = (losses_of_descent(way, params, steps=20) for way in ways)
    assert theirs[-1] < 0.9 * theirs[0]
    np.testing.assert_allclose(own, theirs, rtol=1e-4)  # rounding, which the steps enlarge


def losses_of_descent(value_and_grad, params, steps):
    """The losses on the way down the gradient, whose length is made that of the step."""
    losses = []
    for _ in range(steps):
        value, gradient = value_and_grad(params)
        losses.append(float(value))
        length = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(gradient)))
        params = jax.tree.map(lambda p, g, length=length: p - 0.05 / length * g, params, gradient)
    return losses


@pytest.mark.slow  # two train steps to compile; the test above learns without the optimizer
def test_a_step_with_it_trains_as_with_plain_attention(compose):
    """Optimizer and all: the losses of a few steps, up to what rounding becomes in Adafactor's quotients."""
    rate = ("optimizer.learning_rate=0.1", "optimizer.schedule=constant", "optimizer.warmup_steps=0")
    overrides = ("size=nano", "size.d_kv=8", "size.vocabulary_size=40", *rate)
    rng = np.random.default_rng(4)
    batch = {name: rng.integers(2, 40, (8, n)).astype(np.int32) for name, n in (("inputs", 24), ("targets", 2))}
    batch |= {f"{name[:-1]}_segments": np.ones_like(ids) for name, ids in batch.items()}
    losses, taken = {}, {}
    for way in ("kernel", "plain"):
        config = compose(*overrides, f"train.attention={way}")
        compiled = compile_train_step(StepConfig.from_config(config, config.size), make_mesh(Mesh(), jax.devices()[:1]))
        state, losses[way] = compiled.init(jax.random.key(0)), []
        for _ in range(12):
            state, metrics = compiled.step(state, batch, jax.random.key(1))
            losses[way].append(float(metrics["loss"]))
        taken[way] = str(compiled.attention)
    assert taken == {"kernel": "kernel for 24 × 24, 2 × 2, 2 × 24", "plain": "plain for 24 × 24, 2 × 2, 2 × 24"}
    assert losses["plain"][-1] < 0.5 * losses["plain"][0]
    np.testing.assert_allclose(losses["kernel"], losses["plain"], rtol=1e-3)


@pytest.mark.slow
def test_the_same_cell_with_it_reaches_the_accuracy_of_plain_attention(compose, tmp_path):
    accuracies, ids = {}, {}
    for way in ("kernel", "plain"):
        overrides = ("dataset.train_examples=1000", "dataset.test_examples=400", "dataset.max_input_length=24")
        steps = ("train.steps=200", "train.batch_size=16", "train.eval_every=50", "train.eval_examples=400")
        config = config_in(compose, tmp_path / way, *overrides, *steps, f"train.attention={way}")
        train_here(config)
        store, ids[way] = Store(config.tracking.root), train_run_id(config)
        assert store.run(ids[way]).summary["attention"].startswith(f"{way} for ")
        history = store.history(ids[way])
        accuracies[way] = [point["validation_accuracy"] for point in history if "validation_accuracy" in point]
    assert ids["kernel"] == ids["plain"]
    found, expected = (np.array(accuracies[way]) for way in ("kernel", "plain"))
    assert expected[-1] > 0.6 and len(found) == len(expected) == 4
    # two standard errors of one accuracy of 400 examples, which the two runs have in common
    assert np.all(np.abs(found - expected) <= 2 * np.sqrt(0.25 / 400)), (found, expected)


def test_groups_of_heads_fill_the_lanes():
    def group(heads, width):
        return Plan(8, 512, 512, heads, width, 2).group

    assert [group(12, 64), group(32, 128), group(8, 32), group(16, 16)] == [2, 1, 4, 8]
    assert [group(3, 64), group(2, 32), group(1, 8)] == [3, 2, 1]  # all heads: a block may be as wide as the array


ON_FOUR = """
import jax, jax.numpy as jnp, numpy as np
from conf.schema import Mesh
from train.attention import DistanceBias, asking, attention, kernel
from train.sharding import make_mesh, on_mesh

attend = kernel.attend


def attend_there(*arguments, interpret):
    return attend(*arguments[:-1], PLATFORM, interpret=interpret)


kernel.attend = attend_there

rng = np.random.default_rng(0)
q = jnp.asarray(rng.normal(size=(4, 24, 2, 8)), jnp.float32)
bias = jnp.asarray(rng.normal(size=(2, 47)), jnp.float32)
segments = (jnp.asarray([[1] * 10 + [2] * 9 + [0] * 5] * 4),) * 2
key = jax.random.key(0)

def loss(q, bias):
    return jnp.sum(attention(q, q, q, DistanceBias(bias), segments, 0.3, key) ** 2)

def gradients(way, config, devices):
    mesh = make_mesh(config, devices)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())  # says which devices the program is for
    return jax.jit(on_mesh(asking(jax.grad(loss, argnums=(0, 1)), way), mesh), in_shardings=whole)(q, bias)

expected = gradients("plain", Mesh(), jax.devices()[:1])
found = gradients("kernel", Mesh(data=2, fsdp=1, tensor=2), jax.devices())
for ours, theirs in zip(found, expected):
    # float32; q's gradient is the sum of three, as queries, keys and values, and 1.0e-6 was seen
    assert np.linalg.norm(np.asarray(ours) - theirs) < 3e-6 * np.linalg.norm(theirs)
print("ok")
"""


@pytest.mark.parametrize(
    "platform", [pytest.param(platform, marks=pytest.mark.slow if platform == "gpu" else ()) for platform in PLATFORMS]
)
def test_on_a_mesh_each_device_has_its_own_rows_and_heads(platform):
    # PJRT_NPROC: tests/eight_devices.py says why
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PJRT_NPROC": "64"}
    command = [sys.executable, "-c", ON_FOUR.replace("PLATFORM", repr(platform))]
    result = subprocess.run(command, cwd=REPO, env=os.environ | flags, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr
