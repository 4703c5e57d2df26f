"""Encoded splits: kept, mapped, and written again where what is kept is damaged."""

import time
from pathlib import Path

import numpy as np
import pytest

from conf.schema import Dataset
from tests.support import shared_data
from train.data.encodings import encode_split
from train.data.notices import print_once
from train.data.splits import Split, load_split
from train.data.tokens import Vocabulary

SHARED = shared_data()
TEXTS = [f"the {noun} was {word}" for noun in ("plot", "cast", "film") for word in ("good", "bad", "dull", "fine")] * 4


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train(TEXTS, 60)


def split(inputs: list[str], fingerprint: str = "f" * 64) -> Split:
    return Split("toy", "train", [str(i) for i in range(len(inputs))], inputs, ["x"] * len(inputs), {}, fingerprint)


def same(a, b) -> bool:
    return (
        np.array_equal(a.flat, b.flat)
        and np.array_equal(a.offsets, b.offsets)
        and a.truncated == b.truncated
        and (a.flat.dtype, a.offsets.dtype) == (b.flat.dtype, b.offsets.dtype) == (np.int32, np.int64)
    )


def is_mapped(array: np.ndarray) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def test_a_split_is_encoded_once_and_mapped(vocabulary, tmp_path, monkeypatch) -> None:
    whole = vocabulary.encode(TEXTS, 4)
    first = encode_split(vocabulary, split(TEXTS), 4, tmp_path / "cache")
    assert same(first, whole) and is_mapped(first.flat) and is_mapped(first.offsets)
    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "encode", None)
        again = encode_split(vocabulary, split(TEXTS), 4, tmp_path / "cache")
    assert same(again, whole)
    rows = np.array([3, 0])
    assert np.array_equal(again.padded(rows, 8), whole.padded(rows, 8)) and type(again[1]) is np.ndarray
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"] and len(list((tmp_path / "cache").iterdir())) == 1


def test_other_rows_vocabulary_or_length_are_other_encodings(vocabulary, tmp_path) -> None:
    other = Vocabulary.train(TEXTS, 50)
    for some, rows, length in [
        (vocabulary, split(TEXTS), 4),
        (vocabulary, split(TEXTS), 9),
        (other, split(TEXTS), 4),
        (vocabulary, split(["good"], "0" * 64), 4),
    ]:
        assert same(encode_split(some, rows, length, tmp_path), some.encode(rows.inputs, length))
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("file", ["flat.npy", "offsets.npy", "about.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_damaged_encoding_is_written_again(vocabulary, tmp_path, file: str, damage: str) -> None:
    whole = encode_split(vocabulary, split(TEXTS), 4, tmp_path)
    (folder,) = tmp_path.iterdir()
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    if damage != "gone":
        (folder / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert same(encode_split(vocabulary, split(TEXTS), 4, tmp_path), whole)
    assert (folder / file).read_bytes() == content and list(tmp_path.iterdir()) == [folder]


def test_a_cache_that_cannot_be_written_is_said_and_stops_no_one(vocabulary, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    print_once.cache_clear()
    encoded = encode_split(vocabulary, split(TEXTS), 9, tmp_path / "file" / "cache")
    assert same(encoded, vocabulary.encode(TEXTS, 9))
    assert "the encoding is not kept" in capsys.readouterr().err


def test_truncation_is_counted_and_said(vocabulary, tmp_path, capsys) -> None:
    print_once.cache_clear()
    huge = "film " * 100_000
    encoded = encode_split(vocabulary, split(["good", huge, "the plot was good"]), 4, tmp_path)
    assert encoded.truncated == 2 and encoded.lengths.tolist() == [2, 4, 4]
    assert "toy train: 2 of 3 inputs (66.7%) are longer than 4 tokens and are cut" in capsys.readouterr().err
    encode_split(vocabulary, split(["good"], "1" * 64), 4, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.skipif(SHARED is None, reason="needs EDGEWISE_SHARED, the folder of real text")
def test_25000_reviews_are_encoded_in_seconds(tmp_path: Path) -> None:
    lines = (SHARED / "imdb/sample.csv").read_text().split("\n", 1)
    (tmp_path / "train.csv").write_text(f"{lines[0]}\n{lines[1]}")
    dataset = Dataset(
        name="imdb",
        path=str(tmp_path),
        classes={"negative": "negative", "positive": "positive"},
        label_column="sentiment",
        template="sentiment: {review}",
    )
    reviews = (load_split(dataset, "train").inputs * 51)[:25_000]
    assert 220 < np.mean([len(text.split()) for text in reviews]) < 250
    vocabulary = Vocabulary.from_file(SHARED / "t5/spiece.model")
    start = time.process_time()
    encoded = vocabulary.encode(reviews, 512)
    # Processor time, all threads: on cores shared with other work the clock says nothing.
    assert time.process_time() - start < 5
    assert 0.15 < encoded.truncated / len(reviews) < 0.25  # the paper's reviews: 20 %
