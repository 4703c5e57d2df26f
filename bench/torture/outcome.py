"""Holds what a campaign found: how often each thing happened, and everything that must not happen."""

import json
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from conf.errors import EdgewiseError


@dataclass
class Outcome:
    """Counts what came of a campaign's attempts; `faults` has a line for each that broke a promise."""

    tried: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # what happened -> how often
    faults: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        """Counts one more attempt that ended so."""
        self.tried += 1
        self.counts[what] = self.counts.get(what, 0) + 1

    def add_fault(self, what: str) -> None:
        """Counts an attempt that broke a promise, and how."""
        self.tried += 1
        self.faults.append(what)

    def dumped(self) -> str:
        """Returns the outcome as JSON."""
        return json.dumps(asdict(self))


def attempts(count: int, attempt: Callable[[np.random.Generator], str], seed: int) -> Outcome:
    """Makes `count` attempts and counts what each returns.

    An EdgewiseError is a refusal, as it should be; any other exception is a fault, and so is an AssertionError, with
    its message.
    """
    outcome, rng = Outcome(), np.random.default_rng(seed)
    for number in range(count):
        try:
            outcome.add(attempt(rng))
        except EdgewiseError:
            outcome.add("refused")
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            outcome.add_fault(f"attempt {number}: {type(error).__name__}: {str(error).strip()[:100]} ({where})")
    return outcome


def described(counts: dict[str, int]) -> str:
    """Returns the counts in words, most frequent first."""
    return ", ".join(f"{count:,} {what}" for what, count in Counter(counts).most_common())
