"""Tells the watch of what a deployment answers, and draws what goes to the largest model for comparison."""

import itertools
import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from conf.schema import Serve
from infer.serve.ticket import Waiting
from infer.switcher.policy import Policy
from infer.watch.order import ArrivalOrder, Observed
from infer.watch.watch import Watch, disagreements

LOG = logging.getLogger("edgewise.serve")
MOST_SHADOWS = 1024  # inputs that wait for comparison; none is drawn while so many do


class Watching:
    """Watches one deployment: numbers its inputs as they come, and tells the watch in that order.

    Attributes:
        watch: what raises the alarms.
        larger: whether the largest model is to answer all, because there was an alarm and the settings say so.

    """

    def __init__(self, policy: Policy, settings: Serve, directory: Path | None):
        """Begins to watch, or goes on with the state in `directory`; EdgewiseError for one that can't be read."""
        self.watch = Watch(policy, settings, directory)
        self._policy, self._settings = policy, settings
        self._order, self._lock = ArrivalOrder(), threading.Lock()
        self._failed: str | None = None  # why the state could not be saved, as it was logged last
        self._numbers = itertools.count()
        self._generator = np.random.default_rng(settings.seed)

    @property
    def larger(self) -> bool:
        """Tells whether the largest model answers alone."""
        return bool(self.watch.alarms) and self._settings.on_alarm == "larger"

    def arrive(self, items: Iterable[Waiting]) -> None:
        """Numbers inputs that the first stage is to answer, in the order in which they came."""
        with self._lock:
            for item in items:
                if not item.stage:
                    item.number = next(self._numbers)

    def answered(self, items: Sequence[Waiting], log_scores: np.ndarray, passed_on: Sequence[bool]) -> None:
        """Takes note of the first stage's log scores [n] of n inputs, and which of them are above its threshold."""
        with self._lock:
            for item, score, passes in zip(items, log_scores.tolist(), passed_on, strict=True):
                self._order.add(item.number, Observed(score, passes))
            in_turn = self._order.take()
        if len(in_turn[0]):
            self._report(self.watch.answered(*in_turn))

    def left_out(self, items: Iterable[Waiting]) -> None:
        """Takes note of inputs that the first stage doesn't answer, because their client left or the device failed."""
        with self._lock:
            for item in items:
                if not item.stage and item.shadow is None:
                    self._order.add(item.number, None)

    def drawn(self, kept: int, waiting: int) -> np.ndarray:
        """Draws which of so many kept inputs go to the largest model too, [kept] bool; `waiting` do already."""
        if waiting >= MOST_SHADOWS or not self._settings.shadow:
            return np.zeros(kept, bool)
        drawn: np.ndarray = self._generator.random(kept) < self._settings.shadow
        return drawn

    def compared(self, items: Sequence[Waiting], answers: Sequence[str]) -> None:
        """Takes note of the largest model's answers [n] to n inputs that it got for comparison."""
        given = [item.shadow or "" for item in items]
        self._report(self.watch.compared(disagreements(self._policy, given, answers)))

    def _report(self, alarms: Iterable[tuple[str, str]]) -> None:
        """Logs alarms, and once why the state can't be kept, where it can't: a restart would forget an alarm."""
        for name, message in alarms:
            LOG.warning("alarm, %s: %s", name, message)
        failed = self.watch.saving_failed
        if failed is not None and failed != self._failed:
            LOG.warning("the watch's state can't be kept (serve.state): %s; a restart would begin anew", failed)
        self._failed = failed
