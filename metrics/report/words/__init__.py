"""Writes what the numbers say, in sentences. A claim is made only where the whole interval bears it out."""

from metrics.report.words.answer import answer
from metrics.report.words.deploy import deploy_command, deploy_sentence
from metrics.report.words.passages import passages
from metrics.report.words.phrases import (
    context_note,
    percent,
    percent_rounded_up,
    points,
    score_title,
    slice_name,
    within,
)
from metrics.report.words.savings import cost, loss_allowed, saving

__all__ = [
    "answer",
    "context_note",
    "cost",
    "deploy_command",
    "deploy_sentence",
    "loss_allowed",
    "passages",
    "percent",
    "percent_rounded_up",
    "points",
    "saving",
    "score_title",
    "slice_name",
    "within",
]
