"""Collects what the steps since the last log reached, checks that it is finite, and logs it."""

import time

import jax
import numpy as np

from conf.errors import EdgewiseError
from tracking.interface import Run


class Window:
    """Collects the values of the steps since the last log.

    They stay on the device until they are checked, so that logging doesn't hold up the steps.
    """

    def __init__(self, batch_size: int, run: Run):
        self._batch_size, self._run = batch_size, run
        self._metrics: list[dict[str, jax.Array]] = []
        self._values: list[dict[str, np.ndarray]] = []
        self._padding: list[float] = []
        self._input_seconds = 0.0
        self._last, self._since, self._seconds = 0, time.monotonic(), 0.0
        self.loss = float("nan")

    def add(self, metrics: dict[str, jax.Array], step: int) -> None:
        """Adds the `metrics` of the `step`-th step, counted from 1."""
        self._metrics.append(metrics)
        self._last = step

    def add_input(self, padding: float, seconds: float) -> None:
        """Adds a batch's share of padding, and for how many seconds the loop waited for it: the devices no longer."""
        self._padding.append(padding)
        self._input_seconds += seconds

    def check(self) -> None:
        """Waits for the steps, and raises EdgewiseError for the first whose loss or gradient is not finite."""
        self._values = jax.device_get(self._metrics)
        self._seconds = time.monotonic() - self._since
        for step, values in enumerate(self._values, self._last - len(self._values) + 1):
            if not np.isfinite(values["loss"]) or not np.isfinite(values["gradient_norm"]):
                raise EdgewiseError(
                    f"step {step}: loss is {values['loss']}, gradient norm {values['gradient_norm']}: expected finite "
                    "numbers. Lower optimizer.learning_rate, add optimizer.warmup_steps, or check the inputs"
                )

    def log(self, evaluation: dict[str, float]) -> None:
        """Logs the checked steps' means and rates, and the evaluation beside them, and starts a new window."""
        values = self._values
        means = ("loss", "z_loss", "token_accuracy", "gradient_norm")
        point = {key: float(np.mean([v[key] for v in values])) for key in means} | {
            "learning_rate": float(values[-1]["learning_rate"]),
            "examples_per_second": self._batch_size * len(values) / self._seconds,
            "target_tokens_per_second": float(sum(v["target_tokens"] for v in values)) / self._seconds,
            "encoder_padding": float(np.mean(self._padding)),
            "input_seconds_share": self._input_seconds / self._seconds,
        }
        self._run.log(point | evaluation, self._last)
        self.loss = point["loss"]
        self._metrics, self._padding, self._input_seconds = [], [], 0.0
        self._since = time.monotonic()
