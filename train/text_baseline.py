"""Measures what a bag of words reaches on a dataset: TF-IDF with logistic regression, the run to beat.

It takes seconds, and once for the same rows: what it reached is kept in the store's folder `baselines`, which may be
deleted. Starts without JAX.
"""

import hashlib
import json
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metrics.text_baseline import TextBaseline
from tracking.files import written_whole
from train.data.notices import print_once
from train.data.source import Source
from train.data.splits import Split

VERSION = 1  # goes up with every change of what a dataset's baseline is
MOST_ROWS = 50_000  # to learn from
MOST_FEATURES = 50_000  # words, the most frequent of the rows it learns from
MOST_PRODUCTS = 50_000_000  # words times classes: products of one pass over the rows it learns from
REGULARIZATION = 10.0  # scikit-learn's C, the inverse of the penalty
MOST_ITERATIONS = 300
SIGNATURE = f"tfidf:words|tf:sublinear|features:{MOST_FEATURES}|logistic:C{REGULARIZATION:g}|version:{VERSION}"
SCORED_AT_ONCE = 10_000
WORTH_SAYING = 10_000  # rows to learn from, which take more than two seconds

_MEASURING = threading.Lock()  # of the seeds that are scored side by side, one measures and the others wait


def text_baseline(source: Source, scored: str, cache: Path) -> TextBaseline | None:
    """Returns what TF-IDF with logistic regression reaches on the split `scored`, measured or read from under `cache`.

    None where there is nothing to learn from or to compare with: a task without classes, no training split, training
    rows of one class or without words, and the training split itself. Raises EdgewiseError as `Source.split` does.
    """
    if source.dataset.task != "classification" or scored == "train" or "train" not in source.names:
        return None
    with _MEASURING:
        train, split = source.split("train"), source.split(scored)
        key = hashlib.sha256(f"{SIGNATURE} {train.fingerprint} {split.fingerprint}".encode()).hexdigest()
        file = cache / "baselines" / f"{train.dataset}-{scored}-{key[:16]}.json"
        try:
            return TextBaseline.from_metadata(json.loads(file.read_text()))
        except (OSError, ValueError):  # not there yet, or damaged
            pass
        measured = measure(train, split)
        with written_whole(file) as partial:
            partial.write_text(json.dumps(None if measured is None else measured.as_metadata()))
        return measured


def measure(train: Split, scored: Split) -> TextBaseline | None:
    """Learns from the rows of `train` and counts how many of `scored` it gets right; None where it can't learn.

    Texts are words of two characters or more in lower case, with sublinear term frequencies; the penalty is L2. Rows to
    learn from are at most MOST_ROWS, evenly spread, and fewer where the classes are many and the texts long. The same
    rows give the same answers.
    """
    rows = _learned_rows(train)
    targets = [train.targets[row] for row in rows]
    if len(set(targets)) < 2:
        return None
    if len(rows) >= WORTH_SAYING:
        print_once(f"{train.dataset}: measuring TF-IDF with logistic regression on {scored.name} …")
    right = _count_right([train.inputs[row] for row in rows], targets, scored)
    if right is None:
        return None
    return TextBaseline(right / len(scored), len(scored), len(rows), len(train), SIGNATURE)


def _learned_rows(train: Split) -> np.ndarray:
    """Returns the training rows to learn from, [m] int64, ascending and evenly spread."""
    n = len(train)
    sample = train.inputs[:: max(1, n // 1000)]
    words = sum(len(text.split()) for text in sample) / max(len(sample), 1)
    classes = len(set(train.targets))
    of_work = int(MOST_PRODUCTS / max(words * (1 if classes == 2 else classes), 1))
    m = max(min(n, MOST_ROWS, of_work), min(n, 100))
    return np.arange(m, dtype=np.int64) * n // max(m, 1)


def _count_right(texts: Sequence[str], targets: Sequence[str], scored: Split) -> int | None:
    """Counts the rows of `scored` that are answered right after learning from `texts` [m]; None without words."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=MOST_FEATURES)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's answer to an empty vocabulary
        return None
    model = LogisticRegression(C=REGULARIZATION, max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close to it is enough, and what bounds the time
        model.fit(features, targets)
    right = 0
    for start in range(0, len(scored), SCORED_AT_ONCE):
        end = start + SCORED_AT_ONCE
        answers = model.predict(vectorizer.transform(scored.inputs[start:end]))
        right += sum(answer == target for answer, target in zip(answers, scored.targets[start:end], strict=True))
    return right
