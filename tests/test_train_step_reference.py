"""One fine-tuning step against float64 numpy: the loss, z-loss and gradient from `reference_t5`, Adafactor from its
definition (Shazeer and Stern 2018, with T5X's constants). Nothing of `train` is used but the step under test."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import reference_t5
from train import t5
from train.sharding import make_mesh
from train.step import StepConfig, compile_train_step, fresh_state

INPUTS = np.array([[4, 3, 1, 0]], np.int32)
TARGETS = np.array([[3, 1, 0]], np.int32)
Z_LOSS, NORMALIZER, LEARNING_RATE, MIN_DIM = 0.01, 3.0, 0.05, 4
ARCHITECTURE = ("d_model=4", "d_kv=2", "d_ff=4", "layers=2", "heads=2", "vocabulary_size=5", "relative_buckets=4")
VERSIONS = {
    "1.0": (),
    "1.1": ("size.activation=gated_gelu", "size.tied_head=false"),
    "another depth, tied and unscaled": ("size.decoder_layers=1", "size.scaled_head=false"),
}


def loss(params, size):
    total = 0.0
    for inputs, targets in zip(INPUTS, TARGETS):
        targets = targets[targets != 0]
        logits = reference_t5.logits(params, size, inputs[inputs != 0], np.append(0, targets[:-1]))
        log_z = np.log(np.exp(logits).sum(-1))
        total += (log_z - logits[np.arange(len(targets)), targets] + Z_LOSS * log_z**2).sum()
    return total / NORMALIZER


def numerical_gradient(params, size, step=1e-5):
    """Central differences of `loss`, exact to about step², 1e-10."""

    def slopes(leaf):
        gradient = np.empty_like(leaf)
        for place in np.ndindex(leaf.shape):
            kept = leaf[place]
            ends = []
            for sign in (1, -1):
                leaf[place] = kept + sign * step
                ends.append(loss(params, size))
            leaf[place] = kept
            gradient[place] = (ends[0] - ends[1]) / (2 * step)
        return gradient

    return jax.tree.map(slopes, params)


def adafactor_update(p, g, start_step):
    """The change of one parameter in the first step, from an empty state."""
    beta2 = 1 - (start_step + 1.0) ** -0.8
    squares = g**2 + 1e-30
    if p.ndim == 2 and min(p.shape) >= MIN_DIM:
        rows, columns = (1 - beta2) * squares.mean(1), (1 - beta2) * squares.mean(0)
        v = np.outer(rows, columns) / rows.mean()
    else:
        v = (1 - beta2) * squares
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt((u**2).mean()))
    return -LEARNING_RATE * max(1e-3, np.sqrt((p**2).mean())) * u


def expected_update(path, p, g, start_step):
    if any(entry.key == "layers" for entry in path):  # every layer's parameter is one of its own
        return np.stack([adafactor_update(*layer, start_step) for layer in zip(p, g)])
    return adafactor_update(p, g, start_step)


@pytest.mark.parametrize(
    "version", [pytest.param(name, marks=[pytest.mark.slow] if name != "1.1" else []) for name in VERSIONS]
)
def test_a_step_is_the_definition_s(version, compose):
    config = compose(
        *(f"size.{value}" for value in ARCHITECTURE),
        *VERSIONS[version],
        "size.dropout=0",
        f"train.z_loss={Z_LOSS}",
        f"train.loss_normalizer='{NORMALIZER}'",
        "train.dtype=float32",
        f"optimizer.learning_rate={LEARNING_RATE}",
        "optimizer.schedule=constant",
        "optimizer.warmup_steps=0",
        f"optimizer.min_dim_size_to_factor={MIN_DIM}",
    )
    size, mesh = config.size, make_mesh(dataclasses.replace(config.mesh, data=1))
    start = jax.tree.map(np.asarray, jax.jit(lambda key: t5.init_params(size, key))(jax.random.key(3)))
    exact = jax.tree.map(lambda leaf: leaf.astype(np.float64), start)
    gradient = numerical_gradient(exact, size)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    for start_step in (0, 1_000_000):
        optimizer = dataclasses.replace(config.optimizer, start_step=start_step)
        c = StepConfig.from_config(dataclasses.replace(config, optimizer=optimizer), size)
        compiled = compile_train_step(c, mesh)
        state = compiled.fresh(jax.device_put(start))
        jax.tree.map(np.testing.assert_array_equal, state, fresh_state(start, c))
        state, metrics = compiled.step(state, {"inputs": INPUTS, "targets": TARGETS}, jax.random.key(0))
        assert int(state.step) == 1
        tokens = (TARGETS != 0).sum()
        got_loss = float(metrics["loss"] + metrics["z_loss"]) * tokens / NORMALIZER
        assert got_loss == pytest.approx(loss(exact, size), rel=1e-5)
        assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-5)
        want = jax.tree_util.tree_map_with_path(lambda *a, s=start_step: expected_update(*a, s), exact, gradient)
        for (path, w), before, after in zip(
            jax.tree_util.tree_leaves_with_path(want), jax.tree.leaves(exact), jax.tree.leaves(state.params)
        ):
            # float32 keeps 1e-7 of the parameter; where Adafactor divides a gradient by its own size, that of a tiny
            # gradient is kept less well: 1e-3 of the largest change
            np.testing.assert_allclose(after - before, w, atol=1e-3 * np.abs(w).max() + 1e-6, err_msg=str(path))
