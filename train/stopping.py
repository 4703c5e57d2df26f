"""Notes the signals that ask the work to stop, so that it stops where it can, and passes them on.

Starts without JAX.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

# What batch systems send before they take a machine away (SIGTERM, or SIGUSR1 and SIGUSR2 as asked), and Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(SystemExit):
    """Ends the process after a signal, when the work is saved. The exit status is the shell's for that signal."""

    def __init__(self, signal_number: int):
        super().__init__(128 + signal_number)


class Stop:
    """Holds the signal that asked to stop, or 0. Several threads may look at one."""

    received = 0

    def check(self) -> None:
        """Raises Stopped where a signal has come."""
        if self.received:
            raise Stopped(self.received)

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, one after the other; raises Stopped before the next one where a signal has come."""
        for item in items:
            self.check()
            yield item


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Notes SIGNALS in the `Stop` it yields instead of ending the process; a second SIGINT does end it.

    Only the main thread can set handlers: in another one nothing is noted. A batch system's own handler of such a
    signal is called at the end: it is what puts the job back into the queue.
    """
    stop = Stop()

    def note(number: int, _: object) -> None:
        if stop.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        stop.received = number

    try:
        previous = {number: signal.signal(number, note) for number in SIGNALS}
    except ValueError:  # another thread: the caller handles signals
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        handler = previous[signal.Signals(stop.received)] if stop.received else None
        if stop.received != signal.SIGINT and callable(handler):
            handler(stop.received, None)


def raise_at_signals() -> None:
    """Has SIGNALS raise Stopped wherever the process is, but for where `stop_signals` notes them.

    So what the process has begun is ended as by any error, such as the run that it keeps. A signal that is ignored, as
    `nohup` and a shell's background jobs have it, stays so.
    """

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
