"""Shows how far a loop is, its speed and the time left: a bar on a terminal, a line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tracking.printing import in_hours

LINE_EVERY = 15.0  # seconds between lines where there is no terminal


class Pace:
    """Measures how fast a loop finishes its units of work, by those that took what the rest will take.

    The first batch of each shape is compiled, which can take longer than all the rest of the work: its time says
    nothing of the time left.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts at the time of `clock`, which returns seconds."""
        self._clock, self._since = clock, clock()
        self._units, self._seconds = 0, 0.0

    def add(self, units: int, counted: bool = True) -> None:
        """Adds finished units and the time since the last call; both are left out of the rate unless `counted`.

        No units at all mark a time: with `counted` it belongs to the units before.
        """
        now = self._clock()
        if counted and (units or self._units):  # nothing has been counted yet: a wait before that is no unit's
            self._units += units
            self._seconds += now - self._since
        self._since = now

    @property
    def rate(self) -> float | None:
        """Returns the units a second; None as long as none has been counted."""
        return self._units / max(self._seconds, 1e-9) if self._units else None


class Meter:
    """Counts a loop's finished units of work, and shows them: in `bar`, or in lines where `show` and there is none."""

    def __init__(
        self,
        title: str,
        total: int,
        done: int,
        unit: str,
        bar: Progress | None,
        show: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts with `done` of `total` units, at the time of `clock`, which returns seconds."""
        self._show, self._clock = show, clock
        self.title, self.total, self.done, self.unit, self._bar = title, total, done, unit, bar
        self._pace, self._line = Pace(clock), clock()
        self._task = bar.add_task(title, total=total, completed=done, rate="", left="", note="") if bar else None

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)

    @property
    def seconds_left(self) -> float | None:
        """Returns how long the rest takes at the rate so far; None as long as no rate is known."""
        rate = self._pace.rate
        return None if rate is None else (self.total - self.done) / rate

    def advance(self, n: int = 1, note: str | None = None, counted: bool = True) -> None:
        """Adds `n` finished units; `note` is shown beside them, such as a loss.

        Where the time since the last call is no measure of the units to come, because something was compiled in it, it
        is not `counted`. A call with no units tells apart the time before it and the time after it.
        """
        self.done += n
        self._pace.add(n, counted)
        if self._bar is not None and self._task is not None:
            rate, left = self._rate_and_time_left()
            self._bar.update(self._task, completed=self.done, rate=rate, left=left)
            if note:
                self._bar.update(self._task, note=note)
        elif self._show and n and self._clock() - self._line > LINE_EVERY:
            self._line = self._clock()
            parts = [f"{self.title}: {self.done:,}/{self.total:,} {self.unit}", *self._rate_and_time_left(), note]
            print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def print_line(self, text: str) -> None:
        """Prints a line that stays, with the loop's title before it; above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(f"{self.title}: {text}", markup=False, highlight=False, soft_wrap=True)
        elif self._show:
            print(f"{self.title}: {text}", file=sys.stderr, flush=True)

    def _rate_and_time_left(self) -> tuple[str, str]:
        """Returns both as they are shown."""
        rate, left = self._pace.rate, self.seconds_left
        if rate is None or left is None:
            return "compiling", ""
        return f"{rate:,.1f} {self.unit}/s", f"{in_hours(left)} left"


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
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[note]}"),
    )
    with _DISPLAY.shown(lambda: Progress(*columns, console=console, transient=True, refresh_per_second=4)) as bar:
        meter = Meter(title, total, done, unit, bar)
        try:
            yield meter
        finally:
            meter.close()
