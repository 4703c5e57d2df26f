"""Writes what the numbers say, in sentences. A claim is made only where the whole interval bears it out."""

from metrics.report.words.answer import answer
from metrics.report.words.passages import passages
from metrics.report.words.phrases import context_note, percent, points, score_title, slice_name, within
from metrics.report.words.savings import ALL_DEFERRED, cost, saving

__all__ = [
    "ALL_DEFERRED",
    "answer",
    "context_note",
    "cost",
    "passages",
    "percent",
    "points",
    "saving",
    "score_title",
    "slice_name",
    "within",
]
