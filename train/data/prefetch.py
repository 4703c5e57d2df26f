"""Works ahead: the host packs the next batches and sends them to the device while the device computes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
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
