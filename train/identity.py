"""Identifies a cell: by a hash of all config that can change its numbers, and of the data it reads.

The identity leaves out paths (the files' content is in it), logging, checkpointing, the batching of the scoring, the
mesh and the launcher. Starts without JAX.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import BPE, SPAN_CORRUPTION, VOCABULARY, Config, Optimizer
from tracking.interface import Artifact, Tracker
from train.data.source import source_of
from train.pretrained.find import initial_content
from train.validation import chooses

TRAINING_VERSION = 2  # counts changes of the code that change what a config trains
NOT_IN_IDENTITY = (
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "eval_every",
    "eval_examples",
    "remat",
    "attention",
    "unroll",
)
OF_SPAN_CORRUPTION = ("objective", "noise_density", "mean_noise_span_length")


def training_identity(config: Config) -> dict[str, Any]:
    """Returns everything that decides a trained model's numbers, as JSON values; EdgewiseError for missing files."""
    # What evaluations decide goes in where they decide: cells from before they could keep their identity.
    left_out = () if chooses(config.train) else ("keep", "patience")
    evaluations = ("eval_every", "eval_examples") if chooses(config.train) else ()
    train = {
        key: value
        for key, value in vars(config.train).items()
        if key in evaluations or key not in (*NOT_IN_IDENTITY, *left_out)
    }
    train["init"] = initial_content(config)
    if config.train.objective != SPAN_CORRUPTION:  # cells from before there was another keep their identity
        train = {key: value for key, value in train.items() if key not in OF_SPAN_CORRUPTION}
    if config.train.token_dropout == 0:  # likewise
        del train["token_dropout"]
    if config.train.min_token_count == 1:  # likewise
        del train["min_token_count"]
    if config.train.softmax == VOCABULARY:  # likewise
        del train["softmax"]
    tokenizer: dict[str, Any] = {"vocabulary_size": config.tokenizer.vocabulary_size}
    if config.tokenizer.lower_case:  # likewise
        tokenizer["lower_case"] = True
    if config.tokenizer.whole_labels:
        tokenizer["whole_labels"] = True
    if config.tokenizer.model_type != BPE:
        tokenizer["model_type"] = config.tokenizer.model_type
    if config.tokenizer.path is not None:
        tokenizer = {"sha256": file_sha256(Path(config.tokenizer.path), "tokenizer.path")}
    return {
        "version": TRAINING_VERSION,
        "dataset": dataset_identity(config),
        "size": config.size.recorded(),
        "tokenizer": tokenizer,
        "optimizer": _optimizer_identity(config.optimizer),
        "train": train,
        "seed": config.seed,
    }


def _optimizer_identity(optimizer: Optimizer) -> dict[str, Any]:
    """Returns the optimizer's part of an identity: what the other optimizer alone reads is as by default."""
    values, default = dict(vars(optimizer)), Optimizer()
    return values | {key: getattr(default, key) for key in optimizer.of_others}


def softmax_of(cell: dict[str, Any]) -> str:
    """Returns the `train.softmax` that a training's identity says; of a model from elsewhere, the vocabulary's."""
    return str(cell.get("train", {}).get("softmax", VOCABULARY))


def dataset_identity(config: Config) -> dict[str, Any]:
    """Returns the dataset's part of an identity: how rows become text, and the digest of their source."""
    dataset = config.dataset
    return {
        "name": dataset.name,
        "task": dataset.task,
        "label_column": dataset.label_column,
        "classes": list(map(list, dataset.classes.items())) if dataset.classes else None,
        "template": dataset.template,
        "max_input_length": dataset.max_input_length,
        "source": source_of(dataset).digest,
    } | ({} if dataset.task == "classification" else {"max_target_length": dataset.max_target_length})


def settings(config: Config) -> dict[str, Any]:
    """Returns the rest of the config, for people to read: what changes no number, without paths."""
    infer = {key: value for key, value in vars(config.infer).items() if key != "checkpoint"}
    return {
        "train": {key: getattr(config.train, key) for key in NOT_IN_IDENTITY},
        "infer": infer,
        "mesh": dict(vars(config.mesh)),
    }


def identity_hash(identity: dict[str, Any]) -> str:
    """Returns 12 hex digits of the sha256 of an identity's canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cell_name(config: Config) -> str:
    """Returns `D-S-sN`, which is part of every name that belongs to a cell: another for every other cell."""
    return joined_name(config.dataset.name, config.size.name, f"s{config.seed}")


def train_run_id(config: Config) -> str:
    """Returns the id of the run that trains this cell: the same cell resumes the same run."""
    return f"train-{cell_name(config)}-{identity_hash(training_identity(config))}"


def trained_model(config: Config, tracker: Tracker) -> Artifact | None:
    """Returns the model artifact of this very cell; None where its run has not finished."""
    run_id = train_run_id(config)
    record = tracker.run(run_id)
    if record is None or record.state != "finished":
        return None
    return next((a for a in tracker.outputs(run_id) if a.type == "model"), None)


def file_sha256(path: Path, key: str) -> str:
    """Returns the hex sha256 of a file that config key `key` names; EdgewiseError where there is none."""
    try:
        with path.expanduser().open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EdgewiseError(f"{key}={path}: {error.strerror}; expected a file") from None
