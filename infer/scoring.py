"""Scores a split by a model and logs the scores as an artifact."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax

from conf.names import joined_name
from conf.schema import Config
from infer.classification import classify
from infer.generation import generate
from infer.identity import ModelSource, infer_run_id, optional_columns, scoring_identity
from infer.job import ScoringJob
from infer.model_check import job_self_check
from infer.self_check import FILE as SELF_CHECK
from metrics.scores import Scores, write_scores
from metrics.scores.preview import most_uncertain
from tracking.interface import Artifact, ArtifactDraft, Tracker
from train.cell_data import cell_size, data_record, log_data
from train.data.source import source_of
from train.data.tokens import Vocabulary
from train.device_errors import OF_SCORING, device_errors
from train.identity import cell_name, identity_hash, settings
from train.model_artifact import Model, load_model
from train.pretrained.find import agreed_size
from train.pretrained.hf_config import hf_config
from train.pretrained.load import check_vocabulary, load
from train.sharding import make_mesh
from train.stopping import Stop, Stopped
from train.text_baseline import text_baseline


def score(
    config: Config,
    tracker: Tracker,
    source: ModelSource,
    devices: Sequence[jax.Device] | None = None,
    stop: Stop | None = None,
) -> Artifact:
    """Scores one split by one model and logs `scores-D-S-sN-SPLIT`.

    `devices` are those that the mesh lies over, by default all. Raises EdgewiseError for rows, classes or a model that
    can't be used, and Stopped where a signal was noted in the caller's `stop`: then nothing is kept of the scores.
    """
    stop = stop or Stop()
    rows = source_of(config.dataset)
    split = rows.split(config.infer.split)
    stop.check()
    identity = scoring_identity(config, source.digest)
    with tracker.start_run(
        infer_run_id(config, source.digest),
        job_type="infer",
        name=f"infer {cell_name(config)} {split.name}",
        group=config.tracking.group,
        tags=[config.dataset.name, config.size.name],
        config={**identity, "identity": identity_hash(identity), "settings": settings(config)},
        restart=config.force,
    ) as run:
        if source.artifact is not None:
            run.use_artifact(source.artifact)
        mesh, artifact = make_mesh(config.mesh, devices), source.artifact
        model = outside_model(config, source, mesh) if artifact is None else load_model(artifact, mesh)
        record = data_record(rows, model.vocabulary, Path(config.tracking.root))
        run.use_artifact(log_data(record, tracker, config.tracking.group))
        try:
            job = ScoringJob(config, split, model, source.digest, mesh, stop)
            with device_errors(OF_SCORING):
                scores, summary = score_split(job)
                self_check = job_self_check(job)
        except Stopped:
            run.finish("stopped", f"stopped by signal {stop.received} while it scored: the same command scores again")
            raise
        run.set_summary(summary)
        run.log_table("most_uncertain", *most_uncertain(scores))
        name = f"scores-{cell_name(config)}-{joined_name(split.name)}"
        with tracker.temporary_directory() as folder:
            file = folder / "scores.parquet"
            write_scores(scores, file)
            check_file = folder / SELF_CHECK
            check_file.write_text(json.dumps(self_check, indent=1, sort_keys=True) + "\n")
            metadata = {key: value for key, value in vars(scores.metadata).items() if key != "config"} | summary
            metadata["optional_columns"] = optional_columns(scores)
            if (baseline := text_baseline(rows, split.name, Path(config.tracking.root))) is not None:
                metadata["baseline"] = baseline.as_metadata()
            files = {file.name: file, check_file.name: check_file}
            return run.log_artifact(ArtifactDraft(name, "scores", metadata=metadata, files=files))


def score_split(job: ScoringJob) -> tuple[Scores, dict[str, float]]:
    """Returns the split's scores and a summary of them, by whichever way the dataset's task needs.

    Raises Stopped between two batches where `job.stop` says so.
    """
    return classify(job) if job.config.dataset.task == "classification" else generate(job)


def outside_model(config: Config, source: ModelSource, mesh: jax.sharding.Mesh) -> Model:
    """Returns a model from outside, laid over `mesh`; its vocabulary is `tokenizer.path`, or its own spiece.model.

    Raises EdgewiseError for an architecture other than the config's, and for a vocabulary that doesn't fit.
    """
    checkpoint = source.checkpoint
    assert checkpoint is not None
    size = agreed_size(config.size, checkpoint, "infer.checkpoint")
    vocabulary = Vocabulary.from_file(config.tokenizer.path or checkpoint.vocabulary or "spiece.model")
    cell_size(dataclasses.replace(config, size=size), vocabulary)
    check_vocabulary(checkpoint, vocabulary)
    cell = {"checkpoint": checkpoint.content, "architecture": hf_config(size)}
    return Model(size, load(checkpoint, size, mesh), vocabulary, cell)
