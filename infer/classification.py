"""Scores a split of a classification dataset: every example against every class."""

import numpy as np

from conf.schema import Size
from infer.job import ScoringJob, carried_columns
from infer.metadata import scores_metadata
from metrics.scores import Scores
from train import t5
from train.data.batches import padding_share, plan_batches
from train.data.tokens import Encoded, check_targets
from train.label_tree import Labels
from train.labels import score_examples, scoring_budget


def classify(job: ScoringJob) -> tuple[Scores, dict[str, float]]:
    """Returns the split's scores, and a summary: accuracy, rows cut at the maximum length, the share of padding.

    Raises EdgewiseError for class names that the vocabulary can't tell apart or write, and Stopped between two batches
    where `job.stop` says so.
    """
    config, split, model = job.config, job.split, job.model
    classes = list(config.dataset.classes.values())
    check_targets(model.vocabulary, config.dataset.classes)
    inputs = job.inputs()
    labels = model.labels(classes)
    batches = plan_batches(config.infer, inputs.lengths, scoring_budget(config.infer, labels, job.mesh))

    log_likelihoods = np.empty((len(split), len(classes)), np.float32)
    for rows, values in job.with_progress(score_examples(job.running, inputs, labels, batches), batches):
        log_likelihoods[rows] = values

    prediction = np.array(classes, dtype=object)[log_likelihoods.argmax(axis=1)]
    target = np.array(split.targets, dtype=object)
    correct = (prediction == target).astype(bool)
    scores = Scores(
        metadata=scores_metadata(
            job,
            classes=classes,
            flops=mean_flops(model.size, inputs, labels),
            signature=f"scores:label_log_likelihood|sum:tokens+eos|normalized:no|dtype:{job.dtype}"
            + ("|softmax:labels" if labels.outputs else ""),
            more_config={"label_tokens": labels.lengths},
        ),
        example_id=np.array(split.example_id, dtype=object),
        target=target,
        prediction=prediction,
        correct=correct,
        class_log_likelihoods=log_likelihoods,
        **carried_columns(config, split),
    )
    return scores, {
        "accuracy": float(correct.mean()),
        "examples": len(split),
        "truncated_inputs": inputs.truncated,
        "padding_share": padding_share(inputs.lengths, batches),
    }


def mean_flops(size: Size, inputs: Encoded, labels: Labels) -> float:
    """Returns the mean floating-point operations of an example: encoded once, decoded against every label string."""
    return float(t5.forward_flops(size, inputs.lengths, np.sum(labels.lengths), len(labels.outputs)).mean())
