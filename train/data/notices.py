"""Prints what a user should know of the data on stderr, each line once."""

import sys
from functools import lru_cache


@lru_cache(maxsize=256)
def print_once(line: str) -> None:
    """Prints a line on stderr the first time that a process asks for it: every cell of a sweep would repeat it."""
    print(line, file=sys.stderr)
