"""Measures how long a cell's steps and its scoring take on this machine, without what is compiled for them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax

from conf.schema import Config
from train.cell_data import cell_size, load_cell_data
from train.compilation_cache import keep_compiled
from train.data.source import source_of
from train.loop import Training
from train.sharding import make_mesh

T = TypeVar("T")

MOST_STEPS = 20
MOST_SECONDS = 20.0  # after which no further step is taken


@dataclass(frozen=True)
class Measured:
    """Holds the seconds that a cell takes; `scoring_seconds` is None where the model writes its answers."""

    step_seconds: float
    compile_seconds: float
    scoring_seconds: float | None


def measure(config: Config) -> Measured:
    """Takes up to MOST_STEPS steps of a cell from random parameters, and evaluates; `config` is resolved.

    A batch of a new shape is run twice, and the first time is compilation. Raises EdgewiseError as a training does.
    """
    keep_compiled()
    data = load_cell_data(config, Path(config.tracking.root))
    training = Training(config, data, cell_size(config, data.vocabulary), make_mesh(config.mesh, None))
    compiled, seed_key = training.compiled, jax.random.key(config.seed)
    state, make = compiled.init(seed_key), training.batch_maker()
    shapes: set[tuple[tuple[int, ...], ...]] = set()
    step_seconds: list[float] = []
    compile_seconds, begun = 0.0, time.monotonic()
    for step in range(min(MOST_STEPS, config.train.steps)):
        batch, _ = make(step)
        shape = tuple(array.shape for array in batch.values())
        first = 0.0
        if shape not in shapes:
            shapes.add(shape)
            (state, _), first = _timed(compiled.step, state, batch, seed_key)
        (state, _), again = _timed(compiled.step, state, batch, seed_key)
        step_seconds.append(again)
        compile_seconds += max(first - again, 0.0)
        if time.monotonic() - begun > MOST_SECONDS:
            break
    scoring_seconds = None
    if data.labels is not None:
        (_, first), (_, again) = (_timed(training.evaluate, state) for _ in range(2))
        compile_seconds += max(first - again, 0.0)
        rows = len(source_of(config.dataset).split(config.infer.split))
        scoring_seconds = again / len(data.eval_inputs) * rows
    return Measured(sum(step_seconds) / len(step_seconds), compile_seconds, scoring_seconds)


def _timed(function: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """Returns what a call returns, when its arrays are there, and the seconds that it took."""
    begun = time.monotonic()
    result: T = jax.block_until_ready(function(*arguments))
    return result, time.monotonic() - begun
