"""Divides the work on arrays among threads: which function maps side by side, and how many threads a product takes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

# The signature of `map` over one iterable: of `map` itself, or of an executor's, which calls side by side.
ParallelMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Keeps each matrix product on one thread: in small products a second thread spins more than it computes.

    Must be entered by one thread only, around everything that the other threads do.
    """
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield
