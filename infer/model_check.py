"""Runs a model on the self-check's random token ids, when its scores are made and when it is deployed."""

from typing import Any

import numpy as np

from infer.job import ScoringJob
from infer.self_check import LENGTH, ROWS, random_inputs, record
from infer.sequences import SequenceBatch, score_sequences
from train.data.batches import ScoringBatch, plan_batches
from train.label_tree import Labels
from train.labels import score_examples, scoring_budget
from train.running_model import RunningModel
from train.sharding import whole_rows

SEED = 0


def job_self_check(job: ScoringJob) -> dict[str, Any]:
    """Returns the self-check of a job's model, as JSON values: of classes in a shape that the job has compiled."""
    model, classes = job.model, list((job.config.dataset.classes or {}).values())
    batch = labels = None
    length = LENGTH
    if classes:
        labels = model.labels(classes)
        budget = scoring_budget(job.config.infer, labels, job.mesh)
        planned = plan_batches(job.config.infer, job.inputs().lengths, budget)[-1]
        length = max(2, min(LENGTH, planned.length))
        batch = ScoringBatch(np.arange(min(ROWS, planned.row_count)), max(2, planned.length), planned.row_count)
    rows = ROWS if batch is None else len(batch.rows)
    check = record(SEED, model.vocabulary.size, length, np.zeros((rows, 0)))
    return record(SEED, model.vocabulary.size, length, check_values(job.running, check, labels, batch))


def check_values(
    model: RunningModel, check: dict[str, Any], labels: Labels | None, batch: ScoringBatch | None = None
) -> np.ndarray:
    """Returns the log-likelihoods that a model gives for a self-check's ids: [rows, K] of its K labels, float32.

    Without labels, [rows, 1]: the sum of the log-probabilities of as many random target tokens. `batch` is the shape to
    run in, by default the smallest.
    """
    rows, length = check["rows"], check["length"]
    inputs = random_inputs(check["seed"], rows, length, check["pieces"])
    values = np.zeros((rows, 1 if labels is None else len(labels)), np.float32)
    if labels is not None:
        batch = batch or ScoringBatch(np.arange(rows), length, whole_rows(model.mesh, rows))
        for places, scores in score_examples(model, inputs, labels, [batch]):
            values[places] = scores
        return values
    targets = random_inputs(check["seed"] + 1, rows, length, check["pieces"])
    shape = SequenceBatch(np.arange(rows), length, length, whole_rows(model.mesh, rows))
    for places, [scored] in score_sequences(model, inputs, [targets], [shape]):
        for row, one in zip(places, scored, strict=True):
            values[row] = np.asarray(one.log_probs).sum()
    return values
