import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train import t5
from train.sharding import make_mesh, spec_of, state_shardings
from train.step import StepConfig, compile_train_step, cross_entropy, drop_tokens, loss_fn

NANO = ("size.d_model=16", "size.d_kv=8", "size.d_ff=16", "size.vocabulary_size=40")


def batch():
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 40, (4, 6)).astype(np.int32), rng.integers(2, 40, (4, 3)).astype(np.int32)
    inputs[0, 3:], targets[1, 2:] = 0, 0
    return {"inputs": inputs, "targets": targets}


def step_config(compose, *overrides):
    config = compose(*NANO, *overrides)
    return StepConfig.from_config(config, config.size), config.size


def test_cross_entropy_and_z_loss_by_hand():
    logits = np.array([[[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]])
    targets = np.array([[1, 2]])
    nll, z = cross_entropy(jnp.array(logits, jnp.float32), jnp.array(targets), 0.1)
    log_z = np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(nll, log_z - [[2.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(z, 0.1 * log_z**2, rtol=1e-6)


@pytest.mark.parametrize("normalizer", ["none", "tokens", "233472"])
def test_the_loss_is_summed_over_target_tokens_and_normalised(compose, normalizer):
    c, size = step_config(compose, f"train.loss_normalizer={normalizer}", "train.z_loss=0.01")
    params = t5.init_params(size, jax.random.key(0))
    loss, sums = jax.jit(lambda p: loss_fn(p, batch(), None, c))(params)
    assert int(sums["tokens"]) == 11  # padding does not count
    divisor = {"none": 1.0, "tokens": 11.0}.get(normalizer) or float(normalizer)
    assert float(loss) == pytest.approx(float(sums["nll"] + sums["z"]) / divisor, rel=1e-6)
    assert float(sums["z"]) > 0


def test_padding_takes_no_gradient(compose):
    c, size = step_config(compose)
    params = t5.init_params(size, jax.random.key(0))
    grad = jax.jit(jax.grad(lambda p, b: loss_fn(p, b, None, c)[0]))
    plain = grad(params, batch())
    wider = {k: np.pad(v, ((0, 0), (0, 2))) for k, v in batch().items()}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), plain, grad(params, wider))


def test_the_gradient_is_the_loss_s_slope(compose):
    c, size = step_config(compose)
    params = t5.init_params(size, jax.random.key(0))
    loss = jax.jit(lambda p: loss_fn(p, batch(), None, c)[0])
    gradient = jax.jit(jax.grad(loss))(params)
    direction = jax.tree.map(lambda g: g / 1e2, gradient)
    move = lambda t: jax.tree.map(lambda p, d: p + t * d, params, direction)  # noqa: E731
    slope = (loss(move(1e-3)) - loss(move(-1e-3))) / 2e-3
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    assert float(slope) == pytest.approx(float(along), rel=0.02)  # a float32 difference quotient


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_what_is_computed_again_is_what_was_kept(compose, remat):
    """Gradients with dropout: the second pass drops what the first one did."""
    found = []
    for policy in ("none", remat):
        c, size = step_config(compose, f"train.remat={policy}", "size.dropout=0.3", "size.layers=2")
        params = t5.init_params(size, jax.random.key(0))
        found.append(jax.jit(jax.grad(lambda p, c=c: loss_fn(p, batch(), jax.random.key(1), c)[0]))(params))
    plain, again = found
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, again)  # float32 rounding


def packed_rows():
    """Four rows of two inputs each, and their two targets of one and two tokens."""
    rng = np.random.default_rng(1)
    input_segments = np.repeat([[1, 2]], 4, axis=0).repeat(20, axis=1)
    return {
        "inputs": rng.integers(2, 40, (4, 40)).astype(np.int32),
        "targets": rng.integers(2, 40, (4, 3)).astype(np.int32),
        "input_segments": input_segments.astype(np.int32),
        "target_segments": np.array([[1, 2, 2]] * 4, np.int32),
    }


@functools.cache
def loss_and_gradients(c):
    """Of packed rows, with dropout."""
    params = t5.init_params(c.size, jax.random.key(0))
    loss = lambda p: loss_fn(p, packed_rows(), jax.random.key(1), c)[0]  # noqa: E731
    return jax.jit(jax.value_and_grad(loss))(params)


def two_layers(compose, *overrides):
    return step_config(compose, "size.dropout=0.3", "size.layers=2", *overrides)[0]


def assert_near(found, expected):
    """A loss and gradients beside others: they differ by float32 rounding alone."""
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found[1], expected[1])


@pytest.mark.parametrize("remat", ["none", pytest.param("full", marks=pytest.mark.slow)])
def test_layers_written_out_compute_what_a_loop_computes(compose, remat):
    written_out = two_layers(compose, "train.unroll=true", f"train.remat={remat}")
    assert_near(loss_and_gradients(written_out), loss_and_gradients(two_layers(compose)))


def test_layers_are_written_out_on_a_gpu_unless_there_are_many(compose):
    def written_out(platform, *overrides):
        config = compose(*NANO, *overrides)
        return StepConfig.from_config(config, config.size, platform).execution.unroll

    assert written_out("gpu") and not written_out("cpu") and not written_out("tpu")
    assert not written_out("gpu", "size.layers=33")  # in both stacks
    assert written_out("tpu", "train.unroll=true") and not written_out("gpu", "train.unroll=false")


def test_few_targets_attend_with_fewer_products_and_the_same_dropout(compose, monkeypatch):
    """By default they do, with shapes like these; here all project the memory instead."""
    c = two_layers(compose)
    assert t5.Attention(c.size, rngs=nnx.Rngs(params=0)).absorbing_halves_products(3, 40)
    absorbed = loss_and_gradients(c)
    monkeypatch.setattr(t5.Attention, "absorbing_halves_products", lambda *_: False)
    assert_near(loss_and_gradients.__wrapped__(c), absorbed)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_less_is_kept_for_the_backward_pass(compose, remat):
    kept = []
    for policy in ("none", remat):
        c, size = step_config(compose, f"train.remat={policy}", "size.layers=6", "size.d_ff=64")
        params = t5.abstract_params(size)
        grad = jax.jit(jax.grad(lambda p, c=c: loss_fn(p, batch(), None, c)[0]))
        kept.append(grad.lower(params).compile().memory_analysis().temp_size_in_bytes)
    assert kept[1] < 0.8 * kept[0]


def test_training_on_one_batch_learns_it_and_seeds_share_one_compilation(compose, caplog):
    c, _ = step_config(compose, "optimizer.learning_rate=0.03", "size.dropout=0", "train.steps=60")
    compiled = compile_train_step(c, make_mesh(compose().mesh))
    assert compile_train_step(c, make_mesh(compose().mesh)) is compiled
    final = []
    for seed in (0, 1):
        caplog.clear()
        with jax.log_compiles():
            state = compiled.init(jax.random.key(seed))
            for _ in range(60):
                state, metrics = compiled.step(state, batch(), jax.random.key(seed))
        compilations = [record.message for record in caplog.records if "Compiling" in record.message]
        steps = [message for message in compilations if "jit(traced)" in message]  # as `on_mesh` names what it wraps
        assert len(steps) == (seed == 0), compilations
        final.append(metrics)
    assert all(float(m["loss"]) < 0.5 for m in final)
    assert float(final[0]["loss"]) != float(final[1]["loss"])
    assert int(state.step) == 60


def test_dropout_follows_seed_and_step(compose):
    c, _ = step_config(compose, "size.dropout=0.5")
    compiled = compile_train_step(c, make_mesh(compose().mesh))

    def loss(seed, steps):
        state = compiled.init(jax.random.key(9))
        for _ in range(steps):
            state, metrics = compiled.step(state, batch(), jax.random.key(seed))
        return float(metrics["loss"])

    assert loss(0, 1) == loss(0, 1)
    assert loss(0, 1) != loss(1, 1)
    assert loss(0, 2) == loss(0, 2)


def test_tokens_are_dropped_at_the_rate_and_eos_and_padding_never():
    inputs = jnp.asarray(np.random.default_rng(0).integers(0, 40, (100, 50)), jnp.int32)
    dropped = np.asarray(drop_tokens(inputs, 0.3, jax.random.key(0)))
    replaced, text = dropped != np.asarray(inputs), np.asarray(inputs) > 2
    assert set(dropped[replaced]) == {2} and not replaced[~text].any()
    assert replaced[text].mean() == pytest.approx(0.3, abs=4 * (0.21 / text.sum()) ** 0.5)
    again, other = (np.asarray(drop_tokens(inputs, 0.3, jax.random.key(seed))) for seed in (0, 1))
    assert (again == dropped).all() and (other != dropped).any()
    assert drop_tokens(inputs, 0.3, None) is inputs and drop_tokens(inputs, 0.0, jax.random.key(0)) is inputs


def test_the_embedding_starts_as_wide_as_it_says(compose):
    [wide, narrow] = (
        t5.init_params(step_config(compose, *given)[1], jax.random.key(0))
        for given in ((), ("size.embedding_stddev=0.03",))
    )
    np.testing.assert_allclose(narrow["embedding"], 0.03 * wide["embedding"], rtol=1e-6)
    np.testing.assert_array_equal(
        narrow["encoder"]["relpos_bias"]["rel_embedding"], wide["encoder"]["relpos_bias"]["rel_embedding"]
    )


def test_the_sharding_table_reaches_every_matrix(compose):
    _, size = step_config(compose)
    mesh = make_mesh(compose().mesh)
    shardings = state_shardings(mesh, t5.abstract_params(size))
    for path, sharding in jax.tree_util.tree_leaves_with_path(shardings):
        names = "/".join(entry.key for entry in path)
        is_matrix = names.endswith("kernel") or names == "embedding"
        assert (len(sharding.spec) > 0) == is_matrix, names
    assert tuple(spec_of("encoder/layers/mlp/wi_0/kernel")) == (None, "fsdp", "tensor")
    assert tuple(spec_of("decoder/layers/self_attention/out/kernel")) == (None, "tensor", "fsdp")
