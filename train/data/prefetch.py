"""Works ahead, so that neither the host nor the device waits for the other.

`ahead` lets the host pack the next batches and send them while the device computes; `in_flight` lets the device have
its next batch before the host reads the results of the last one.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Step = TypeVar("Step")
Made = TypeVar("Made")


def ahead(make: Callable[[Step], Made], steps: Iterable[Step], depth: int = 2) -> Generator[Made, None, None]:
    """Yields `make(step)` for every step, in order; a thread makes up to `depth` of them before they are asked for.

    An error of `make` is raised where its result would have come. Closing the generator early drops what was made
    ahead.
    """
    steps = iter(steps)
    with ThreadPoolExecutor(1, "prefetch") as thread:
        made: deque[Future[Made]] = deque(thread.submit(make, step) for step in islice(steps, depth))
        try:
            while made:
                result = made.popleft().result()
                made.extend(thread.submit(make, step) for step in islice(steps, 1))
                yield result
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def in_flight(started: Iterable[Made], most: int) -> Iterator[Made]:
    """Yields what `started` yields, in order, always `most` of them taken from it before the first is handed on.

    `started` starts a computation on the device for each of its items and does not wait for it. Whoever reads an item's
    arrays waits while the device has `most` - 1 others to go on with; with 1 it has none.
    """
    waiting: deque[Made] = deque()
    for item in started:
        waiting.append(item)
        if len(waiting) >= most:
            yield waiting.popleft()
    yield from waiting
