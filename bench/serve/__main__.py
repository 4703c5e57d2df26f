"""Measures the server beside LitServe and Ray Serve with the same weights in torch: `just bench-serve`.

python -m bench.serve [--page docs/serving.md] [--seconds N] [--rounds N] [--python PATH]: each server is started,
measured and ended in its turn, in about ten minutes on two idle cores.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rich.console import Console

from bench.serve.measure import LOAD, Measured, apply_rate, best_batch, measure_side, same_answers
from bench.serve.models import Work, make_work
from bench.serve.page import goals, section, write_page
from bench.serve.sides import THEIRS, Side, edgewise, litserve, ray_serve

COMPARED = 64  # texts whose answers have to be alike
LEAST_ALIKE = 0.95  # of them; scores beside the threshold may fall to either side of it


def _made(make: Callable[..., Side], work: Work, python: str, alone: bool, batch: int) -> Side:
    """Returns a server with batches of at most `batch`."""
    return make(work.bundle, python, batch, alone)


def main() -> None:
    """Measures all servers, prints what came of it, and writes the page where one is given."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="the page to write the table into, such as docs/serving.md")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default: 5)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each server (default: 2)")
    parser.add_argument("--batch", type=int, help="of the other servers, without trying which is better")
    parser.add_argument(
        "--only", nargs="*", choices=("litserve", "ray"), help="other servers to measure (default: both)"
    )
    parser.add_argument(
        "--python", default=str(THEIRS / ".venv/bin/python"), help="a Python with bench/serve/theirs/requirements.txt"
    )
    options = parser.parse_args()
    console, begin = Console(highlight=False, markup=False, soft_wrap=True), time.monotonic()

    def progress(text: str) -> None:
        console.print(f"[{time.monotonic() - begin:4.0f} s] {text}")

    with tempfile.TemporaryDirectory(prefix="bench-serve-") as name:
        folder = Path(name)
        progress("making tiny and mini with random weights")
        work = make_work(folder)
        ours = Measured("Edgewise")
        makers = {
            make(work.bundle, options.python, 1, alone).name: functools.partial(
                _made, make, work, options.python, alone
            )
            for make in (litserve, ray_serve)
            for alone in (True, False)
            if options.only is None or any(name in make.__name__ for name in options.only)
        }
        answers: dict[str, list[dict[str, object]]] = {}
        sides = {ours.name: edgewise(work.bundle, folder / "runs")}
        measured = {ours.name: ours}
        for key, side_of in makers.items():
            batch = options.batch or best_batch(side_of, work, options.seconds / 2, folder, progress)
            sides[key] = side_of(batch)
            measured[key] = Measured(key, batch)
        rates, common, order = [], None, list(sides)
        for turn in range(options.rounds):
            rates.append(apply_rate(work, folder))
            progress(f"infer.apply: {rates[-1]:.0f} inputs/s")
            for place in range(len(order)):
                key = order[(place + turn) % len(order)]
                compared = work.texts[:COMPARED] if turn == 0 else []
                found = measure_side(
                    sides[key], measured[key], work, options.seconds, common, 10 * turn, folder, compared
                )
                if compared:
                    answers[key] = found
                if common is None:
                    common = LOAD * ours.capacity[0]
                one = measured[key]
                progress(
                    f"{one.name}: {one.capacity[-1]:.0f} inputs/s, p50 {1000 * one.p50[-1]:.0f} ms, "
                    f"p99 {1000 * one.p99[-1]:.0f} ms, goodput {one.goodput[-1]:.0f}/s"
                    + (f", {one.capacity_many[-1]:.0f}/s with many inputs a request" if one.capacity_many else "")
                )
            if turn == 0:
                switches = [found for key, found in answers.items() if key.endswith("switch")]
                alike = min((same_answers(answers[ours.name], found) for found in switches), default=1.0)
                if alike < LEAST_ALIKE:
                    raise SystemExit(f"only {alike:.0%} of the servers' answers are the same: they can't be compared")
    assert common is not None
    facts = {
        "tokens": work.tokens,
        "deferred": work.deferred,
        "common_rate": common,
        "rounds": float(options.rounds),
        "alike": alike,
    }
    theirs = [one for key, one in measured.items() if key != ours.name]
    rate = median(rates)
    for what, ratio, least in goals(ours, theirs, rate):
        progress(f"against {what}: {ratio:.2f} times (goal {least:g})")
    if options.page:
        write_page(options.page, section(ours, theirs, rate, facts, time.monotonic() - begin))
        progress(f"wrote {options.page}")


if __name__ == "__main__":
    main()
