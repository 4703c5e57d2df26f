"""Identifies scores: by the model, the rows and the way of scoring. Starts without JAX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import AUTO, Config
from metrics.scores import OPTIONAL_STRINGS, Scores
from tracking.interface import Artifact, NotFound, Tracker
from train.identity import cell_name, dataset_identity, file_sha256, identity_hash, trained_model
from train.pretrained.find import Checkpoint, find

SCORING_VERSION = 1  # counts changes of the code that change what a model scores


@dataclass(frozen=True)
class ModelSource:
    """Says where the weights to be scored are: in an artifact, or in a checkpoint from outside.

    `digest` is their content; `note` is what the user should know of the choice.
    """

    digest: str
    artifact: Artifact | None = None
    checkpoint: Checkpoint | None = None
    note: str | None = None


def find_model(config: Config, tracker: Tracker) -> ModelSource:
    """Finds the model to score: `infer.checkpoint`, else the one that this config trains, else the cell's latest.

    Raises EdgewiseError where there is none, saying what to run, and for a dataset without labels.
    """
    config.dataset.check_labelled()
    if config.infer.checkpoint is not None:
        return _outside_model(config.infer.checkpoint, config)
    trained = trained_model(config, tracker)
    if trained is not None:
        return ModelSource(trained.digest, trained)
    name = f"model-{cell_name(config)}"
    try:
        latest = tracker.artifact(f"{name}:latest")
    except NotFound:
        overrides = f"dataset={config.dataset.name} size={config.size.name} seed={config.seed}"
        raise EdgewiseError(f"there is no artifact {name}: run `python -m train {overrides}` first") from None
    note = f"{latest.ref} was trained with other settings than this command's; its own are kept with the scores"
    return ModelSource(latest.digest, latest, note=note)


def _outside_model(where: str, config: Config) -> ModelSource:
    """Returns the model at `infer.checkpoint`; its digest covers another vocabulary too, `tokenizer.path`."""
    checkpoint = find(where, "infer.checkpoint", config.tracking)
    if checkpoint.artifact is not None:
        return ModelSource(checkpoint.content, checkpoint.artifact)
    path = config.tokenizer.path
    if path is None or (checkpoint.vocabulary is not None and Path(path) == checkpoint.vocabulary):
        return ModelSource(checkpoint.content, checkpoint=checkpoint)
    vocabulary = file_sha256(Path(path), "tokenizer.path")  # not the checkpoint's own: its content decides scores too
    return ModelSource(f"{checkpoint.content}+{vocabulary[:16]}", checkpoint=checkpoint)


def scoring_identity(config: Config, model_digest: str) -> dict[str, Any]:
    """Returns everything that decides the scores' numbers, as JSON values."""
    return {
        "version": SCORING_VERSION,
        "model": model_digest,
        "dataset": dataset_identity(config),
        "split": config.infer.split,
        "dtype": config.train.dtype,
    } | decoding_settings(config)


def decoding_settings(config: Config) -> dict[str, Any]:
    """Returns the settings by which answers are written and compared; {} for classes, which are not."""
    infer = config.infer
    if config.dataset.task == "classification":
        return {}
    settings: dict[str, Any] = {"beams": infer.beams}
    if infer.beams > 1:
        settings["length_penalty"] = infer.length_penalty
    if config.dataset.task == "translation":
        settings["bleu_tokenizer"] = infer.bleu_tokenizer
    return settings


def quality(metadata: Mapping[str, Any]) -> str:
    """Writes how good a scores artifact says its model is: `accuracy 0.9312`, or `exact match 0.8110, F1 0.8842`."""
    if "bleu" in metadata:
        return f"BLEU {metadata['bleu']:.2f}"
    if "f1" in metadata:
        return f"exact match {metadata['accuracy']:.4f}, F1 {metadata['f1']:.4f}"
    return f"accuracy {metadata['accuracy']:.4f}"


def infer_run_id(config: Config, model_digest: str) -> str:
    """Returns the id of the run that scores this split by this model."""
    identity = identity_hash(scoring_identity(config, model_digest))
    return f"infer-{cell_name(config)}-{joined_name(config.infer.split)}-{identity}"


def optional_columns(scores: Scores) -> list[str]:
    """Names the optional columns that scores hold, as the metadata of their artifact lists them."""
    return [name for name in OPTIONAL_STRINGS if getattr(scores, name) is not None]


def column_note(config: Config, scores: Artifact) -> str | None:
    """Returns in which optional columns finished scores differ from what the config asks for; None where in none.

    These columns change no number, so scores that are there already count as done.
    """
    there = scores.metadata.get("optional_columns", [])
    keep, cluster = config.infer.keep_text, config.dataset.cluster
    differing = []
    if config.keeps_text and "text" not in there:
        differing.append(f"no text (infer.keep_text={str(keep).lower()})")
    if keep is False and "text" in there:
        differing.append("text (infer.keep_text=false)")
    if cluster not in (None, AUTO) and "cluster" not in there:
        differing.append(f"no cluster (dataset.cluster={cluster})")
    if not differing:
        return None
    return f"{scores.ref} holds {' and '.join(differing)}; `python -m infer … force=true` scores the cell again"


def finished_scores(config: Config, tracker: Tracker, model_digest: str) -> Artifact | None:
    """Returns the scores artifact of this model on this split; None where its run has not finished."""
    run_id = infer_run_id(config, model_digest)
    record = tracker.run(run_id)
    if record is None or record.state != "finished":
        return None
    return next((a for a in tracker.outputs(run_id) if a.type == "scores"), None)
