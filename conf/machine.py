"""Asks the operating system what this process may use, and has its threads take turns quickly."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TURN = 1e-4  # seconds


def cores() -> int:
    """Returns how many CPU cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def quick_turns() -> Iterator[None]:
    """Lets threads wait a tenth of a millisecond for one that keeps Python to itself, and not 5 ms as by default.

    It helps where some threads compute without Python most of the time (NumPy, XLA) while another runs Python: they
    would wait after each computation, with their core idle.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
