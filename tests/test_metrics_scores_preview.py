"""The table of the most uncertain examples says what the scores say."""

import json

import numpy as np
import pytest

from metrics.scores.preview import most_uncertain
from tests.synthetic_scores import synthetic_grid


@pytest.mark.parametrize("task", ["classification", "span_qa", "translation"])
def test_the_preview_holds_the_most_uncertain_rows(task):
    scores = synthetic_grid(seeds=1, examples=60, task=task)[0]
    columns, rows = most_uncertain(scores, max_rows=20)
    assert len(rows) == 20 and all(len(row) == len(columns) for row in rows)
    json.dumps(rows, allow_nan=False)
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    margins = [row["margin"] for row in table]
    assert margins == sorted(margins)
    if task == "classification":
        p = np.exp(scores.class_log_likelihoods.astype(float))
        p = np.sort(p / p.sum(axis=1, keepdims=True), axis=1)
        expected = p[:, -1] - p[:, -2]
        entropies = -(p * np.log(p)).sum(axis=1)
    else:
        tokens = scores.self_tokens
        spans = list(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True))
        expected = np.array([tokens.margins[a:b].astype(float).mean() for a, b in spans])
        entropies = np.array([tokens.entropies[a:b].astype(float).mean() for a, b in spans])
    assert margins == pytest.approx(np.sort(expected)[:20], abs=1e-9)
    place = {id: row for row, id in enumerate(scores.example_id)}
    for row in table:
        assert row["margin"] == pytest.approx(expected[place[row["example_id"]]], abs=1e-9)
        assert row["entropy"] == pytest.approx(entropies[place[row["example_id"]]], abs=1e-9)
        assert row["target"] == scores.target[place[row["example_id"]]]
