"""Asks the operating system what this process may use."""

import os


def cores() -> int:
    """Returns how many CPU cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
