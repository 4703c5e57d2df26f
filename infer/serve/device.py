"""Runs the batches: one thread, which is the only one that asks the devices to answer."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from infer.serve.deployment import Deployment
from infer.serve.problems import unavailable
from infer.serve.queue import TakenBatch
from infer.serve.ticket import Ticket, Waiting

MOST_FAILURES = 3  # batches that failed one after the other: then the device is taken to be broken


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

    def stop(self) -> None:
        """Ends the thread after the batch that it runs."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

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
            ticket.deployment.queue.add(ticket.items)
            self._changed.notify()

    def drop(self, ticket: Ticket) -> None:
        """Takes a request's inputs out of the queue; those in the batch that runs are answered in vain."""
        with self._changed:
            ticket.deployment.queue.drop(ticket)

    @property
    def idle(self) -> bool:
        """Tells whether nothing waits but what is in the shadow."""
        with self._changed:
            return not any(len(deployment.queue) for deployment in self._deployments)

    def _work(self) -> None:
        """Runs batches until the thread is to end."""
        while True:
            with self._changed:
                while (taken := self._next()) is None and not self._ending:
                    self._changed.wait()
                if self._ending or taken is None:
                    return
            deployment, batch = taken
            started = time.perf_counter()
            try:
                done = self._run(deployment, batch)
            except Exception as error:  # a device out of memory, a driver that fails: the next batch may succeed
                self._fail(batch, error)
                continue
            self._failures = 0
            self._observer.batch(deployment, batch, time.perf_counter() - started)
            if done:
                self._call(_end_all, done)

    def _next(self) -> tuple[Deployment, TakenBatch] | None:
        """Returns the next batch: of the oldest deployment that has one."""
        while len(self._deployments) > 1 and not len(self._deployments[0].queue):
            del self._deployments[0]
        now = time.monotonic()
        for deployment in self._deployments:
            if (batch := deployment.queue.take(now)) is not None:
                return deployment, batch
        return None

    def _run(self, deployment: Deployment, batch: TakenBatch) -> list[Ticket]:
        """Answers a batch, passes on what its stage is uncertain of, and returns the requests that are done."""
        answers, scores = deployment.run(batch)
        k = batch.stage
        threshold = deployment.thresholds[k]
        passed_on = ((scores >= threshold) & (threshold < np.inf)).tolist()
        done: list[Ticket] = []
        further: list[Waiting] = []
        last = k == len(deployment.thresholds) - 1
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
            if not ticket.left:
                done.append(ticket)
        if further:
            with self._changed:
                deployment.queue.add(item for item in further if not item.ticket.gone)
        return done

    def _fail(self, batch: TakenBatch, error: Exception) -> None:
        """Ends the requests of a batch that failed."""
        self._failures += 1
        self._observer.failed(error)
        if self._failures >= MOST_FAILURES:
            self.broken = f"the device failed {self._failures} times in a row: {type(error).__name__}"
        problem = unavailable("device-failed", "the device failed at this batch; try again")
        tickets = {id(item.ticket): item.ticket for item in batch.items}

        def end() -> None:
            for ticket in tickets.values():
                self.drop(ticket)
                ticket.end(problem)

        self._call(end)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has the event loop call a function soon."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(function, *arguments)


def _end_all(tickets: Sequence[Ticket]) -> None:
    """Lets requests that are done go on."""
    for ticket in tickets:
        ticket.end()
