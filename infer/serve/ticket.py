"""Collects the answers to the inputs of one request."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np


class Waiting:
    """Represents one input on its way through the stages: place `place` of its ticket.

    `shadow` says that its answer is for comparison alone: then it is what the smallest model answered.

    Attributes:
        stage: which stage is to answer it next.
        ids: its tokens for that stage, [length] int32.
        lane: the lane of the queue in which it waits; None where it doesn't.
        number: its place among the inputs that came, for the watch; -1 where it has none.

    """

    __slots__ = ("ids", "lane", "number", "place", "shadow", "stage", "ticket")

    def __init__(self, ticket: "Ticket", place: int, stage: int, ids: np.ndarray, shadow: str | None = None):
        self.ticket, self.place, self.stage, self.ids, self.shadow = ticket, place, stage, ids, shadow
        self.lane: Any = None
        self.number = -1


class Ticket:
    """Represents a request whose n inputs wait or are answered.

    The device thread fills the answers in.

    Attributes:
        deployment: the `Deployment` that answers it.
        texts: the filled templates.
        first: the stage that its inputs begin at.
        small: whether the smallest model alone answers it.
        arrived: seconds by `time.monotonic`.
        answered: is done when all inputs are answered; holds the exception where they won't be.
        items: its inputs.
        gone: whether nobody waits for the answers any more.
        left: how many inputs have no answer yet.
        predictions: the answers, [n].
        stages: which stage answered, [n].
        errors: why an input has no answer, a sentence, by its place.
        log_scores: the scores of the last stages that had one, natural logarithms, [n]; NaN where none was asked.

    """

    __slots__ = (
        "answered",
        "arrived",
        "deployment",
        "errors",
        "first",
        "gone",
        "items",
        "left",
        "log_scores",
        "predictions",
        "small",
        "stages",
        "texts",
    )

    def __init__(
        self,
        deployment: Any,
        texts: Sequence[str],
        arrived: float,
        answered: "asyncio.Future[None]",
        small: bool = False,
        first: int = 0,
    ):
        self.deployment, self.texts, self.arrived = deployment, texts, arrived
        self.answered, self.small, self.first, self.gone = answered, small, first, False
        self.items: list[Waiting] = []
        self.errors: dict[int, str] = {}
        self.left = len(texts)
        self.predictions = [""] * self.left
        self.stages = [0] * self.left
        self.log_scores = [np.nan] * self.left

    def end(self, error: Exception | None = None) -> None:
        """Lets the request that waits go on, with its answers or an error; on the event loop's thread alone."""
        if not self.answered.done():
            if error is None:
                self.answered.set_result(None)
            else:
                self.answered.set_exception(error)
