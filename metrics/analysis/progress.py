"""Thins out lines of progress, so that a person reads one every few seconds."""

import time
from collections.abc import Callable

_SECONDS_BETWEEN_REPORTS = 5.0


def every_few_seconds(report: Callable[[str], None]) -> Callable[[str], None]:
    """Returns a function that passes a line on to `report` if it passed the last one on some seconds ago."""
    last = time.monotonic()

    def report_sometimes(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_REPORTS:
            report(text)
            last = time.monotonic()

    return report_sometimes
