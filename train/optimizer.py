"""Makes the optimizers: Adafactor as T5X sets it, and AdamW.

Adafactor rescales each parameter by statistics of that parameter: its update is clipped by its own root mean square and
multiplied by the parameter's own scale. Layers are stacked here, so a leaf [L, …] holds L parameters: Adafactor runs
over the leading axis with `jax.vmap`, and every layer keeps the statistics it would have on its own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from conf.schema import Optimizer


def learning_rate(config: Optimizer, steps: int) -> optax.Schedule:
    """Returns the function of a step to its learning rate: linear warm-up, then the schedule's shape until `steps`.

    `rsqrt` is T5's pre-training shape: learning_rate · √(warm-up / step) from the warm-up's end.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    decay = max(steps - warmup, 1)
    shapes: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, decay),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay),
        "rsqrt": lambda: lambda step: peak * (max(warmup, 1) / (jnp.maximum(step, 0) + max(warmup, 1))) ** 0.5,
    }
    shape = shapes[config.schedule]()
    if not warmup:
        return shape
    return optax.join_schedules([optax.linear_schedule(peak / warmup, peak, warmup - 1), shape], [warmup])


def per_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Applies `inner` to each slice of the leaves' leading axis by itself; all leaves must have as many slices."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updated: tuple[Any, Any] = jax.vmap(inner.update)(updates, state, params)
        return updated

    return optax.GradientTransformation(lambda params: jax.vmap(inner.init)(params), update)


def adafactor(config: Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns Adafactor (Shazeer and Stern 2018) with T5X's constants, for one layer's or for unstacked parameters.

    β₂ at step t is 1 − (t + 1 + start_step)^−decay_rate; ε₁ 1e-30, ε₂ 1e-3; no momentum, no weight decay.
    """
    transforms = [
        optax.scale_by_factored_rms(
            decay_rate=config.decay_rate,
            step_offset=-config.start_step,
            min_dim_size_to_factor=config.min_dim_size_to_factor,
            epsilon=1e-30,
        ),
        optax.clip_by_block_rms(config.clipping_threshold),
        optax.scale_by_schedule(schedule),
    ]
    if config.multiply_by_parameter_scale:
        transforms.append(optax.scale_by_param_block_rms(min_scale=1e-3))
    return optax.chain(*transforms, optax.scale(-1.0))


def make_optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """Returns the transformation for T5's nested parameters, whose layers are stacked under a key `layers`."""
    schedule = learning_rate(config, steps)
    if config.name == "adamw":
        return optax.adamw(schedule, b1=config.b1, b2=config.b2, eps=1e-8, weight_decay=config.weight_decay)
    single = adafactor(config, schedule)
    transforms = {"single": single, "encoder": per_layer(single), "decoder": per_layer(single)}
    return optax.partition(transforms, _partitions)


def _partitions(params: dict[str, Any]) -> Any:
    """Returns, for every parameter, the name of the transformation that is its own."""

    def label(path: tuple[Any, ...], _: Any) -> str:
        names: list[str] = [entry.key for entry in path]
        return names[0] if "layers" in names else "single"

    return jax.tree_util.tree_map_with_path(label, params)
