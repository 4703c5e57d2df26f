"""From a model to a scores artifact: every example of a split, scored against every class."""

import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np

from conf.schema import Config, Infer, Size
from infer.identity import SCORING_VERSION, ModelSource, infer_run_id, scoring_identity
from metrics.scores import Scores, ScoresMetadata, write_scores
from tracking.interface import Artifact, ArtifactDraft, Tracker
from train import t5
from train.cell_data import cell_size, dataset_record, log_data
from train.data.batches import padding_share, scoring_batches
from train.data.encodings import encode_split
from train.data.sources import Split, load_split
from train.data.tokens import Encoded, Vocabulary, check_targets
from train.identity import cell_name, identity_hash
from train.labels import pad_labels, score_examples
from train.model_artifact import Model, load_model
from train.pretrained.find import agreed_size
from train.pretrained.hf import hf_config
from train.pretrained.load import check_vocabulary, load
from train.progress import progress
from train.sharding import make_mesh, whole_rows
from train.step import dtype_of


def score(config: Config, tracker: Tracker, source: ModelSource) -> Artifact:
    """Scores one split by one model and logs `scores-D-S-sN-SPLIT`.

    Raises SwitchyardError for rows, classes or a model that can't be used.
    """
    split = load_split(config.dataset, config.infer.split)
    identity = scoring_identity(config, source.digest)
    with tracker.start_run(
        infer_run_id(config, source.digest),
        job_type="infer",
        name=f"infer {cell_name(config)} {split.name}",
        group=config.tracking.group,
        tags=[config.dataset.name, config.size.name],
        config={**identity, "identity": identity_hash(identity)},
        restart=config.force,
    ) as run:
        if source.artifact is not None:
            run.use_artifact(source.artifact)
        run.use_artifact(log_data(dataset_record(config.dataset), tracker))
        mesh, artifact = make_mesh(config.mesh), source.artifact
        model = outside_model(config, source, mesh) if artifact is None else load_model(artifact, mesh)
        scores, summary = score_split(config, split, model, source.digest, mesh)
        run.set_summary(summary)
        name = f"scores-{cell_name(config)}-{split.name}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "scores.parquet"
            write_scores(scores, file)
            metadata = {key: value for key, value in vars(scores.metadata).items() if key != "config"} | summary
            return run.log_artifact(ArtifactDraft(name, "scores", metadata=metadata, files={file.name: file}))


def score_split(
    config: Config, split: Split, model: Model, digest: str, mesh: jax.sharding.Mesh
) -> tuple[Scores, dict[str, float]]:
    """The split's scores, and a summary: accuracy, rows cut at the maximum length, the share of padding.

    `model` lies over `mesh`; `digest` is its content.
    """
    classes = list(config.dataset.classes.values())
    check_targets(model.vocabulary, config.dataset.classes)
    cache = Path(config.tracking.root) / "encodings"
    inputs = encode_split(model.vocabulary, split, config.dataset.max_input_length, cache)
    labels = model.vocabulary.encode(classes, max_length=1 << 20)
    batch_size = whole_rows(mesh, min(config.infer.batch_size, len(split)))
    batches = plan_batches(config.infer, inputs.lengths, batch_size)
    dtype = dtype_of(config)

    log_likelihoods = np.empty((len(split), len(classes)), np.float32)
    scored = score_examples(model.params, inputs, pad_labels(labels), model.size, dtype, mesh, batches, batch_size)
    with progress(f"{cell_name(config)} {split.name}", len(split), "examples") as meter:
        for rows, values in scored:
            log_likelihoods[rows] = values
            meter.advance(len(rows))

    prediction = np.array(classes, dtype=object)[log_likelihoods.argmax(axis=1)]
    target = np.array(split.targets, dtype=object)
    metadata = ScoresMetadata(
        dataset=config.dataset.name,
        size=config.size.name,
        seed=config.seed,
        split=split.name,
        task="classification",
        classes=classes,
        parameters=t5.count_parameters(model.size),
        flops_per_example=mean_flops(model.size, inputs, labels),
        model=digest,
        data=split.fingerprint,
        signature=f"scores:label_log_likelihood|sum:tokens+eos|normalized:no|dtype:{dtype}|version:{SCORING_VERSION}",
        config={
            "training": model.cell,
            "scoring": scoring_identity(config, digest),
            "label_tokens": [int(n) for n in labels.lengths],
        },
    )
    slices = {name: np.array(values, dtype=object) for name, values in split.slices.items()}
    ids = np.array(split.example_id, dtype=object)
    correct = prediction == target
    scores = Scores(metadata, ids, target, prediction, correct.astype(bool), log_likelihoods, slices)
    return scores, {
        "accuracy": float(correct.mean()),
        "examples": len(split),
        "truncated_inputs": inputs.truncated,
        "padding_share": padding_share(inputs.lengths, batches, batch_size),
    }


def plan_batches(infer: Infer, lengths: np.ndarray, batch_size: int) -> list[tuple[np.ndarray, int]]:
    """Batches over the fewest lengths that keep padding under `max_padding`: each length is compiled by itself."""
    for buckets in range(1, infer.length_buckets + 1):
        batches = scoring_batches(lengths, batch_size, buckets)
        if padding_share(lengths, batches, batch_size) <= infer.max_padding:
            break
    return batches


def mean_flops(size: Size, inputs: Encoded, labels: Encoded) -> float:
    """Mean floating-point operations of scoring one example: encoded once, decoded against every label string."""
    return float(t5.forward_flops(size, inputs.lengths, labels.lengths.sum()).mean())


def outside_model(config: Config, source: ModelSource, mesh: jax.sharding.Mesh) -> Model:
    """A model from outside, laid over `mesh`; its vocabulary is `tokenizer.path`, or its own spiece.model.

    Raises SwitchyardError for an architecture other than the config's, and for a vocabulary that doesn't fit.
    """
    checkpoint = source.checkpoint
    assert checkpoint is not None
    size = agreed_size(config.size, checkpoint, "infer.checkpoint")
    vocabulary = Vocabulary.from_file(config.tokenizer.path or checkpoint.vocabulary or "spiece.model")
    cell_size(dataclasses.replace(config, size=size), vocabulary)
    check_vocabulary(checkpoint, vocabulary)
    cell = {"checkpoint": checkpoint.content, "architecture": hf_config(size)}
    return Model(size, load(checkpoint, size, mesh), vocabulary, cell)
