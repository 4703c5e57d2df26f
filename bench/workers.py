"""A worker of the comparison: it does by name what it is asked to, one at a time, and says how long each took.

Needs the standard library alone: both sides import it, each in a virtual environment of its own.
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
        found = jobs[line.strip()]()
        print(json.dumps({"seconds": time.perf_counter() - start} | found), file=answers, flush=True)
