"""Serves the jobs of one side of `just bench-torch`, one at a time, and measures how long each takes.

It needs the standard library alone: both sides import it, each in a virtual environment of its own.
"""

import json
import sys
import time
from collections.abc import Callable


def serve(jobs: dict[str, Callable[[], dict]]) -> None:
    """Answers lines of standard input, each a job's name, with a line of JSON: what the job returns, and `seconds`.

    What a job prints goes to standard error, so that an answer is one line of standard output.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        start = time.perf_counter()
        answer = jobs[line.strip()]()
        print(json.dumps({"seconds": time.perf_counter() - start} | answer), file=answers, flush=True)
