"""Encodes the data of one cell, and logs the artifact that records where it comes from."""

import functools
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import LABELS, Config, Size, Tokenizer
from tracking.interface import Artifact, ArtifactDraft, Tracker
from train import t5
from train.data.batches import TrainBatches
from train.data.encodings import encode_split
from train.data.notices import print_once
from train.data.packing import Batch, Packer
from train.data.source import Source, source_of
from train.data.survey import survey
from train.data.tokens import SENTINELS, Encoded, Vocabulary, check_targets, get_vocabulary
from train.identity import file_sha256, identity_hash
from train.label_tree import Labels
from train.labels import as_labels
from train.rare_tokens import as_unknown, rare_tokens
from train.validation import evaluation_rows, evaluation_split

_LOADING = threading.Lock()  # of the seeds that train side by side (`mesh.seed`), one encodes and the others wait


@dataclass(frozen=True)
class CellData:
    """Holds a dataset in the token ids of one vocabulary.

    Of classification, `labels` are the K label strings and `eval_truth` [n] int64 indexes them by evaluation example;
    both are None in the other tasks. `record` is what the data artifact says. `rare` are the token ids, rising int64,
    that the model reads as UNK, which stands for them in `inputs`; None where `train.min_token_count` asks for none.
    """

    vocabulary: Vocabulary
    inputs: Encoded
    targets: Encoded
    labels: Labels | None
    eval_split: str
    eval_inputs: Encoded
    eval_targets: Encoded
    eval_truth: np.ndarray | None
    record: dict[str, Any]
    rare: np.ndarray | None = None

    @property
    def ids(self) -> int:
        """Returns how many token ids there are."""
        return self.vocabulary.size

    def summary(self) -> dict[str, int]:
        """Returns what the training run's summary says of the data."""
        return {
            "truncated_train_inputs": self.inputs.truncated,
            "truncated_train_targets": self.targets.truncated,
            "unknown_train_targets": self.targets.count_unknown(),
        } | ({} if self.rare is None else {"rare_tokens": len(self.rare)})

    def train_batches(
        self, batch_size: int, seed: int, row_cost: Callable[[int, int], float], row_multiple: int
    ) -> Callable[[int], Batch]:
        """Returns the function of a step, from 0, to its batch, as `TrainBatches` makes it."""
        return TrainBatches(self.inputs, self.targets, batch_size, seed, row_cost, row_multiple)

    def eval_batches(
        self, batch_size: int, row_cost: Callable[[int, int], float], row_multiple: int
    ) -> list[Callable[[], Batch]]:
        """Returns what makes the packed batches of the evaluation examples, `batch_size` of them in each."""
        n = len(self.eval_inputs)
        batch_size = min(batch_size, n)
        packer = Packer(self.eval_inputs, self.eval_targets, batch_size, row_cost, row_multiple)
        parts = [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
        return [functools.partial(packer, part) for part in parts]


def load_cell_data(config: Config, cache: Path) -> CellData:
    """Returns the training split and the evaluation examples, encoded; the cells of a sweep share them.

    The evaluation examples are evenly spread over the validation split, or over the scored split where there is none.
    Vocabularies and encodings are kept on disk under `cache`, and the data of the last two
    cells that differ in them in memory. Raises EdgewiseError for rows and vocabularies that can't be used.
    """
    path = config.tokenizer.path
    vocabulary_digest = "" if path is None else file_sha256(Path(path), "tokenizer.path")
    source, train = source_of(config.dataset), config.train
    with _LOADING:
        data = _encoded(source, config.tokenizer, vocabulary_digest, train.eval_examples, config.infer.split, cache)
    if train.softmax == LABELS and data.labels is not None:
        data = replace(data, labels=Labels(data.labels.padded, alone=True))
    if train.min_token_count == 1:
        return data
    rare = rare_tokens(data.inputs, data.targets, train.min_token_count, data.vocabulary.size)
    return replace(data, inputs=as_unknown(data.inputs, rare), rare=rare)


@functools.lru_cache(maxsize=2)
def _encoded(
    source: Source, tokenizer: Tokenizer, _vocabulary_digest: str, eval_examples: int, scored_split: str, cache: Path
) -> CellData:
    """Encodes what `load_cell_data` returns; the vocabulary's digest stands for the content of its file."""
    dataset = source.dataset
    splits = {name: source.split(name) for name in dict.fromkeys([*source.names, "train", scored_split])}
    train = splits["train"]
    found = survey(source, dataset)
    found.check()
    for line in found.notices():
        print_once(line)
    free_text = dataset.task != "classification"
    vocabulary = get_vocabulary(tokenizer, train, cache / "tokenizers", free_text, (dataset.classes or {}).values())
    held_out = evaluation_split(source.names, scored_split)
    rows = evaluation_rows(len(splits[held_out]), eval_examples)
    eval_inputs, eval_texts = (
        [texts[row] for row in rows] for texts in (splits[held_out].inputs, splits[held_out].targets)
    )
    if dataset.task == "classification":
        check_targets(vocabulary, dataset.classes)
        classes = list(dataset.classes.values())
        encoded_classes = vocabulary.encode(classes, max_length=1 << 20)
        encoded = {target: encoded_classes[i] for i, target in enumerate(classes)}
        targets, eval_targets = _repeat(encoded, train.targets), _repeat(encoded, eval_texts)
        labels, truth = as_labels(encoded_classes), np.array([classes.index(target) for target in eval_texts])
    else:
        length = dataset.max_target_length
        targets = encode_split(vocabulary, train, length, cache / "encodings", "targets")
        labels, truth, eval_targets = None, None, vocabulary.encode(eval_texts, length)
    return CellData(
        vocabulary=vocabulary,
        inputs=encode_split(vocabulary, train, dataset.max_input_length, cache / "encodings"),
        targets=targets,
        labels=labels,
        eval_split=held_out,
        eval_inputs=vocabulary.encode(eval_inputs, dataset.max_input_length),
        eval_targets=eval_targets,
        eval_truth=truth,
        record=data_record(source, vocabulary, cache),
    )


def data_record(source: Source, vocabulary: Vocabulary, cache: Path) -> dict[str, Any]:
    """Returns what the artifact `data-D` says of a source whose targets are encoded by `vocabulary`, as JSON values.

    It is `Source.record` with, for each split that has any, the number of targets that hold <unk>: `unknown_targets`.
    Encodings are kept under `cache`. Raises EdgewiseError as `Source.split` does.
    """
    record, dataset = source.record(), source.dataset
    if dataset.task == "classification":
        return record  # `check_targets` refuses such labels
    for name in source.names:
        split = source.split(name)
        targets = encode_split(vocabulary, split, dataset.max_target_length, cache / "encodings", "targets")
        if unknown := targets.count_unknown():
            record["splits"][name]["unknown_targets"] = unknown
    return record


def _repeat(labels: dict[str, np.ndarray], targets: list[str]) -> Encoded:
    """Returns the targets' ids by looking them up: there are far fewer label strings than rows."""
    ids = [labels[target] for target in targets]
    return Encoded(np.concatenate(ids), np.concatenate([[0], np.cumsum([len(i) for i in ids])]), 0)


def cell_size(config: Config, vocabulary: Vocabulary, ids: int | None = None) -> Size:
    """Returns the cell's architecture with its vocabulary size; EdgewiseError where the tokenizer has more pieces.

    `ids` is the number of token ids, where they are more than the tokenizer's pieces: the sentinels' are needed too.
    """
    size = t5.with_vocabulary(config.size, ids or vocabulary.size)
    assert size.vocabulary_size is not None
    if vocabulary.size > size.vocabulary_size:
        raise EdgewiseError(
            f"the tokenizer has {vocabulary.size} pieces, but size.vocabulary_size={size.vocabulary_size} of size "
            f"{size.name}: expected a model vocabulary at least as large. Take a smaller tokenizer "
            "(tokenizer.path or tokenizer.vocabulary_size) or a larger size.vocabulary_size"
        )
    if ids is not None and ids > size.vocabulary_size:
        raise EdgewiseError(
            f"the tokenizer has {vocabulary.size} pieces, and with {SENTINELS} sentinels {ids} ids, but "
            f"size.vocabulary_size={size.vocabulary_size} of size {size.name}: expected a model vocabulary at least as "
            "large. Take a smaller tokenizer or a larger size.vocabulary_size"
        )
    return size


def log_data(record: dict[str, Any], tracker: Tracker, group: str | None = None) -> Artifact:
    """Returns the artifact `data-D` with this record; a run of its own, in `group`, logs it where it is not there yet.

    `record` is as `data_record` returns it.
    """
    name = joined_name("data", record["dataset"])
    for artifact in tracker.artifacts(name, type="data"):
        if artifact.metadata == record:
            return artifact
    # Two cells may come here at once: each logs by a run of its own, and the same content is one version.
    run_id = f"{name}-{identity_hash(record)}-{uuid.uuid4().hex[:6]}"
    with tracker.temporary_directory() as folder:
        path = folder / "data.json"
        path.write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        tags = [record["dataset"]]
        with tracker.start_run(run_id, job_type="data", name=name, group=group, tags=tags, config=record) as run:
            return run.log_artifact(ArtifactDraft(name, "data", metadata=record, files={"data.json": path}))
