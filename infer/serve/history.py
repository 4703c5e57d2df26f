"""Remembers how much was answered and passed on, interval by interval: what the page and the tracked run show."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from infer.serve.ticket import Ticket

SECONDS, INTERVALS = 5, 720  # an hour


class History:
    """Counts inputs of the last hour by intervals of five seconds, and of the whole session; never their text.

    Attributes:
        started: seconds since the epoch.
        inputs, deferred, degraded, bad: how many inputs were answered, passed on by the smallest model, answered by it
            for want of time, not answered because they can't be.
        answered: how many each model answered, by its name.
        flops, flops_alone: what the answers cost, and what the largest model alone would have cost.

    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self.started = clock()
        self.inputs = self.deferred = self.degraded = self.bad = 0
        self.answered: dict[str, int] = {}
        self.flops = self.flops_alone = 0.0
        self._intervals: deque[list[int]] = deque(maxlen=INTERVALS)  # [interval, inputs, deferred]

    def add(self, ticket: Ticket, bad: int) -> None:
        """Counts a request's answers, and its inputs that can't be answered."""
        self.bad += bad
        policy = ticket.deployment.policy
        n = deferred = 0
        spent = 0.0
        for k, stage in enumerate(policy.stages):
            spent += stage.flops_per_example if k >= ticket.first else 0.0
            count = ticket.stages.count(k)
            if k == 0:
                count -= len(ticket.errors)  # an input that failed has the stage 0
            if count > 0:
                self.answered[stage.name] = self.answered.get(stage.name, 0) + count
                self.flops += count * spent
                n += count
                deferred += count if k else 0
        self.flops_alone += n * policy.stages[-1].flops_per_example
        self.inputs += n
        self.deferred += deferred
        self.degraded += n if ticket.small else 0
        interval = int(self._clock() - self.started) // SECONDS
        if not self._intervals or self._intervals[-1][0] != interval:
            self._intervals.append([interval, 0, 0])
        self._intervals[-1][1] += n
        self._intervals[-1][2] += deferred

    def add_bad(self, count: int) -> None:
        """Counts inputs of a request of which none can be answered."""
        self.bad += count

    @property
    def saved(self) -> float | None:
        """Returns the share of the largest model's FLOPs that was saved; None before the first answer."""
        return 1 - self.flops / self.flops_alone if self.flops_alone else None

    def counts(self) -> dict[str, Any]:
        """Returns the counts of the session, as JSON values."""
        return {
            "inputs": self.inputs,
            "deferred": self.deferred,
            "degraded": self.degraded,
            "bad": self.bad,
            "answered": dict(self.answered),
            "saved": self.saved,
            "seconds": self._clock() - self.started,
        }

    def intervals(self) -> dict[str, Any]:
        """Returns the last hour: the intervals in which there was something, the newest last."""
        first = int(self._clock() - self.started) // SECONDS - INTERVALS
        kept = [one for one in self._intervals if one[0] > first]
        return {
            "seconds": SECONDS,
            "started": self.started,
            "interval": [one[0] for one in kept],
            "inputs": [one[1] for one in kept],
            "deferred": [one[2] for one in kept],
        }
