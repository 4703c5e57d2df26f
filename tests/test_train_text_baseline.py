"""What a bag of words reaches: TF-IDF with logistic regression, measured once for the same rows."""

import math

import numpy as np
import pytest

from conf.schema import Dataset
from metrics.text_baseline import TextBaseline
from train import text_baseline as module
from train.data.source import Source
from train.data.splits import Split
from train.text_baseline import measure, text_baseline

WORDS = ["apple", "pear", "plum", "fig", "the", "a1", "of"]


def split_of(texts, targets, name="train"):
    ids = [str(i) for i in range(len(texts))]
    return Split("fruit", name, ids, list(texts), list(targets), {}, fingerprint=f"{name}{hash(tuple(texts))}")


def drawn(rng, n, name):
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 6))) for _ in range(n)]
    return split_of(texts, ["sweet" if "fig" in text or "plum" in text else "other" for text in texts], name)


def brute_force_answers(train, test):
    """TF-IDF and the penalised likelihood written out, minimised by gradient steps: the answers for `test`."""
    words = sorted({word for text in train.inputs for word in text.split()})
    counts = {
        split.name: np.array([[text.split().count(word) for word in words] for text in split.inputs], float)
        for split in (train, test)
    }
    n = len(train)
    idf = np.log((1 + n) / (1 + (counts[train.name] > 0).sum(axis=0))) + 1
    features = {}
    for name, count in counts.items():
        weighted = np.where(count > 0, 1 + np.log(np.maximum(count, 1)), 0) * idf
        features[name] = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    sign = np.array([1.0 if target == "sweet" else -1.0 for target in train.targets])
    x, w, b = features[train.name], np.zeros(len(words)), 0.0
    for _ in range(20_000):  # of ½|w|² + C Σ log(1 + exp(-y(wx + b)))
        slope = -10 * sign / (1 + np.exp(sign * (x @ w + b)))
        w, b = w - 0.005 * (w + x.T @ slope), b - 0.005 * slope.sum()
    return ["sweet" if value > 0 else "other" for value in features[test.name] @ w + b]


def test_a_small_case_by_brute_force():
    rng = np.random.default_rng(3)
    train, test = drawn(rng, 60, "train"), drawn(rng, 40, "test")
    for split in (train, test):
        split.targets[:9] = ["other" if target == "sweet" else "sweet" for target in split.targets[:9]]
    answers = brute_force_answers(train, test)
    right = sum(answer == target for answer, target in zip(answers, test.targets, strict=True))
    found = measure(train, test)
    assert 20 < right < 40 and found.accuracy == right / 40
    assert (found.examples, found.learned_rows, found.training_rows) == (40, 60, 60)
    assert found.learned_from == "the 60 training rows"


def test_a_large_split_is_learned_from_in_part(monkeypatch):
    rng = np.random.default_rng(0)
    train, test = drawn(rng, 400, "train"), drawn(rng, 50, "test")
    monkeypatch.setattr(module, "MOST_ROWS", 150)
    monkeypatch.setattr(module, "SCORED_AT_ONCE", 7)
    found = measure(train, test)
    assert (found.learned_rows, found.training_rows) == (150, 400) and found.accuracy > 0.9
    assert found.learned_from == "150 of the 400 training rows"
    monkeypatch.setattr(module, "MOST_PRODUCTS", 1)  # many classes, long texts: fewer rows, but never fewer than 100
    assert measure(train, test).learned_rows == 100


def test_rows_that_nothing_can_be_learned_from():
    test = split_of(["a fig"], ["sweet"], "test")
    assert measure(split_of(["fig", "plum"], ["sweet", "sweet"]), test) is None
    assert measure(split_of(["?", "!"], ["sweet", "other"]), test) is None


def test_it_is_measured_once_for_the_same_rows(tmp_path, monkeypatch):
    calls = []
    real = module.measure
    monkeypatch.setattr(module, "measure", lambda *splits: calls.append(1) or real(*splits))
    demo = Dataset(
        name="demo",
        classes={"negative": "negative", "positive": "positive"},
        train_examples=300,
        test_examples=100,
    )
    first = text_baseline(Source(demo), "test", tmp_path)
    assert 0.5 < first.accuracy < 1 and math.isclose(first.accuracy * 100, round(first.accuracy * 100))
    assert text_baseline(Source(demo), "test", tmp_path) == first and len(calls) == 1
    for file in (tmp_path / "baselines").iterdir():
        file.write_text("{damaged")
    assert text_baseline(Source(demo), "test", tmp_path) == first and len(calls) == 2
    demo.train_examples = 200
    assert text_baseline(Source(demo), "test", tmp_path).training_rows == 200
    assert text_baseline(Source(demo), "train", tmp_path) is None


def test_tasks_without_classes_have_none(tmp_path):
    translation = Dataset(name="t", task="translation", path=str(tmp_path), template="{text}")
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    (tmp_path / "test.csv").write_text("text,label\na,b\n")
    assert text_baseline(Source(translation), "test", tmp_path) is None


@pytest.mark.parametrize("metadata", [None, {}, {"accuracy": 0.5}, {"some": "thing"}])
def test_scores_without_a_baseline(metadata):
    assert TextBaseline.from_metadata(metadata) is None
