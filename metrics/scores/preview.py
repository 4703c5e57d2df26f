"""Prepares a table of a run's most uncertain examples, for people to look at beside the scores themselves."""

import math
from typing import Any

import numpy as np

from metrics.scores.schema import Scores
from metrics.statistics.uncertainty import log_entropy, log_margin, log_softmax, sequence_entropy, sequence_margin

MAX_ROWS = 200  # of the preview; all rows are in the scores artifact
MAX_CHARACTERS = 500  # of a text in the preview


def most_uncertain(scores: Scores, max_rows: int = MAX_ROWS) -> tuple[list[str], list[list[Any]]]:
    """Returns the column names and the rows of the examples that a run is least certain of, least certain first.

    `margin` is p₁ - p₂ (the probabilities of the two likeliest classes or tokens) and `entropy` is in nats. For answers
    that are text, both come from means over the tokens of the model's own output, or over those of the gold answer
    where the scores hold no output's. At most `max_rows` rows are returned, their texts cut to MAX_CHARACTERS.
    """
    if scores.class_log_likelihoods is not None:
        log_p = log_softmax(scores.class_log_likelihoods.astype(np.float64))
        uncertainty, entropy = log_margin(log_p), log_entropy(log_p)
        names, extra = [f"log p({c})" for c in scores.metadata.classes or []], log_p
    else:
        tokens = scores.self_tokens or scores.gold_tokens
        assert tokens is not None
        uncertainty, entropy = sequence_margin(tokens), sequence_entropy(tokens)
        names, extra = ["tokens"], tokens.lengths[:, None]
    slices = sorted(scores.slices)
    columns = ["example_id", "target", "prediction", "correct", "margin", "entropy", *names, *slices]
    rows = []
    for row in np.argsort(-uncertainty, kind="stable")[:max_rows]:
        rows.append(
            [
                str(scores.example_id[row]),
                str(scores.target[row])[:MAX_CHARACTERS],
                str(scores.prediction[row])[:MAX_CHARACTERS],
                None if scores.correct is None else bool(scores.correct[row]),
                1.0 - math.exp(uncertainty[row]),
                math.exp(entropy[row]),
                *extra[row].tolist(),
                *(None if scores.slices[name][row] is None else str(scores.slices[name][row]) for name in slices),
            ]
        )
    return columns, rows
