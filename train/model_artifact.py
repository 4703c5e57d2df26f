"""Writes and reads a model artifact: weights and architecture in Hugging Face's layout, the vocabulary, the cell.

The same training gives the same bytes, so the artifact's digest says whether two runs trained the same model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from conf.schema import LABELS, Size
from tracking.interface import Artifact, ArtifactDraft
from train import t5
from train.data.tokens import Vocabulary
from train.identity import softmax_of
from train.label_tree import Labels
from train.labels import as_labels
from train.pretrained import find, hf, load

WEIGHTS, ARCHITECTURE, VOCABULARY, CELL = hf.WEIGHTS, hf.CONFIG, hf.VOCABULARY, find.CELL


@dataclass(frozen=True)
class Model:
    """Holds a model that was read back: `params` are float32, stacked; `cell` is its training's identity."""

    size: Size
    params: t5.Params
    vocabulary: Vocabulary
    cell: dict[str, Any]

    @property
    def labels_alone(self) -> bool:
        """Tells whether the softmax that it was trained with is over the labels' tokens alone (`train.softmax`)."""
        return softmax_of(self.cell) == LABELS

    def labels(self, classes: Sequence[str]) -> Labels:
        """Returns label strings in its vocabulary, to be scored by the softmax that it was trained with."""
        return as_labels(self.vocabulary.encode(classes, max_length=1 << 20), self.labels_alone)


def model_artifact(
    folder: Path, name: str, size: Size, params: t5.Params, vocabulary: Vocabulary, cell: dict[str, Any]
) -> ArtifactDraft:
    """Writes the files into `folder` and returns the draft `model-NAME` of them."""
    hf.save(folder, size, params)
    (folder / VOCABULARY).write_bytes(vocabulary.model)
    (folder / CELL).write_text(json.dumps(cell, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    metadata = {"parameters": t5.count_parameters(size), "cell": cell}
    files = {file: folder / file for file in (WEIGHTS, ARCHITECTURE, VOCABULARY, CELL)}
    return ArtifactDraft(f"model-{name}", "model", metadata=metadata, files=files)


def load_model(artifact: Artifact, mesh: jax.sharding.Mesh | None) -> Model:
    """Reads a model artifact; its `params` are laid over `mesh`, or are numpy without one.

    Raises TrackingError where a file was altered, EdgewiseError where one is not a model's.
    """
    checkpoint = find.from_artifact(artifact)
    cell = json.loads(artifact.file(CELL).read_text())
    params = load.load(checkpoint, checkpoint.size, mesh)
    return Model(checkpoint.size, params, Vocabulary.from_file(artifact.file(VOCABULARY)), cell)
