"""Takes inputs in or refuses them, and says in which state the server is."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

from conf.schema import Serve
from infer.serve.compilations import COMPILATIONS
from infer.serve.deployment import Deployment
from infer.serve.device import DeviceThread
from infer.serve.history import History
from infer.serve.measures import Measures
from infer.serve.problems import Problem, client_left, deadline_passed, draining, queue_full, unavailable
from infer.serve.ticket import Ticket, Waiting

LONG_TEXTS = 20_000  # characters: more than that are encoded beside the event loop


class Service:
    """Answers inputs by the switcher that is loaded; all methods are for the event loop's thread.

    Attributes:
        settings: the limits.
        history: what was answered.
        deployment: what answers new requests; None before the first is loaded.
        not_ready: why no request is answered, a sentence; None where they are.
        draining: whether the process is about to end.
        asking: how many requests wait for their answers.

    """

    def __init__(self, settings: Serve, device: DeviceThread):
        self.settings, self.device = settings, device
        self.history = History()
        self.deployment: Deployment | None = None
        self.not_ready: str | None = "the switcher is being loaded"
        self.draining = False
        self._compiled = 0  # programs, when the deployment was ready
        self.asking = 0

    def use(self, deployment: Deployment) -> None:
        """Answers new requests by this version; those that wait are answered by the one that took them in."""
        self.device.use(deployment)
        self.deployment, self.not_ready = deployment, None
        self._compiled = COMPILATIONS.count

    def refuse(self, why: str) -> None:
        """Answers no request until another version is loaded."""
        self.not_ready = why

    def ready(self) -> Deployment:
        """Returns what answers new requests; raises Problem where none are answered now."""
        if self.draining:
            raise draining()
        if self.not_ready is not None or self.deployment is None:
            raise unavailable("not-ready", self.not_ready or "no switcher is loaded")
        if (broken := self.device.broken) is not None:
            raise unavailable("not-ready", broken)
        return self.deployment

    async def answer(
        self,
        deployment: Deployment,
        columns: Mapping[str, Sequence[str]],
        deadline_ms: int | None = None,
        on_leave: Callable[[Callable[[], None]], None] | None = None,
    ) -> Ticket:
        """Returns the ticket of n inputs, given as columns of this deployment, when all are answered.

        `on_leave` is called with what is to be called where the client leaves. Raises Problem where the queue is full,
        the deadline passes or the server ends.
        """
        arrived = time.monotonic()
        seconds = min(deadline_ms or self.settings.deadline_ms, self.settings.deadline_ms) / 1000
        n = len(columns[deployment.fields[0]])
        if self.settings.on_overload == "refuse":  # before the texts are read, which takes time too
            self._admit(deployment, n, seconds)
        texts = deployment.fill(columns)
        loop = asyncio.get_running_loop()
        first = deployment.first_stage
        if sum(map(len, texts)) > LONG_TEXTS:
            encoded = await loop.run_in_executor(None, deployment.encode, first, texts)
            self.ready()
        else:
            encoded = deployment.encode(first, texts)
        small = self._admit(deployment, n, seconds, [len(ids) for ids in encoded])
        if small and first:
            first, encoded = 0, deployment.encode(0, texts)
        ticket = Ticket(deployment, texts, arrived, loop.create_future(), small, first)
        ticket.items = [Waiting(ticket, place, first, ids) for place, ids in enumerate(encoded)]

        def leave(problem: Problem) -> None:
            self.device.drop(ticket)
            ticket.end(problem)

        late = f"no answer within {1000 * seconds:.0f} ms"
        timer = loop.call_at(loop.time() + seconds - (time.monotonic() - arrived), lambda: leave(deadline_passed(late)))
        if on_leave is not None:
            on_leave(lambda: leave(client_left()))
        self.device.submit(ticket)
        self.asking += 1
        try:
            await ticket.answered
        finally:
            self.asking -= 1
            timer.cancel()
            if not ticket.answered.done() or ticket.answered.cancelled():
                self.device.drop(ticket)
        if len(ticket.errors) == n:
            raise unavailable("device-failed", ticket.errors[0])
        return ticket

    def certified(self, ticket: Ticket) -> bool:
        """Tells whether the answers to a request are under the switcher's promise."""
        return ticket.deployment.certified and not ticket.small

    @property
    def idle(self) -> bool:
        """Tells whether nobody waits for an answer."""
        return self.device.idle and not self.asking

    def measure(self, measures: Measures) -> None:
        """Sets the gauges."""
        deployment = self.deployment
        measures.waiting.set(0 if deployment is None else len(deployment.queue))
        answers = deployment is not None and self.not_ready is None and not self.draining and self.device.broken is None
        measures.ready.set(answers)
        measures.compilations.set(COMPILATIONS.count - self._compiled)
        measures.certified.set(deployment is not None and deployment.certified)
        if deployment is not None and deployment.watching is not None:
            measures.watch(deployment.watching.watch.gauges())

    def _admit(self, deployment: Deployment, n: int, seconds: float, lengths: Sequence[int] = ()) -> bool:
        """Returns whether the smallest model alone is to answer n inputs; raises Problem where none can in time.

        Without the inputs' lengths, it is only looked at what waits already.
        """
        waiting = len(deployment.queue)
        room = waiting + n <= max(self.settings.most_waiting, n)
        wait = deployment.expected_wait(lengths)
        if room and wait <= seconds:
            return False
        if room and self.settings.on_overload == "small" and deployment.expected_wait(lengths, small=True) <= seconds:
            return True
        raise queue_full(
            f"{waiting:,} inputs wait, and {n:,} more would be done after about {1000 * wait:.0f} ms; expected at most "
            f"{self.settings.most_waiting:,} inputs and {1000 * seconds:.0f} ms. Try again later, or with fewer inputs",
            max(1, math.ceil(wait - seconds / 2)),
        )
