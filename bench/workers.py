"""Serves the jobs of one side of `just bench-torch`, one at a time, and measures how long each takes.

It needs the standard library alone: both sides import it, each in a virtual environment of its own.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def serve(jobs: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
    """Answers lines of standard input, each a job's name, with a line of JSON: what the job returns, and `seconds`.

    What a job prints goes to standard error, so that an answer is one line of standard output. Of a job that fails the
    answer has `error`, its error's last line, and standard error the whole of it.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        start = time.perf_counter()
        try:
            answer = jobs[line.strip()]()
        except Exception as error:  # whatever it is, the next job may still be done
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error) else ''}"}
        print(json.dumps({"seconds": time.perf_counter() - start} | answer), file=answers, flush=True)
