"""Describes a model as it runs: its parameters, on which devices, in which dtype and by which way of attention."""

import dataclasses

import jax

from conf.schema import Size
from train import t5


@dataclasses.dataclass(frozen=True)
class RunningModel:
    """Holds what all ways of scoring and writing need of a model.

    `params` lie over `mesh`. `dtype` is the activations', "float32" or "bfloat16". `attention` is the way that is asked
    for, as in `train.attention`.
    """

    params: t5.Params
    size: Size
    dtype: str
    mesh: jax.sharding.Mesh
    attention: str = "auto"

    def cast(self, head: bool = True) -> "RunningModel":
        """Returns the model with parameters cast to `dtype` once, for many batches; with `head`, the head too."""
        return dataclasses.replace(self, params=t5.cast(self.params, self.dtype, head))
