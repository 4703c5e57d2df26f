"""A split of a classification dataset: every example scored against every class."""

from pathlib import Path

import jax
import numpy as np

from conf.schema import Config, Size
from infer.metadata import scores_metadata
from metrics.scores import Scores
from train import hosts, t5
from train.data.batches import padding_share, plan_batches
from train.data.encodings import encode_split
from train.data.splits import Split
from train.data.tokens import Encoded, check_targets
from train.identity import cell_name
from train.labels import as_labels, score_examples, scoring_budget
from train.model_artifact import Model
from train.progress import progress
from train.step import dtype_of
from train.stopping import Stop


def classify(
    config: Config, split: Split, model: Model, digest: str, mesh: jax.sharding.Mesh, stop: Stop
) -> tuple[Scores, dict[str, float]]:
    """The split's scores, and a summary: accuracy, rows cut at the maximum length, the share of padding.

    `model` lies over `mesh`; `digest` is its content. Raises Stopped between two batches where `stop` says so.
    """
    classes = list(config.dataset.classes.values())
    check_targets(model.vocabulary, config.dataset.classes)
    cache = Path(config.tracking.root) / "encodings"
    inputs = encode_split(model.vocabulary, split, config.dataset.max_input_length, cache)
    encoded_classes = model.vocabulary.encode(classes, max_length=1 << 20)
    labels = as_labels(encoded_classes)
    budget = scoring_budget(config.infer, labels, mesh)
    batches = plan_batches(config.infer, inputs.lengths, budget)
    dtype = dtype_of(config)

    log_likelihoods = np.empty((len(split), len(classes)), np.float32)
    scored = score_examples(model.params, inputs, labels, model.size, dtype, mesh, batches)
    with progress(f"{cell_name(config)} {split.name}", len(split), "examples", show=hosts.first()) as meter:
        for rows, values in stop.between(scored):
            log_likelihoods[rows] = values
            meter.advance(len(rows))

    prediction = np.array(classes, dtype=object)[log_likelihoods.argmax(axis=1)]
    target = np.array(split.targets, dtype=object)
    metadata = scores_metadata(
        *(config, split, model, digest),
        classes=classes,
        flops=mean_flops(model.size, inputs, encoded_classes),
        signature=f"scores:label_log_likelihood|sum:tokens+eos|normalized:no|dtype:{dtype}",
        further={"label_tokens": [int(n) for n in encoded_classes.lengths]},
    )
    slices = {name: np.array(values, dtype=object) for name, values in split.slices.items()}
    ids = np.array(split.example_id, dtype=object)
    correct = prediction == target
    scores = Scores(metadata, ids, target, prediction, correct.astype(bool), log_likelihoods, slices)
    return scores, {
        "accuracy": float(correct.mean()),
        "examples": len(split),
        "truncated_inputs": inputs.truncated,
        "padding_share": padding_share(inputs.lengths, batches),
    }


def mean_flops(size: Size, inputs: Encoded, labels: Encoded) -> float:
    """Mean floating-point operations of scoring one example: encoded once, decoded against every label string."""
    return float(t5.forward_flops(size, inputs.lengths, labels.lengths.sum()).mean())
