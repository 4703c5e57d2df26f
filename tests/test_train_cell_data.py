"""Targets that the vocabulary can't spell are counted for each split, and said."""

import json

import pytest

from infer.identity import find_model
from tests.training import config_in, train_here
from tracking.store import Store
from train.cell_data import data_record, load_cell_data
from train.data.notices import print_once
from train.data.source import source_of
from train.data.tokens import Vocabulary

ENGLISH = ["a red dog", "two cats", "the old house", "a fish", "one bird sings", "three men"]
SPELT = ["ein roter Hund", "zwei Katzen", "das alte Haus", "ein Fisch", "ein Vogel singt", "drei Leute"]
UNKNOWN = ["ein {roter} Hund", "两只猫", *SPELT[2:]]


@pytest.fixture
def config(compose, tmp_path):
    """A function: targets of the training and of the test split -> the config of a cell on them."""
    vocabulary = tmp_path / "ascii.model"
    vocabulary.write_bytes(Vocabulary.train([*ENGLISH, *SPELT] * 4, 80).model)

    def make(train, test):
        folder = tmp_path / "pairs"
        folder.mkdir(exist_ok=True)
        for split, targets in (("train", train), ("test", test)):
            rows = [{"source": source, "target": target} for source, target in zip(ENGLISH, targets)]
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        own = ("dataset=translation", "dataset.name=pairs", f"dataset.path={folder}", "dataset.template='{source}'")
        length = ("dataset.label_column=target", "dataset.max_target_length=12", "train.eval_every=0", "train.steps=1")
        return config_in(compose, tmp_path / "runs", *own, *length, f"tokenizer.path={vocabulary}", "infer.beams=1")

    return make


def test_unknown_targets_are_counted_and_said(config, tmp_path, capsys):
    print_once.cache_clear()
    cell = config(UNKNOWN, UNKNOWN[1:] + SPELT[:1])
    data = load_cell_data(cell, tmp_path / "cache")
    assert data.targets.count_unknown() == 2
    assert [data.record["splits"][name]["unknown_targets"] for name in ("train", "test")] == [2, 1]
    said = capsys.readouterr().err
    assert "pairs train: 2 of 6 targets (33.3%) hold characters for which the vocabulary has no piece: <unk>" in said
    assert "pairs test: 1 of 6 targets (16.7%) hold" in said


def test_the_record_of_data_without_unknown_targets_is_what_it_was(config, tmp_path, capsys):
    print_once.cache_clear()
    cell = config(SPELT, SPELT)
    data = load_cell_data(cell, tmp_path / "cache")
    source = source_of(cell.dataset)
    assert data.record == source.record() == data_record(source, data.vocabulary, tmp_path / "cache")
    assert "<unk>" not in capsys.readouterr().err


def test_what_is_cut_away_is_not_counted(config, tmp_path):
    cell = config([*SPELT[:5], "drei " * 20 + "{"], SPELT)
    data = load_cell_data(cell, tmp_path / "cache")
    assert data.targets.truncated >= 1 and data.targets.count_unknown() == 0


def test_training_and_scoring_name_one_data_artifact(config, tmp_path):
    from infer.scoring import score

    cell, store = config(UNKNOWN, UNKNOWN), Store(tmp_path / "runs")
    train_here(cell)
    scores = score(cell, store, find_model(cell, store))
    (data,) = store.artifacts("data-*")
    assert data.metadata["splits"]["test"]["unknown_targets"] == 2
    assert {run.job_type for run in store.used_by(data)} == {"train", "infer"}
    assert scores.metadata["unknown_targets"] == 2
    (run,) = store.runs(job_type="train")
    assert run.summary["unknown_train_targets"] == 2
