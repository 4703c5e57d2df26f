"""Chooses switchers of real text on one split, measures them on another, and writes both into docs/serving.md.

python -m bench.switchers [--root DIR] [--rounds N] PAGE: the store has the cells that `just switchers` trains.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from tracking.interface import Artifact
from tracking.store import Store

MARKS = ("<!-- switchers: made by `just switchers` -->", "<!-- end of switchers -->")
SEED = 0
CHOSEN_ON, EVALUATED_ON = "test", "validation"
PROMISES = (
    "Data set",
    "Goal",
    "Deferred: promised at most",
    "measured",
    "Loss: promised at most",
    "measured",
    "Kept",
)
SPEEDS = (
    "Data set",
    "Goal",
    "Quality: switcher",
    "larger",
    "smaller",
    "ms: switcher",
    "larger",
    "smaller",
    "r",
    "f",
    "1/(r + f)",
    "Times as fast",
    "Of the ideal",
)


@dataclass(frozen=True)
class Wanted:
    """Names a switcher to choose and measure: its dataset, its sizes, and its goal in words and as overrides."""

    dataset: str
    title: str
    sizes: tuple[str, str]
    goal: str
    overrides: tuple[str, ...]


SST2 = ("sst2", "SST-2", ("nano", "tiny"))
MULTI30K = ("multi30k", "Multi30k", ("nano", "micro"))
WANTED = (
    Wanted(*SST2, "budget: 20 % deferred", ("switcher.goal=budget", "switcher.budget=0.2")),
    Wanted(*SST2, "match", ("switcher.goal=match",)),
    Wanted(*SST2, "certified: 2 points", ("switcher.goal=certified", "switcher.epsilon=0.02")),
    Wanted(*MULTI30K, "budget: 30 % deferred", ("switcher.goal=budget", "switcher.budget=0.3")),
    Wanted(*MULTI30K, "match", ("switcher.goal=match",)),
)


@dataclass(frozen=True)
class Measured:
    """Holds the evaluation of a switcher, or why there is no such switcher."""

    wanted: Wanted
    result: dict[str, Any] | None
    refusal: str = ""


def measure(wanted: Wanted, root: str, rounds: int, store: Store) -> Measured:
    """Chooses a switcher by the commands that a person would use, and evaluates it on the split that chose nothing."""
    common = [f"dataset={wanted.dataset}", f"tracking.root={root}"]
    sizes = f"switcher.sizes=[{','.join(wanted.sizes)}]"
    runs = (sizes, f"switcher.seeds=[{SEED}]", f"switcher.split={CHOSEN_ON}")
    choosing = [*common, *wanted.overrides, *runs, "force=true"]
    chosen = _command("infer.switcher", choosing)
    if chosen.returncode:
        return Measured(wanted, None, chosen.stderr.strip().removeprefix("error: ").splitlines()[-1])
    ref = _logged(chosen.stdout)
    evaluating = [*common, f"switcher.ref={ref}", f"infer.split={EVALUATED_ON}", f"evaluate.rounds={rounds}"]
    evaluated = _command("infer.evaluate", evaluating)
    if evaluated.returncode:
        raise SystemExit(f"infer.evaluate {' '.join(evaluating)} failed:\n{evaluated.stderr}")
    return Measured(wanted, evaluation_of(store.artifact(_logged(evaluated.stdout))))


def evaluation_of(artifact: Artifact) -> dict[str, Any]:
    """Returns the evaluation that an artifact holds."""
    found: dict[str, Any] = json.loads(artifact.file("evaluation.json").read_text(encoding="utf-8"))
    return found


def speed(result: dict[str, Any]) -> dict[str, float]:
    """Returns how fast a switcher of two models was, and what it could have been.

    `ratio` r is the smaller model's time over the larger one's and `deferred` f the share passed on. A switcher without
    any cost of its own takes r + f of the larger model's time, which is `ideal` = 1 / (r + f) times as fast;
    `speedup` is what was measured, `of_ideal` their quotient.
    """
    times = [side["ms_per_example"]["median"] for side in result["sides"]]
    ratio, deferred = times[1] / times[-1], result["sides"][0]["deferred"]["value"]
    ideal, speedup = 1 / (ratio + deferred), times[-1] / times[0]
    return {
        "ratio": ratio,
        "deferred": deferred,
        "ideal": ideal,
        "speedup": speedup,
        "of_ideal": speedup / ideal,
    }


def section(measured: Sequence[Measured]) -> str:
    """Returns the text between the marks: promises beside measurements, quality, and speed beside the ideal."""
    done = [one for one in measured if one.result is not None]
    if not done:
        raise SystemExit("no switcher could be chosen: " + "; ".join(one.refusal for one in measured))
    first = done[0].result
    assert first is not None
    examples = {one.wanted.title: one.result["examples"] for one in done if one.result is not None}
    counts = " and ".join(f"{count:,} of {title}" for title, count in examples.items())
    lines = [
        f"Chosen on the {CHOSEN_ON} split, measured on the {EVALUATED_ON} split, which chose nothing ({counts}). Small "
        "models from scratch, as in [results.md](results.md); a promise is about the population, and holds with "
        "probability 90 %.",
        "",
        *markdown_table(PROMISES, map(_promise_cells, measured), (0, 1, 6)),
        "",
        f"Time on {first['device']}, median of {first['rounds']} turns each. r is the smaller model's time over the "
        "larger one's, f the share deferred, both measured; a switcher that costs nothing itself is 1/(r + f) times as "
        "fast as the larger model alone.",
        "",
        *markdown_table(SPEEDS, map(_speed_cells, done), (0, 1)),
    ]
    return "\n".join(lines)


def _promise_cells(one: Measured) -> list[str]:
    """Returns a switcher's row of promises, or why there is none."""
    start = [one.wanted.title, one.wanted.goal]
    if one.result is None:
        return [*start, one.refusal.replace("|", "/"), *"––––"]
    unit = "BLEU" if one.result["measure"] == "BLEU" else "points"
    cells, kept = [], []
    for key, its_unit in (("deferred", "%"), ("loss", unit)):
        promise = one.result["promise"][key]
        at_most = promise["at_most"]
        cells += ["none" if at_most is None else f"{100 * at_most:.2f} {its_unit}"]
        cells += [f"{100 * promise['measured']:.2f} {its_unit}"]
        if promise["kept"] is not None:
            kept.append(promise["kept"])
    return [*start, *cells, "yes" if all(kept) else "not on these"]


def _speed_cells(one: Measured) -> list[str]:
    """Returns a switcher's row of qualities and times."""
    assert one.result is not None
    found, sides = speed(one.result), one.result["sides"]
    order = (sides[0], sides[-1], sides[1])
    cells = [f"{100 * side['quality']['value']:.2f}" for side in order]
    cells += [f"{side['ms_per_example']['median']:.3g}" for side in order]
    cells += [f"{found[key]:.2f}" for key in ("ratio", "deferred", "ideal", "speedup", "of_ideal")]
    return [one.wanted.title, one.wanted.goal, *cells]


def _command(module: str, overrides: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command of the product and returns how it ended."""
    return subprocess.run([sys.executable, "-m", module, *overrides], capture_output=True, text=True)


def _logged(output: str) -> str:
    """Returns the reference of the artifact that a command says it logged."""
    found = re.search(r"^logged (\S+?):? ", output, re.MULTILINE)
    if found is None:
        raise SystemExit(f"expected a line `logged REF: …`, got:\n{output}")
    return found[1]


def main() -> None:
    """Measures all and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="runs", help="the store with the trained and scored cells")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each side takes")
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    store = Store(options.root, create=False)
    measured = []
    for wanted in WANTED:
        print(f"{wanted.title}, {wanted.goal}", flush=True)
        measured.append(measure(wanted, options.root, options.rounds, store))
        print(f"  {measured[-1].refusal or speed(measured[-1].result or {})}", flush=True)
    write_between_marks(options.page, MARKS, section(measured))
    print(f"wrote {options.page}")


if __name__ == "__main__":
    main()
