"""Runs the batches: one thread, which is the only one that asks the devices to answer."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from infer.serve.deployment import Deployment
from infer.serve.queue import TakenBatch
from infer.serve.ticket import Ticket, Waiting
from metrics.statistics.policies.routing import passes_on

MOST_FAILURES = 20  # batches that failed one after the other: then the device is taken to be broken


class Observer(Protocol):
    """Describes who is told of what the device did, from its thread."""

    def batch(self, deployment: Deployment, batch: TakenBatch, seconds: float) -> None:
        """Takes note of a batch that was run."""

    def failed(self, error: Exception) -> None:
        """Takes note of a batch that failed."""


class DeviceThread:
    """Takes batches from the queues and answers them, as long as there are any; sleeps where nothing waits.

    Attributes:
        broken: why it answers nothing any more; None where it does.

    """

    def __init__(self, loop: asyncio.AbstractEventLoop, observer: Observer):
        self._loop, self._observer = loop, observer
        self._changed = threading.Condition()
        self._deployments: list[Deployment] = []  # the last takes new inputs in; those before it end what they have
        self._ending = False
        self._failures = 0
        self.broken: str | None = None
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Ends the thread after the batch that it runs; waits so long for that at most."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)

    def use(self, deployment: Deployment) -> None:
        """Takes up another deployment; those before it are let go of when nothing waits for them."""
        with self._changed:
            self._deployments.append(deployment)
            self._failures, self.broken = 0, None
            self._changed.notify()

    def submit(self, ticket: Ticket) -> None:
        """Puts a request's inputs into its deployment's queue."""
        with self._changed:
            if ticket.deployment not in self._deployments:  # it was let go of while the request was read
                self._deployments.insert(0, ticket.deployment)
            if (watching := ticket.deployment.watching) is not None:
                watching.arrive(ticket.items)
            ticket.deployment.queue.add(ticket.items)
            self._changed.notify()

    def drop(self, ticket: Ticket) -> None:
        """Takes a request's inputs out of the queue; those in the batch that runs are answered in vain."""
        with self._changed:
            if (watching := ticket.deployment.watching) is not None:
                watching.left_out(item for item in ticket.items if item.lane is not None)
            ticket.deployment.queue.drop(ticket)

    @property
    def idle(self) -> bool:
        """Tells whether nothing waits but what is in the shadow."""
        with self._changed:
            return not any(len(deployment.queue) for deployment in self._deployments)

    def _work(self) -> None:
        """Runs batches until the thread is to end."""
        try:
            while True:
                with self._changed:
                    while (taken := self._next()) is None and not self._ending:
                        self._changed.wait()
                    if self._ending or taken is None:
                        return
                if done := self._answer(*taken):
                    self._call(_end_all, done)
        except BaseException as error:
            self.broken = f"the thread that answers ended by {_name(error)}"
            raise

    def _next(self) -> tuple[Deployment, TakenBatch] | None:
        """Returns the next batch: of the oldest deployment that has one."""
        while len(self._deployments) > 1 and not len(self._deployments[0].queue):
            del self._deployments[0]
        now = time.monotonic()
        for deployment in self._deployments:
            if (batch := deployment.queue.take(now)) is not None:
                return deployment, batch
        return None

    def _answer(self, deployment: Deployment, batch: TakenBatch) -> list[Ticket]:
        """Answers a batch and returns the requests that are done.

        Where the device fails, each half is tried by itself, so that an input which makes it fail fails alone.
        """
        started = time.perf_counter()
        try:
            answers, scores = deployment.run(batch)
        except Exception as error:
            self._observer.failed(error)
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self.broken = f"the device failed {self._failures} times in a row, the last time by {_name(error)}"
            if len(batch.items) == 1 or self.broken is not None:
                if deployment.watching is not None:
                    deployment.watching.left_out(batch.items)
                return [ticket for item in batch.items if (ticket := _fail(item, error)) is not None]
            half = len(batch.items) // 2
            parts = [replace(batch, items=items) for items in (batch.items[:half], batch.items[half:])]
            return [ticket for part in parts for ticket in self._answer(deployment, part)]
        seconds = time.perf_counter() - started
        self._failures = 0
        done: list[Ticket] = []
        answered: set[Waiting] = set()
        try:
            deployment.note(batch, seconds)
            self._observer.batch(deployment, batch, seconds)
            self._sort(deployment, batch, answers, scores, done, answered)
        except Exception as error:  # of the host: for want of memory, say
            self._observer.failed(error)
            without = [item for item in batch.items if item not in answered]
            done += [ticket for item in without if (ticket := _fail(item, error)) is not None]
        return done

    def _sort(
        self,
        deployment: Deployment,
        batch: TakenBatch,
        answers: np.ndarray,
        scores: np.ndarray,
        done: list[Ticket],
        answered: set[Waiting],
    ) -> None:
        """Passes on what a stage is uncertain of, and notes its other answers.

        Adds the inputs that are `answered`, and the requests that are `done` by that.
        """
        if batch.items[0].shadow is not None:  # then all of them are: a batch has the shadow's inputs or others
            if deployment.watching is not None:
                deployment.watching.compared(batch.items, answers.tolist())
            return
        k = batch.stage
        passed_on = passes_on(scores, deployment.thresholds[k]).tolist()
        further: list[Waiting] = []
        last = k == len(deployment.thresholds) - 1
        if not k and deployment.watching is not None:
            deployment.watching.answered(batch.items, scores, passed_on)
        kept: list[tuple[Waiting, str]] = []
        for item, answer, score, passes in zip(batch.items, answers.tolist(), scores.tolist(), passed_on, strict=True):
            ticket = item.ticket
            if ticket.gone:
                continue
            if not last:
                ticket.log_scores[item.place] = score
            if passes and not ticket.small:
                item.stage = k + 1
                item.ids = deployment.next_ids(k + 1, ticket.texts[item.place], item.ids)
                further.append(item)
                continue
            ticket.predictions[item.place], ticket.stages[item.place] = answer, k
            ticket.left -= 1
            answered.add(item)
            if not last and not passes:
                kept.append((item, answer))
            if not ticket.left:
                done.append(ticket)
        further += self._shadows(deployment, kept)
        if further:
            with self._changed:
                deployment.queue.add(item for item in further if item.shadow is not None or not item.ticket.gone)

    def _shadows(self, deployment: Deployment, kept: Sequence[tuple[Waiting, str]]) -> list[Waiting]:
        """Returns a random share of the kept inputs, each with its answer, for the last stage to answer too."""
        if deployment.watching is None or not kept:
            return []
        drawn = deployment.watching.drawn(len(kept), deployment.queue.waiting_shadows)
        last = len(deployment.names) - 1
        found = []
        for place in np.flatnonzero(drawn).tolist():
            item, answer = kept[place]
            ids = item.ids
            for k in range(item.stage + 1, last + 1):
                ids = deployment.next_ids(k, item.ticket.texts[item.place], ids)
            found.append(Waiting(item.ticket, item.place, last, ids, answer))
        return found

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has the event loop call a function soon."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(function, *arguments)


def _end_all(tickets: Sequence[Ticket]) -> None:
    """Lets requests that are done go on."""
    for ticket in tickets:
        ticket.end()


def _fail(item: Waiting, error: Exception) -> Ticket | None:
    """Notes that an input has no answer; returns its request where that is done now."""
    ticket = item.ticket
    if ticket.gone or item.shadow is not None:
        return None
    ticket.errors[item.place] = f"the device failed at this input ({_name(error)})"
    ticket.left -= 1
    return None if ticket.left else ticket


def _name(error: BaseException) -> str:
    """Names an error without its message, which may quote an input."""
    return type(error).__name__
