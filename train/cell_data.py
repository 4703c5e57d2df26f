"""The data of one cell in token ids, and the artifact that records where it comes from."""

import functools
import json
import tempfile
import threading
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Config, Dataset, Recipe, Size, Tokenizer
from tracking.interface import Artifact, ArtifactDraft, Tracker
from train import t5
from train.data.encodings import encode_split
from train.data.sources import Split, expected_rows, load_split, source_digest, source_record, split_names
from train.data.tokens import Encoded, Vocabulary, check_targets, get_vocabulary
from train.identity import file_sha256, identity_hash
from train.label_tree import Labels
from train.labels import as_labels

# Seeds that train side by side (`mesh.seed`) ask at once for the same: the first reads, the others wait and find it.
_READING = threading.Lock()
_SPLITS: weakref.WeakValueDictionary[tuple[str, str, str], Split] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class CellData:
    """A dataset as a model of one vocabulary sees it. Classes have `labels`, and `eval_truth` [n] indexes them;
    both are None in the other tasks.
    """

    vocabulary: Vocabulary
    inputs: Encoded
    targets: Encoded
    labels: Labels | None
    eval_split: str
    eval_inputs: Encoded
    eval_targets: Encoded
    eval_truth: np.ndarray | None
    record: dict[str, Any]  # of the data artifact


def load_cell_data(config: Config, cache: Path) -> CellData:
    """The training split and the evaluation examples, encoded; kept, so that the cells of a sweep share them.

    The evaluation examples are the first of the validation split, or of the scored split where there is none: they are
    logged and decide nothing.
    """
    path = config.tokenizer.path
    vocabulary_digest = "" if path is None else file_sha256(Path(path), "tokenizer.path")
    rest = json.dumps([vars(config.tokenizer), config.train.eval_examples, config.infer.split])
    with _READING:
        return _load(_dataset_key(config.dataset), rest, source_digest(config.dataset), vocabulary_digest, cache)


def dataset_record(dataset: Dataset) -> dict[str, Any]:
    """The record of `data-D` (see `data_record`); kept, so that a sweep's cells don't read all rows for it again."""
    with _READING:
        return _dataset_record(_dataset_key(dataset), source_digest(dataset))


def shared_split(dataset: Dataset, name: str) -> Split:
    """`load_split`, read once for all who have it in hand at one time."""
    with _READING:
        key = _dataset_key(dataset), name, source_digest(dataset)
        split = _SPLITS.get(key)
        if split is None:
            split = _SPLITS[key] = load_split(dataset, name)
        return split


@functools.lru_cache(maxsize=8)
def _dataset_record(key: str, _source: str) -> dict[str, Any]:
    dataset = _dataset_of(key)
    return data_record(dataset, {name: load_split(dataset, name) for name in split_names(dataset)})


def _dataset_key(dataset: Dataset) -> str:
    """A dataset's config as text, for a cache; its recipe decides no row."""
    return json.dumps({**vars(dataset), "recipe": None})


def _dataset_of(key: str) -> Dataset:
    return Dataset(**{**json.loads(key), "recipe": Recipe()})


@functools.lru_cache(maxsize=2)
def _load(key: str, rest: str, _source: str, _vocabulary: str, cache: Path) -> CellData:
    dataset = _dataset_of(key)
    tokenizer_values, eval_examples, scored_split = json.loads(rest)
    splits = {name: load_split(dataset, name) for name in split_names(dataset)}
    for name in ("train", scored_split):
        splits[name] = splits[name] if name in splits else load_split(dataset, name)  # raises, saying what is there
    train = splits["train"]
    vocabulary = get_vocabulary(
        Tokenizer(**tokenizer_values), train, cache / "tokenizers", free_text=dataset.task != "classification"
    )
    held_out = "validation" if "validation" in splits else scored_split
    some = slice(0, eval_examples)
    eval_texts = splits[held_out].targets[some]
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
        eval_inputs=vocabulary.encode(splits[held_out].inputs[some], dataset.max_input_length),
        eval_targets=eval_targets,
        eval_truth=truth,
        record=data_record(dataset, splits),
    )


def _repeat(labels: dict[str, np.ndarray], targets: list[str]) -> Encoded:
    """The targets' ids, looked up: there are far fewer label strings than rows."""
    ids = [labels[target] for target in targets]
    return Encoded(np.concatenate(ids), np.concatenate([[0], np.cumsum([len(i) for i in ids])]), 0)


def cell_size(config: Config, vocabulary: Vocabulary) -> Size:
    """The cell's architecture with its vocabulary filled in; EdgewiseError where the tokenizer's does not fit."""
    size = t5.with_vocabulary(config.size, vocabulary.size)
    assert size.vocabulary_size is not None
    if vocabulary.size > size.vocabulary_size:
        raise EdgewiseError(
            f"the tokenizer has {vocabulary.size} pieces, but size.vocabulary_size={size.vocabulary_size} of size "
            f"{size.name}: expected a model vocabulary at least as large. Take a smaller tokenizer "
            "(tokenizer.path or tokenizer.vocabulary_size) or a larger size.vocabulary_size"
        )
    return size


def data_record(dataset: Dataset, splits: dict[str, Split]) -> dict[str, Any]:
    """What `data-D` says: where the rows are from, how they become text, and each split's counts and fingerprint."""
    return {
        "dataset": dataset.name,
        "source": source_digest(dataset),
        "from": source_record(dataset),
        "template": dataset.template,
        **({"classes": list(map(list, dataset.classes.items()))} if dataset.classes else {"task": dataset.task}),
        "splits": {name: _split_record(dataset, split) for name, split in splits.items()},
    }


def _split_record(dataset: Dataset, split: Split) -> dict[str, Any]:
    record: dict[str, Any] = {"rows": len(split), "fingerprint": split.fingerprint}
    if split.skipped:
        record["skipped"] = split.skipped
    expected = expected_rows(dataset, split.name)
    if expected is not None:
        record |= {"expected_rows": expected, "difference": len(split) - expected}
    return record


def log_data(record: dict[str, Any], tracker: Tracker) -> Artifact:
    """The artifact `data-D` with this record; logged by a run of its own where it is not there yet."""
    name = f"data-{record['dataset']}"
    for artifact in tracker.artifacts(name, type="data"):
        if artifact.metadata == record:
            return artifact
    # Two cells may come here at once: each logs by a run of its own, and the same content is one version.
    run_id = f"{name}-{identity_hash(record)}-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.json"
        path.write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        with tracker.start_run(run_id, job_type="data", name=name, tags=[record["dataset"]], config=record) as run:
            return run.log_artifact(ArtifactDraft(name, "data", metadata=record, files={"data.json": path}))
