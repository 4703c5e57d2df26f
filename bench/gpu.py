"""Measures on a GPU all that docs/performance.md predicts for one: `just bench-gpu`.

The steps run one after the other, each in a process of its own with a time limit, ten minutes in all. After each the
results are written to `--out`, so that whatever was measured is kept when something fails or time is up. A step that
needs what is not there (torch, IMDB) is left out and says so. `--tiny` takes shapes with which the script itself is
tried on a CPU in a few minutes; its figures mean nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.errors import last_line

ROOT = Path(__file__).parent.parent
# What was aimed at, by step: docs/performance.md
GOALS = {
    "train base": "step ≤ 100 ms on an H200, ≤ 112 ms on an H100",
    "train large": "step ≤ 325 ms on an H200, ≤ 365 ms on an H100",
    "attention": "the kernel's forward and backward pass ≤ 1.6 ms with one segment a row, ≤ 0.7 ms with four",
    "torch train": "≥ 1.5 × compiled torch",
    "torch score": "≥ 2 × the best torch script that encodes once",
    "decode": "≤ 1.5 × the memory bound",
    "demo": "works; its time is said",
}


@dataclass(frozen=True)
class Step:
    """Holds one step: its name, the arguments of `python`, its limit in seconds, and what has to be there for it.

    A command that prints its result prints JSON as its last line; one that writes it has `{json}` among its arguments.
    """

    name: str
    arguments: tuple[str, ...]
    limit: float
    needs: tuple[str, ...] = field(default=())  # paths


def steps(tiny: bool, torch: str, imdb: str) -> list[Step]:
    """Returns the steps, the most important first; `torch` is a Python that has it, `imdb` a folder of its splits."""
    shape: tuple[str, ...] = ("dataset=yahoo_answers", "size.vocabulary_size=32128")
    if tiny:
        shape = ("dataset=yahoo_answers", "size.vocabulary_size=256", "dataset.max_input_length=32")
    base, large = ("nano", "nano") if tiny else ("base", "large")
    rows = "train.batch_size=4" if tiny else "train.batch_size=128"
    measured = ("--steps", "2") if tiny else ("--steps", "20", "--profile", "40")
    work: tuple[str, ...] = (
        "-m",
        "bench",
        "--device",
        "cpu" if tiny else "cuda",
        "--python",
        torch,
        "--json",
        "{json}",
    )
    work += ("--steps", "1" if tiny else "8", "--scored", "8" if tiny else "1024", "--rounds", "1" if tiny else "3")
    data = ("dataset=demo", "size=nano") if tiny else ("dataset=imdb", f"dataset.path={imdb}", f"size={base}")
    both: tuple[str, ...] = (
        *work,
        *data,
        "train.batch_size=8" if tiny else "train.batch_size=64",
        "train.loss_normalizer=tokens",
    )
    if not tiny:
        both += ("train.dtype=bfloat16",)
    needs = (torch,) if tiny else (torch, imdb)
    decoding = ("--rows", "2", "--source", "16", "--written", "4", "--turns", "1") if tiny else ()
    train_base = ("-m", "bench.train_step", *shape, f"size={base}", rows)
    return [
        Step("train base", (*train_base, *measured), 120),
        Step("attention", ("-m", "bench.attention_on_gpu", "--json", "{json}", *(("--tiny",) if tiny else ())), 150),
        Step("train base by the kernel", (*train_base, *measured, "train.attention=kernel"), 120),
        Step("train base in a loop", (*train_base, "train.unroll=false"), 90),
        Step("train large", ("-m", "bench.train_step", *shape, f"size={large}", rows, *measured), 180),
        Step("torch train", (*both, "--only", "train", "--limit", "60"), 180, needs),
        Step("torch score", (*both, "--only", "score", "--limit", "45"), 150, needs),
        Step("decode", ("-m", "bench.decoding", f"size={base}", "--json", "{json}", *decoding), 90),
        Step("demo", ("-m", "sweeps", "sweep=demo", "tracking.root={folder}/runs", "metrics.out={folder}/out"), 240),
    ]


def run_step(step: Step, limit: float, folder: Path) -> dict[str, Any]:
    """Runs one step for at most `limit` seconds, and returns its state, its seconds and what it found.

    The state is `done`, `failed`, `out of time` or `left out`; of one that isn't done, `why` says more.
    """
    if missing := [path for path in step.needs if not path or not Path(path).exists()]:
        return {"state": "left out", "why": f"there is no {missing[0] or 'folder given'}"}
    if limit < 1:
        return {"state": "left out", "why": "no time was left"}
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    arguments = [
        argument.replace("{json}", str(result)).replace("{folder}", str(folder)) for argument in step.arguments
    ]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    found: dict[str, Any] = {"state": "done"}
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the workers of a comparison too, which would keep the GPU's memory
        out, err = process.communicate()
        found = {"state": "out of time", "why": f"not done in {limit:.0f} s, its limit"}
    if found["state"] == "done" and process.returncode:
        found = {"state": "failed", "why": last_line(err) or f"status {process.returncode}"}
    found["seconds"] = time.monotonic() - start
    if result.exists():  # what a step wrote before it failed is kept
        found["result"] = json.loads(result.read_text())
    elif found["state"] == "done" and "{json}" not in step.arguments:
        found["result"] = last_json(out)
    return found


def last_json(text: str) -> Any:
    """Returns the value of a text's last line where that is JSON, else None."""
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def run_all(planned: Sequence[Step], seconds: float, out: Path) -> dict[str, Any]:
    """Runs the steps within `seconds` in all, writes what was found to `out` after each, and returns it."""
    deadline = time.monotonic() + seconds
    found: dict[str, Any] = {"goals": GOALS, "steps": {}}
    with tempfile.TemporaryDirectory() as folder:
        for step in planned:
            limit = min(step.limit, deadline - time.monotonic())
            print(f"{step.name}, at most {limit:.0f} s", file=sys.stderr, flush=True)
            one = run_step(step, limit, Path(folder))
            found["steps"][step.name] = one
            out.write_text(json.dumps(found, indent=1) + "\n")
            print(
                f"{step.name}: {one['state']}{', ' + one['why'] if 'why' in one else ''}", file=sys.stderr, flush=True
            )
    return found


def main() -> None:
    """Measures, and exits with status 1 where a step was not done."""
    parser = argparse.ArgumentParser(prog="just bench-gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/gpu.json"), help="the file for the results")
    parser.add_argument("--seconds", type=float, default=600, help="for all steps together")
    parser.add_argument("--torch", default="bench/.venv/bin/python", help="a Python with bench/requirements.txt")
    parser.add_argument("--imdb", default="", help="a folder with IMDB's splits, as dataset.path takes it")
    parser.add_argument("--only", nargs="+", help="the names of the steps to run")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the script on a CPU")
    options = parser.parse_args()
    planned = steps(options.tiny, options.torch, options.imdb)
    names = [step.name for step in planned]
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"--only {' '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    planned = [step for step in planned if not options.only or step.name in options.only]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = run_all(planned, options.seconds, options.out)
    print(options.out)
    sys.exit(0 if all(step["state"] == "done" for step in found["steps"].values()) else 1)


if __name__ == "__main__":
    main()
