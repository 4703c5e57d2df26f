"""Shows how far a loop is, its speed and the time left: a bar on a terminal, a line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 15.0  # seconds between lines where there is no terminal


class Meter:
    """Counts a loop's finished units of work, and shows them: in `bar`, or in lines where `show` and there is none."""

    def __init__(self, title: str, total: int, done: int, unit: str, bar: Progress | None, show: bool = True):
        self._show = show
        self.title, self.total, self.done, self.unit, self._bar = title, total, done, unit, bar
        self._start, self._first, self._line = time.monotonic(), done, time.monotonic()
        self._task = bar.add_task(title, total=total, completed=done, rate="", note="") if bar else None

    @property
    def rate(self) -> float:
        """Returns the units a second since the start."""
        return (self.done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Adds `n` finished units; `note` is shown beside them, such as a loss."""
        self.done += n
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:,.1f} {self.unit}/s")
            if note:
                self._bar.update(self._task, note=note)
        elif self._show and time.monotonic() - self._line > LINE_EVERY:
            self._line = time.monotonic()
            left = (self.total - self.done) / max(self.rate, 1e-9)
            line = f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {self.rate:,.1f}/s, {left:,.0f} s left"
            print(line + (f", {note}" if note else ""), file=sys.stderr, flush=True)


class _Display:
    """Holds the bars of all loops that run at one time, below each other: a terminal has room for one live display."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._loops = 0

    @contextmanager
    def shown(self, make: Callable[[], Progress]) -> Iterator[Progress]:
        """Yields the display, which is there from the first loop's start to the last one's end."""
        with self._lock:
            if self._progress is None:
                self._progress = make()
                self._progress.start()
            shown = self._progress
            self._loops += 1
        try:
            yield shown
        finally:
            with self._lock:
                self._loops -= 1
                if self._loops == 0:
                    shown.stop()
                    self._progress = None


_DISPLAY = _Display()


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0, show: bool = True) -> Iterator[Meter]:
    """Yields a meter for a loop over `total` units, of which `done` are done; it shows nothing unless `show`."""
    console = Console(stderr=True)
    if not console.is_terminal or not show:
        yield Meter(title, total, done, unit, None, show)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with _DISPLAY.shown(lambda: Progress(*columns, console=console, transient=True, refresh_per_second=4)) as bar:
        meter = Meter(title, total, done, unit, bar)
        try:
            yield meter
        finally:
            meter.close()
