"""The built-in data keeps its promises: what words decide, what they don't, and that it is always the same."""

import hashlib
import json

import numpy as np
import pytest

from conf.schema import Dataset
from train.data import demo

DATASET = Dataset(name="demo")


@pytest.fixture(scope="module")
def train() -> list[dict[str, str]]:
    return demo.rows("train", DATASET)


@pytest.fixture(scope="module")
def test() -> list[dict[str, str]]:
    return demo.rows("test", DATASET)


def kinds(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([row["slice_kind"] for row in rows])


def positive(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([row["label"] == "positive" for row in rows])


def features(rows: list[dict[str, str]], vocabulary: dict, at_positions: bool) -> np.ndarray:
    """Counts of words, or of words at their positions from the start: [rows, features]."""
    counts = np.zeros((len(rows), len(vocabulary) + 1))
    for i, row in enumerate(rows):
        for j, word in enumerate(row["text"].split()):
            counts[i, vocabulary.get((word, j if at_positions else 0), -1)] += 1
    return counts


def ridge_accuracy(train: list, test: list, at_positions: bool) -> dict[str, float]:
    """Accuracy by kind of a linear classifier fitted to `train` by ridge regression."""
    keys = sorted({(w, j if at_positions else 0) for row in train for j, w in enumerate(row["text"].split())})
    vocabulary = {key: i for i, key in enumerate(keys)}
    x, y = features(train, vocabulary, at_positions), 2.0 * positive(train) - 1
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    right = (features(test, vocabulary, at_positions) @ weights > 0) == positive(test)
    return {kind: float(right[kinds(test) == kind].mean()) for kind in np.unique(kinds(test))}


def test_first_rows_are_golden(train: list, test: list) -> None:
    # A change here is a change of the data: raise demo.VERSION with it.
    digest = hashlib.sha256(json.dumps([demo.VERSION, train[:200], test[:200]]).encode()).hexdigest()
    assert digest == "f3056749dfe12baaa0e412bc492d5678f65bc4e6e8652c07895bb1a093fc0d01"


def test_streams_are_independent_of_sizes(train: list, test: list) -> None:
    small = Dataset(name="demo", train_examples=100, test_examples=50)
    assert demo.rows("train", small) == train[:100]
    assert demo.rows("test", small) == test[:50]
    other = Dataset(name="demo", generator_seed=1)
    assert demo.rows("test", other)[:10] != test[:10]


def test_no_text_is_in_two_splits_or_twice_in_test(train: list, test: list) -> None:
    validation = demo.rows("validation", DATASET)
    texts = [{row["text"] for row in rows} for rows in (train, validation, test)]
    assert (len(train), len(validation), len(test)) == (8000, 500, 2000)
    assert (len(texts[1]), len(texts[2])) == (500, 2000)
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert len(texts[0]) > 7800
    assert len({row["example_id"] for row in train}) == 8000


def test_shares_and_balance(train: list, test: list) -> None:
    for rows in (train, test):
        for kind, share in demo.SHARES.items():
            of_kind = kinds(rows) == kind
            assert of_kind.mean() == pytest.approx(share / 100, abs=1e-9)
            assert positive(rows)[of_kind].mean() == pytest.approx(0.5, abs=1e-9)


def test_sentences_are_short_and_of_few_words(train: list) -> None:
    lengths = np.array([len(row["text"].split()) for row in train])
    assert lengths.min() >= 6 and lengths.max() <= 24
    assert lengths[kinds(train) == "composition"].max() <= 16
    assert len({word for row in train for word in row["text"].split()}) <= 150


@pytest.mark.parametrize("at_positions", [False, True])
def test_words_decide_the_easy_and_nothing_else(train: list, test: list, at_positions: bool) -> None:
    accuracy = ridge_accuracy(train, test, at_positions)
    assert accuracy["easy"] >= 0.93
    assert accuracy["composition"] <= 0.60
    assert accuracy["noise"] <= 0.10


@pytest.mark.parametrize("at_positions", [False, True])
def test_words_say_nothing_on_composition_even_when_fitted_to_it(train: list, test: list, at_positions: bool) -> None:
    fitted = [row for row in train if row["slice_kind"] == "composition"]
    assert ridge_accuracy(fitted, test, at_positions)["composition"] <= 0.60
