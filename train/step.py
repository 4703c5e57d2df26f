"""Defines the pure functions of training (a state and a batch in, a state and metrics out) and compiles them.

Compiled functions are kept for the process and take the seed's key as an argument: a sweep in one process compiles
each (size, shape) once, not once a seed.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from conf.schema import AUTO, Config, Optimizer, Size, Train
from train import t5
from train.attention import Taken, asking
from train.data.tokens import EOS, PAD, UNK
from train.optimizer import learning_rate, make_optimizer
from train.sharding import BATCH, on_mesh, state_shardings

Metrics = dict[str, jax.Array]

UNROLLED_LAYERS = (
    64  # of both stacks together: with more, `train.unroll=auto` takes a loop for the sake of compile time
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """Holds what a step changes.

    `step` counts finished steps, int32 scalar; `params` is T5's nested dict of float32; `opt_state` is Optax's.
    """

    step: jax.Array
    params: t5.Params
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Holds all that a compiled step depends on. The seed is not part of it: it is an argument of the step."""

    size: Size
    optimizer: Optimizer
    steps: int
    z_loss: float
    loss_normalizer: str
    dtype: str
    execution: t5.Execution = t5.Execution()
    attention: str = "auto"
    token_dropout: float = 0.0
    outputs: tuple[int, ...] = ()

    @classmethod
    def from_config(
        cls, config: Config, size: Size, platform: str | None = None, outputs: tuple[int, ...] = ()
    ) -> "StepConfig":
        """Returns what of a cell's config its step depends on, with `size`, whose vocabulary is known.

        `platform` is that of the devices, such as `gpu`; by default the one that JAX would choose. `outputs` are the
        token ids, rising, that the softmax is over; without any it is the whole vocabulary's.
        """
        train = config.train
        return cls(
            size,
            config.optimizer,
            train.steps,
            train.z_loss,
            train.loss_normalizer,
            dtype_of(config),
            t5.Execution(train.remat, writes_out_layers(train, size, platform or jax.default_backend())),
            train.attention,
            train.token_dropout,
            outputs,
        )


def dtype_of(config: Config) -> str:
    """Returns the activations' dtype: the config's, else bfloat16 on an accelerator and float32 on a CPU."""
    if config.train.dtype != "auto":
        return config.train.dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def writes_out_layers(train: Train, size: Size, platform: str) -> bool:
    """Tells whether the step has its layers written out, as `train.unroll` says; `auto` does on a GPU.

    There a loop's copies of what layers keep for the backward pass cost a third of the step (docs/performance.md). On a
    CPU they cost little, and on a TPU the loop's compiler fuses them.
    """
    if train.unroll != AUTO:
        return bool(train.unroll)
    return platform == "gpu" and size.layers + size.decoder_depth <= UNROLLED_LAYERS


# --- pure ------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: jax.Array, targets: jax.Array, z_loss: float) -> tuple[jax.Array, jax.Array]:
    """Returns the negative log-likelihood of every token, and z_loss · (log Z)², each [B, T] float32.

    logits [B, T, V] float32, targets [B, T] int32; the z-loss as in Raffel et al. 2020 and T5X.
    """
    log_z = jax.nn.logsumexp(logits, axis=-1)
    nll = log_z - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return nll, z_loss * log_z**2


def drop_tokens(inputs: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Replaces token ids [B, S] int32 by <unk> at `rate`, but neither padding nor EOS; none of them without a `key`."""
    if key is None or rate == 0.0:
        return inputs
    dropped = jax.random.bernoulli(key, rate, inputs.shape) & (inputs != PAD) & (inputs != EOS)
    return jnp.where(dropped, UNK, inputs)


def loss_fn(
    params: t5.Params, batch: dict[str, jax.Array], key: jax.Array | None, c: StepConfig
) -> tuple[jax.Array, Metrics]:
    """Returns the loss to differentiate, and sums over the batch's target tokens (padding excluded).

    `batch` holds `inputs` [B, S] and `targets` [B, T], and, where several examples share a row, `input_segments` and
    `target_segments` of the same shapes. Positions count along the row: a segment is in one piece, so that its relative
    positions are the same wherever it stands, and one relative bias serves all rows.
    """
    model = t5.model(c.size, params)
    keys = t5.split_key(key, 2)
    segments, _ = t5.plain_rows(batch["inputs"])
    segments = batch.get("input_segments", segments)
    inputs = drop_tokens(batch["inputs"], c.token_dropout, None if key is None else jax.random.fold_in(key, 2))
    memory = model.encode(inputs, segments, None, jnp.dtype(c.dtype), keys[0], c.execution)
    target_segments, _ = t5.plain_rows(batch["targets"])
    target_segments = batch.get("target_segments", target_segments)
    decoder_inputs = t5.shift_right(batch["targets"], target_segments)
    outputs = jnp.array(c.outputs, jnp.int32) if c.outputs else None
    logits = model.decode(
        decoder_inputs, target_segments, None, memory, segments, keys[1], c.execution, outputs=outputs
    )
    targets = batch["targets"] if outputs is None else jnp.searchsorted(outputs, batch["targets"])
    nll, z = cross_entropy(logits, targets, c.z_loss)
    weights = (target_segments != 0).astype(jnp.float32)
    tokens, nll_sum, z_sum = weights.sum(), (nll * weights).sum(), (z * weights).sum()
    if c.loss_normalizer == "tokens":
        normalizer = tokens
    else:
        normalizer = jnp.float32(1.0 if c.loss_normalizer == "none" else float(c.loss_normalizer))
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    hits = (chosen >= logits.max(axis=-1)) * weights  # not argmax: that costs more than the loss on a CPU
    sums = {"nll": nll_sum, "z": z_sum, "tokens": tokens, "hits": hits.sum()}
    return (nll_sum + z_sum) / normalizer, sums


def train_step(
    state: TrainState, batch: dict[str, jax.Array], seed_key: jax.Array, c: StepConfig
) -> tuple[TrainState, Metrics]:
    """Returns the state after one update, and the step's metrics.

    The dropout key depends on (seed, step) alone, so that a resumed run drops what an uninterrupted one drops.
    """
    key = jax.random.fold_in(seed_key, state.step)
    grads, sums = jax.grad(loss_fn, has_aux=True)(state.params, batch, key, c)
    optimizer = make_optimizer(c.optimizer, c.steps)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {
        "loss": sums["nll"] / sums["tokens"],
        "z_loss": sums["z"] / sums["tokens"],
        "token_accuracy": sums["hits"] / sums["tokens"],
        "target_tokens": sums["tokens"],
        "gradient_norm": optax.tree.norm(grads),
        "learning_rate": jnp.asarray(learning_rate(c.optimizer, c.steps)(state.step)),
    }
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics


def init_state(seed_key: jax.Array, c: StepConfig) -> TrainState:
    """Returns random parameters and an empty optimizer state, at step 0."""
    params = t5.init_params(c.size, seed_key)
    return fresh_state(params, c)


def fresh_state(params: t5.Params, c: StepConfig) -> TrainState:
    """Returns these parameters with an empty optimizer state, at step 0."""
    optimizer = make_optimizer(c.optimizer, c.steps)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def eval_sums(params: t5.Params, batch: dict[str, jax.Array], c: StepConfig) -> Metrics:
    """Returns sums over the batch's target tokens, without dropout: `nll`, `tokens`, `hits` and the z-loss `z`."""
    return loss_fn(params, batch, None, c)[1]


# --- compiled --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Holds the jitted functions of one (size, settings, mesh), and the layout of their state.

    `init` takes the seed's key; `step` takes a state, a batch and the seed's key, as `train_step` does; `eval_sums`
    takes parameters and a batch. `fresh` makes a state of parameters that lie on the devices already. `abstract` has
    the state's shapes, dtypes and shardings, into which a checkpoint is restored. `attention` has the ways of attention
    that `step` took, once it has been traced.
    """

    init: Callable[[jax.Array], TrainState]
    fresh: Callable[[t5.Params], TrainState]
    step: jax.stages.Wrapped
    eval_sums: jax.stages.Wrapped
    abstract: TrainState
    attention: Taken


@functools.lru_cache(maxsize=32)
def compile_train_step(c: StepConfig, mesh: jax.sharding.Mesh) -> Compiled:
    """Compiles the functions for this mesh.

    The state is born in its sharding, and its buffers are donated from step to step.
    """
    shapes = jax.eval_shape(functools.partial(init_state, c=c), jax.random.key(0))
    shardings = state_shardings(mesh, shapes)
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    batch = jax.sharding.NamedSharding(mesh, BATCH)
    attention = Taken()
    start = jax.jit(lambda params: fresh_state(params, c).opt_state, out_shardings=shardings.opt_state)

    def fresh(params: t5.Params) -> TrainState:  # the parameters don't go through the jitted function: no copy of them
        step = jax.device_put(jnp.zeros((), jnp.int32), shardings.step)
        return TrainState(step, params, start(params))

    return Compiled(
        init=jax.jit(functools.partial(init_state, c=c), out_shardings=shardings),
        fresh=fresh,
        step=jax.jit(
            on_mesh(asking(functools.partial(train_step, c=c), c.attention, attention), mesh),
            in_shardings=(shardings, batch, replicated),
            out_shardings=(shardings, replicated),
            donate_argnums=0,
        ),
        eval_sums=jax.jit(
            on_mesh(asking(functools.partial(eval_sums, c=c), c.attention), mesh),
            in_shardings=(shardings.params, batch),
            out_shardings=replicated,
        ),
        abstract=jax.tree.map(lambda s, h: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=h), shapes, shardings),
        attention=attention,
    )
