"""Describes one scoring job: which split is scored by which model, where, and what all ways of scoring do with it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from conf.schema import Config
from train import hosts
from train.data.encodings import encode_split
from train.data.splits import Split
from train.data.tokens import Encoded
from train.identity import cell_name
from train.model_artifact import Model
from train.progress import progress
from train.running_model import RunningModel
from train.step import dtype_of
from train.stopping import Stop

T = TypeVar("T")


@dataclass(frozen=True)
class ScoringJob:
    """Holds a split to be scored, the model that scores it, and the devices that it runs on."""

    config: Config
    split: Split
    model: Model  # its parameters lie over `mesh`
    digest: str  # of the model's content
    mesh: jax.sharding.Mesh
    stop: Stop  # asked between two batches

    @property
    def dtype(self) -> str:
        """Returns the activations' dtype, "float32" or "bfloat16"."""
        return dtype_of(self.config)

    @property
    def running(self) -> RunningModel:
        """Returns the model as it runs in this job."""
        return RunningModel(self.model.params, self.model.size, self.dtype, self.mesh, self.config.train.attention)

    def inputs(self) -> Encoded:
        """Returns the split's inputs in token ids, cut to the dataset's maximum length."""
        return encode_split(self.model.vocabulary, self.split, self.config.dataset.max_input_length, self._encodings)

    def targets(self) -> Encoded:
        """Returns the split's targets in token ids, cut to the dataset's maximum length."""
        longest = self.config.dataset.max_target_length
        return encode_split(self.model.vocabulary, self.split, longest, self._encodings, "targets")

    def with_progress(
        self, batches: Iterable[tuple[np.ndarray, T]], plan: Sequence[tuple[Any, ...]], action: str = ""
    ) -> Iterator[tuple[np.ndarray, T]]:
        """Yields (rows, values) batch by batch and shows how many of the split's rows are done.

        `plan` has an item for each batch: its rows, and the shape that is compiled for it. `action` is shown beside the
        cell's name. Raises Stopped between two batches where `stop` says so.
        """
        title = f"{cell_name(self.config)} {self.split.name}" + (f": {action}" if action else "")
        compiled = set()
        with progress(title, len(self.split), "examples", show=hosts.first()) as meter:
            for (rows, values), (_, *shape) in zip(self.stop.between(batches), plan, strict=True):
                yield rows, values
                meter.advance(len(rows), counted=tuple(shape) in compiled)
                compiled.add(tuple(shape))

    @property
    def _encodings(self) -> Path:
        """Returns the folder that keeps encoded splits."""
        return Path(self.config.tracking.root) / "encodings"


def carried_columns(config: Config, split: Split) -> dict[str, Any]:
    """Returns what scores carry from the split beside numbers: the fields `slices`, `text` and `cluster` of `Scores`.

    Each column is [n] of strings or None. `text` is None where `infer.keep_text` says to keep none, and `cluster` where
    the rows have none.
    """
    return {
        "slices": {name: np.array(values, dtype=object) for name, values in split.slices.items()},
        "text": np.array(split.texts(), dtype=object) if config.keeps_text else None,
        "cluster": None if split.cluster is None else np.array(split.cluster, dtype=object),
    }
