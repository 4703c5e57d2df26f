import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from conf.schema import Optimizer, Size
from train import t5
from train.optimizer import adafactor, learning_rate, make_optimizer

SIZE = Size(name="x", d_model=128, d_kv=32, d_ff=160, layers=3, heads=4, vocabulary_size=256, decoder_layers=2)
DEPTHS = {"encoder": 3, "decoder": 2}
CONFIG = Optimizer(learning_rate=0.01, warmup_steps=2)


def params_and_gradients():
    params = t5.init_params(SIZE, jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), 3 * len(leaves))
    # layers of very different scale: statistics over all layers together would show
    scale = lambda x: 10.0 ** -jnp.arange(x.shape[0], dtype=jnp.float32).reshape(-1, *[1] * (x.ndim - 1))  # noqa: E731
    steps = [
        jax.tree.unflatten(tree, [scale(x) * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys[i::3])])
        for i in range(3)
    ]
    for stack in ("encoder", "decoder"):
        params[stack]["layers"] = jax.tree.map(lambda x: x * scale(x), params[stack]["layers"])
    return params, steps


def run(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def unstack(tree):
    """Each layer a parameter of its own, as in an unstacked model."""
    return {
        **{k: v for k, v in tree.items() if k not in ("encoder", "decoder")},
        **{
            stack: {k: v for k, v in tree[stack].items() if k != "layers"}
            | {f"layer_{i}": jax.tree.map(lambda x, i=i: x[i], tree[stack]["layers"]) for i in range(depth)}
            for stack, depth in DEPTHS.items()
        },
    }


@pytest.mark.parametrize("start_step", [0, 1_000_000])
def test_stacked_adafactor_is_optax_s_on_unstacked_parameters(start_step):
    params, gradients = params_and_gradients()
    config = Optimizer(**{**vars(CONFIG), "start_step": start_step})
    got = run(make_optimizer(config, 10), params, gradients)
    plain = optax.adafactor(
        learning_rate(config, 10), decay_offset=-start_step, min_dim_size_to_factor=128, clipping_threshold=1.0
    )
    want = run(plain, unstack(params), [unstack(g) for g in gradients])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), unstack(got), want)


def test_adafactor_over_all_layers_together_would_differ():
    params, gradients = params_and_gradients()
    got = run(make_optimizer(CONFIG, 10), params, gradients)
    together = run(adafactor(CONFIG, learning_rate(CONFIG, 10)), params, gradients)
    kernel = lambda p: p["encoder"]["layers"]["mlp"]["wi"]["kernel"]  # noqa: E731
    assert np.abs(kernel(got) - kernel(together)).max() > 1e-3
    np.testing.assert_allclose(got["embedding"], together["embedding"], rtol=1e-6)


def test_a_matrix_s_state_is_factored_per_layer():
    params, _ = params_and_gradients()
    state = make_optimizer(CONFIG, 10).init(params)
    rows = [
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if "v_row['encoder']" in (name := jax.tree_util.keystr(path)) and "['wi']" in name
    ]
    assert (3, 128) in rows


def test_the_first_adafactor_step_by_hand():
    # beta2 is 0 at step 0, so v = g² + 1e-30 and u = sign(g) for a vector; times lr, times max(rms(p), 1e-3)
    p, g = jnp.array([3.0, 4.0]), jnp.array([0.5, -2.0])
    optimizer = adafactor(Optimizer(learning_rate=0.1), learning_rate(Optimizer(learning_rate=0.1), 10))
    updates, _ = optimizer.update(g, optimizer.init(p), p)
    np.testing.assert_allclose(updates, [-0.1 * np.sqrt(12.5), 0.1 * np.sqrt(12.5)], rtol=1e-5)


def test_schedules():
    def at(steps, **values):
        schedule = learning_rate(Optimizer(learning_rate=1.0, **values), 10)
        return [round(float(schedule(step)), 4) for step in steps]

    assert at([0, 5, 9]) == [1, 1, 1]
    assert at([0, 1, 2, 3], warmup_steps=3) == [0.3333, 0.6667, 1, 1]
    assert at([0, 5, 10], schedule="linear") == [1, 0.5, 0]
    assert at([1, 2, 6, 10], schedule="linear", warmup_steps=2) == [1, 1, 0.5, 0]
    assert at([0, 5, 10], schedule="cosine") == [1, 0.5, 0]
    assert at([3, 4, 16], schedule="rsqrt", warmup_steps=4) == [1, 1, 0.5]


def test_adamw_decays_weights():
    params, gradients = params_and_gradients()
    zero = jax.tree.map(jnp.zeros_like, gradients[0])
    config = Optimizer(name="adamw", learning_rate=0.1, weight_decay=0.5)
    got = run(make_optimizer(config, 10), params, [zero])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.95 * b, rtol=1e-5), got, params)
