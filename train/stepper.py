"""Takes the steps of a training one after the other, and times what was compiled for them."""

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from train.progress import Meter
from train.step import Metrics, TrainState
from train.window import Window

SAID_SECONDS = 15.0  # a shape that takes the compiler longer is said in a line


class Stepper:
    """Takes one step after the other, and tells the meter which ones were compiled first."""

    def __init__(
        self,
        step_function: Callable[..., tuple[TrainState, Metrics]],
        seed_key: jax.Array,
        batches: Iterator[tuple[dict[str, jax.Array], float]],
        window: Window,
        meter: Meter,
    ) -> None:
        """Takes the compiled step and its seed's key, and what `Training.batch_maker` makes, in the order of steps."""
        self._step_function, self._seed_key, self._batches = step_function, seed_key, batches
        self._window, self._meter = window, meter
        self._compiled_shapes: set[tuple[tuple[int, ...], ...]] = set()
        self.compile_seconds = 0.0  # of all shapes so far

    @property
    def lengths(self) -> frozenset[int]:
        """Returns the lengths of the inputs and targets of all batches so far."""
        return frozenset(shape[-1] for shapes in self._compiled_shapes for shape in shapes)

    def __call__(self, state: TrainState, step: int) -> TrainState:
        """Returns the state after the `step`-th step, counted from 1."""
        begun = time.monotonic()
        batch, padding = next(self._batches)
        self._window.add_input(padding, time.monotonic() - begun)
        shapes = tuple(array.shape for array in batch.values())
        if is_new := shapes not in self._compiled_shapes:
            self._compiled_shapes.add(shapes)
            jax.block_until_ready(state)
            self._meter.advance(0)  # what was waited for is the time of earlier steps
        begun = time.monotonic()
        # waits for the compiler, not for the devices
        state, metrics = self._step_function(state, batch, self._seed_key)
        if is_new:
            seconds = time.monotonic() - begun
            self.compile_seconds += seconds
            if seconds >= SAID_SECONDS:
                self._meter.print_line(f"compiled the step for batches of {batch['inputs'].shape} in {seconds:.0f} s")
            jax.block_until_ready(metrics)
        self._window.add(metrics, step)
        loss = self._window.loss
        self._meter.advance(note=f"loss {loss:.4f}" if np.isfinite(loss) else None, counted=not is_new)
        return state
