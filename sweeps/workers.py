"""Makes calls in worker processes of this machine, each of which may die without the others."""

import os
import re
import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import Any

from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

from conf.errors import first_line
from train.stopping import Stopped, stop_signals

SIGNAL_CHECK_SECONDS = 0.5


class _Worker:
    """Holds one worker process; where it dies, only the call that it makes is lost."""

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(max_workers=1)  # of more, loky kills all where one dies
        self._pid = self._executor.submit(os.getpid)

    def call(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Future[Any]:
        """Starts a call and returns what will hold its result."""
        future: Future[Any] = self._executor.submit(function, *arguments)
        return future

    def stop(self) -> bool:
        """Passes SIGTERM on to the process; returns whether it is up already, to get it."""
        if not self._pid.done() or self._pid.exception() is not None:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGTERM)
        return True

    def close(self, kill: bool) -> None:
        """Ends the process, with `kill` at once."""
        self._executor.shutdown(wait=True, kill_workers=kill)


def call_in_workers(
    function: Callable[..., Any], calls: Sequence[Sequence[Any]], most: int, lost: Callable[[int, str], None]
) -> list[Any]:
    """Calls `function` with each of `calls`, its arguments, in up to `most` processes, and returns what came back.

    A call whose process dies, or that raises, is reported to `lost` with its index and a line that says why; the others
    go on, and a new process takes the place of a dead one. A signal that asks to stop is passed on to the processes as
    SIGTERM; no call is started then, and Stopped is raised when those at work have ended.
    """
    waiting = deque(range(len(calls)))
    idle: list[_Worker] = []
    busy: dict[Future[Any], tuple[_Worker, int]] = {}
    told: set[_Worker] = set()
    results = []
    is_through = False
    try:
        with stop_signals() as stop:
            while busy or (waiting and not stop.received):
                while waiting and len(busy) < most and not stop.received:
                    worker, index = idle.pop() if idle else _Worker(), waiting.popleft()
                    try:
                        future = worker.call(function, calls[index])
                    except BrokenProcessPool:  # it died after its last call
                        worker.close(kill=True)
                        waiting.appendleft(index)
                        continue
                    busy[future] = worker, index
                done, _ = wait(busy, timeout=SIGNAL_CHECK_SECONDS, return_when=FIRST_COMPLETED)
                if stop.received:
                    told |= {worker for worker, _ in busy.values() if worker not in told and worker.stop()}
                for future in done:
                    worker, index = busy.pop(future)
                    error = future.exception()
                    if error is None:
                        results.append(future.result())
                    elif not stop.received:
                        lost(index, _why(error))
                    if isinstance(error, BrokenProcessPool):
                        worker.close(kill=True)
                    else:
                        idle.append(worker)
        is_through = not stop.received
        if stop.received:
            raise Stopped(stop.received)
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.close(kill=not is_through)
    return results


def _why(error: BaseException) -> str:
    """Returns in a line why a call has no result."""
    if isinstance(error, BrokenProcessPool):
        how = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
        return f"its process died, {how[1]}" if how else first_line(error)
    if isinstance(error, Stopped):
        return "a signal stopped it"
    if isinstance(error, SystemExit):
        return f"it ended with status {error.code}"
    return f"{type(error).__name__}: {first_line(error)}"
