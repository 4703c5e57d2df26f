"""Chooses the step whose parameters a training keeps, and when it ends early, by the validation measure.

What has been found so far is saved in the training checkpoint, in one piece with the state, so that a training which is
cut off between two evaluations goes on to choose what it would have chosen.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conf.schema import Train
from train import hosts, t5
from train.step import TrainState
from train.validation import VALIDATION, chooses

Saved = TrainState | dict[str, Any]  # what a checkpoint holds


class ModelSelection:
    """Remembers the best evaluation so far: its step, its rank and, with `train.keep=best`, its parameters.

    An evaluation is better where its accuracy by label likelihood is higher, or equal and its loss lower; where there
    are no labels, where its loss is lower. Of equals the earlier one stays. Everything is compared in float32, as it is
    saved.
    """

    def __init__(self, train: Train, mesh: jax.sharding.Mesh) -> None:
        """Starts before the first evaluation; arrays are laid over `mesh`."""
        self._keeps_best, self._patience, self._chooses = train.keep == "best", train.patience, chooses(train)
        self._everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self._rank = (np.float32(-np.inf), np.float32(-np.inf))
        self._params: t5.Params | None = None
        self.step, self.evaluations_since = 0, 0

    @property
    def is_exhausted(self) -> bool:
        """Tells whether as many evaluations as `train.patience` says have come since the best one."""
        return 0 < self._patience <= self.evaluations_since

    def consider(self, evaluation: Mapping[str, float], step: int, params: t5.Params) -> bool:
        """Takes the evaluation of the `step`-th step, whose `params` are copied; returns whether it is the best so far.

        Where nothing is to be chosen, it does nothing and returns False.
        """
        if not self._chooses:
            return False
        rank = _rank(evaluation)
        if not rank > self._rank:
            self.evaluations_since += 1
            return False
        self._rank, self.step, self.evaluations_since = rank, step, 0
        if self._keeps_best:
            self._params = jax.tree.map(jnp.copy, params)  # a step takes the state's own buffers
        return True

    def kept_params(self, state: TrainState) -> t5.Params:
        """Returns the parameters that the training ends with: the best, or those of its last `state`."""
        return state.params if self._params is None else self._params

    def kept_step(self, state: TrainState) -> int:
        """Returns the step, counted from 1, whose parameters `kept_params` returns."""
        return int(state.step) if self._params is None else self.step

    def to_save(self, state: TrainState) -> Saved:
        """Returns what a checkpoint is to hold: the state alone where nothing is chosen."""
        if not self._chooses:
            return state
        numbers = {
            "rank": np.array(self._rank, np.float32),
            "counts": np.array([self.step, self.evaluations_since], np.int32),
        }
        saved = {"state": state, "selection": hosts.on_devices(numbers, self._everywhere)}
        return saved | ({"best": self.kept_params(state)} if self._keeps_best else {})

    def abstract(self, state: TrainState) -> Saved:
        """Returns the shapes, dtypes and shardings of what `to_save` returns, where `state` has those of the state."""
        if not self._chooses:
            return state
        numbers = {
            "rank": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=self._everywhere),
            "counts": jax.ShapeDtypeStruct((2,), jnp.int32, sharding=self._everywhere),
        }
        saved: dict[str, Any] = {"state": state, "selection": numbers}
        return saved | ({"best": state.params} if self._keeps_best else {})

    def restored(self, saved: Saved) -> TrainState:
        """Takes over what `to_save` returned, and returns the state in it."""
        if isinstance(saved, TrainState):
            return saved
        numbers = jax.device_get(saved["selection"])
        self._rank = (numbers["rank"][0], numbers["rank"][1])
        self.step, self.evaluations_since = map(int, numbers["counts"])
        if self._keeps_best and self.step:
            self._params = saved["best"]
        state: TrainState = saved["state"]
        return state


def _rank(evaluation: Mapping[str, float]) -> tuple[np.float32, np.float32]:
    """Returns what compares evaluations, the better the larger."""
    loss = np.float32(evaluation[f"{VALIDATION}_loss"])
    accuracy = evaluation.get(f"{VALIDATION}_accuracy")
    return (-loss, np.float32(0)) if accuracy is None else (np.float32(accuracy), -loss)
