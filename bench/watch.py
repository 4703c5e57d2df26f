"""Measures how often the watch raises a false alarm, and how soon a true one: `just bench-watch`.

Streams are drawn whose truth is known: the first stage's log scores are normal, a fifth is above the threshold, and the
switcher was certified on 3,000 examples and evaluated on 2,250, as the parts 0.3, 0.4, 0.3 of 7,500 are. Unchanged
streams go on like that; changed ones defer more, disagree more, or have other scores from some input on. The watch is
the one that serves, told of 32 inputs at a time. Writes a table between two marks of docs/serving.md.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from conf.machine import cores
from conf.sections.switcher import Apply
from infer.switcher.policy import Policy, Stage
from infer.watch.watch import Watch

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
MARKS = ("<!-- watch: made by `just bench-watch` -->", "<!-- end of watch -->")
CERTIFY, EVALUATE = 3000, 2250
DEFERRED, DISAGREE = 0.2, 0.05  # shares of the population: of all, and of those kept
SHADOW = 0.02  # of those kept, which go to the largest model too
THRESHOLD = 0.8416212335729143  # 80 % of the standard normal distribution are below it
AT_A_TIME = 32
CHANGES = ("deferral", "shift", "disagreement")
QUIET = (0, 1000, 20_000)  # inputs before the change


@dataclass(frozen=True)
class Stream:
    """Holds n inputs: their log scores [n], and which of them the largest model would answer otherwise, [n] bool."""

    log_scores: np.ndarray
    disagrees: np.ndarray

    @property
    def deferred(self) -> np.ndarray:
        """Tells which inputs the first stage passes on: [n] bool."""
        passed: np.ndarray = self.log_scores >= THRESHOLD
        return passed


def watched_policy(
    calibration: np.ndarray, threshold: float, deferred: int, examples: int, differing: tuple[int, int]
) -> Policy:
    """Returns a policy with all that the watch looks at.

    `calibration` [m] are the certify part's log scores; of the evaluate part's `examples` so many are deferred;
    `differing` are the kept ones that the largest model answers otherwise, of the certify and of the evaluate part.
    """
    certify = int((calibration < threshold).sum())
    return Policy(
        dataset="watched",
        task="classification",
        labels=[["0", "no"], ["1", "yes"]],
        template="{text}",
        max_input_length=8,
        max_target_length=None,
        decoding={},
        dtype="float32",
        stages=[
            Stage("small", 0, "0" * 32, 1, 1.0, "margin", threshold),
            Stage("large", 0, "1" * 32, 4, 4.0, None, None),
        ],
        goal={"name": "best", "limit": 0.0, "delta": 0.1},
        certificate={},
        expected={
            "examples": examples,
            "deferred": {"value": deferred / examples},
            "disagreement": {
                "value": differing[1] / max(examples - deferred, 1),
                "examples": examples - deferred,
                "differing": differing[1],
                "certify": {"examples": certify, "differing": differing[0]},
            },
        },
        over_seeds={},
        parts={},
        calibration=[np.sort(calibration).tolist()],
        self_check=None,
        inputs={},
    )


def drawn_policy(rng: np.random.Generator) -> Policy:
    """Draws the examples that a switcher was certified and evaluated on."""
    calibration = rng.normal(size=CERTIFY)
    deferred = int(rng.binomial(EVALUATE, DEFERRED))
    kept = int((calibration < THRESHOLD).sum()), EVALUATE - deferred
    differing = int(rng.binomial(kept[0], DISAGREE)), int(rng.binomial(kept[1], DISAGREE))
    return watched_policy(calibration, THRESHOLD, deferred, EVALUATE, differing)


def unchanged(rng: np.random.Generator, n: int) -> Stream:
    """Draws n inputs from the population."""
    return Stream(rng.normal(size=n), rng.random(n) < DISAGREE)


def changed(rng: np.random.Generator, n: int, change: str) -> Stream:
    """Draws n inputs from another population.

    `deferral`: 30 % are above the threshold instead of 20 %, otherwise distributed as before on either side of it;
    `shift`: all log scores are higher, by as much as brings 30 % above it; `disagreement`: 15 % are answered otherwise.
    """
    stream = unchanged(rng, n)
    if change == "disagreement":
        return Stream(stream.log_scores, rng.random(n) < 3 * DISAGREE)
    if change == "shift":
        return Stream(stream.log_scores + THRESHOLD - 0.5244005127080407, stream.disagrees)  # 70 % are below that
    many = rng.normal(size=40 * n + 400)
    above, below = many[many >= THRESHOLD][:n], many[many < THRESHOLD][:n]
    return Stream(np.where(rng.random(n) < 0.3, above, below), stream.disagrees)


def watched(policy: Policy, streams: list[Stream], rng: np.random.Generator) -> tuple[str, int] | None:
    """Returns which test raised the first alarm, and after how many inputs; None where none did."""
    watch = Watch(policy, Apply(), None)
    scores = np.concatenate([stream.log_scores for stream in streams])
    deferred = np.concatenate([stream.deferred for stream in streams])
    disagrees = np.concatenate([stream.disagrees for stream in streams])
    shadowed = ~deferred & (rng.random(len(scores)) < SHADOW)
    for start in range(0, len(scores), AT_A_TIME):
        some = slice(start, start + AT_A_TIME)
        alarms = watch.answered(scores[some], deferred[some]) + watch.compared(disagrees[some][shadowed[some]])
        if alarms:
            return alarms[0].name, min(start + AT_A_TIME, len(scores))
    return None


def false_alarms(streams: int, length: int, seed: int) -> list[str]:
    """Returns the names of the tests that raised an alarm in unchanged streams, one for each stream that had one."""
    rng = np.random.default_rng(seed)
    found = [watched(drawn_policy(rng), [unchanged(rng, length)], rng) for _ in range(streams)]
    return [alarm[0] for alarm in found if alarm is not None]


def delays(change: str, quiet: int, streams: int, length: int, seed: int) -> list[float]:
    """Returns after how many inputs since the change the alarm came: inf where within `length` none did.

    Streams with an alarm before the change are left out.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(streams):
        alarm = watched(drawn_policy(rng), [unchanged(rng, quiet), changed(rng, length, change)], rng)
        if alarm is None or alarm[1] > quiet:
            found.append(np.inf if alarm is None else float(alarm[1] - quiet))
    return found


def microseconds(at_a_time: int, inputs: int = 4096) -> float:
    """Returns the processor time that the watch takes for an input, where it is told of so many at a time."""
    rng = np.random.default_rng(0)
    watch, stream = Watch(drawn_policy(rng), Apply(), None), unchanged(rng, inputs)
    start = time.process_time()
    for place in range(0, inputs, at_a_time):
        some = slice(place, place + at_a_time)
        watch.answered(stream.log_scores[some], stream.deferred[some])
    return (time.process_time() - start) / inputs * 1e6


def page(alarms: list[str], unchanged_streams: int, found: dict[tuple[str, int], list[float]], speed: str) -> str:
    """Returns what was measured as Markdown."""
    error = 100 * (0.01 * 0.99 / unchanged_streams) ** 0.5
    titles = {
        "deferral": "20 → 30 % deferred",
        "shift": "all scores higher, by as much",
        "disagreement": "5 → 15 % of the kept answered otherwise, 2 % of them compared",
    }

    def cell(values: list[float]) -> str:
        late = f"{np.quantile(values, 0.9, method='higher'):,.0f}".replace("inf", "more")
        return f"{np.median(values):,.0f} ({late})".replace("inf", "more")

    lines = [
        f"Of {unchanged_streams:,} unchanged streams of 20,000 inputs {len(alarms)} raised an alarm "
        f"({100 * len(alarms) / unchanged_streams:.1f} %; at most 1 % is promised, standard error {error:.1f}). Inputs "
        "until the alarm after a change, the median and in brackets the 90 % quantile of "
        f"{max(map(len, found.values()))} streams:",
        "",
        *markdown_table(
            ["change", *(f"after {quiet:,} quiet inputs" for quiet in QUIET)],
            [[titles[change], *(cell(found[change, quiet]) for quiet in QUIET)] for change in CHANGES],
        ),
        "",
        speed,
    ]
    return "\n".join(lines)


def main() -> int:
    """Measures, prints the page's part and writes it into docs/serving.md; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.watch", description=__doc__)
    parser.add_argument("--unchanged", type=int, default=1000, help="unchanged streams; default: %(default)s")
    parser.add_argument("--changed", type=int, default=200, help="streams of each change; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, start = Console(highlight=False), time.monotonic()
    lengths = {"deferral": 4000, "shift": 4000, "disagreement": 40_000}
    with ProcessPoolExecutor(cores()) as pool:
        part = 20  # streams a task
        quiet = [
            pool.submit(false_alarms, part, 20_000, options.seed + 1_000_000 + task)
            for task in range(options.unchanged // part)
        ]
        moved = {
            (change, before): [
                pool.submit(delays, change, before, part, lengths[change], options.seed + 1000 * place + task)
                for task in range(options.changed // part)
            ]
            for place, (change, before) in enumerate((change, before) for change in CHANGES for before in QUIET)
        }
        alarms = [name for task in quiet for name in task.result()]
        found = {key: [value for task in tasks for value in task.result()] for key, tasks in moved.items()}
    speed = (
        f"An input takes the watch {microseconds(1):.0f} µs of processor time when they come one by one, "
        f"{microseconds(8):.0f} µs eight at a time and {microseconds(AT_A_TIME):.0f} µs {AT_A_TIME} at a time."
    )
    text = page(alarms, options.unchanged, found, speed)
    console.print(text, markup=False)
    write_between_marks(PAGE, MARKS, text)
    console.print(f"in {time.monotonic() - start:.0f} s; false alarms by {alarms}; written to docs/serving.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
