"""Measures what a newcomer's own labelled texts reach from scratch, beside the run to beat: `just scratch DATA`.

DATA has the folders trec, sst2, banking77 and multi30k. Each goes the newcomer's way: `python -m conf.init` drafts its
config, and a sweep trains the sizes that it names: of the last, sentence pairs, one seed. The metrics of the others say
how far each size is above the run to beat. What is trained is not trained again, so an interrupted measurement goes on.
The tables go into docs/training.md.
"""

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from bench.product import run
from conf.init.__main__ import SEQUENCE_SIZES, SIZES
from conf.machine import cores
from tracking.store import Store

PAGE = Path("docs/training.md")
MARKS = ("<!-- scratch: made by `just scratch` -->", "<!-- end of scratch -->")
DATASETS = ("trec", "sst2", "banking77")
PAIRS = "multi30k"
HEADS = (
    "dataset",
    "TF-IDF with logistic regression",
    "size",
    "parameters",
    "accuracy, %",
    "above it, points [95 % interval]",
    "minutes",
)


def train(data: Path, root: Path, seeds: int) -> None:
    """Drafts each dataset's config, where there is none in the store's folder, and trains and scores its cells.

    The metrics of those with labels are written to `out/` there.
    """
    for name in (*DATASETS, PAIRS):
        drafted = root / "drafts/dataset" / f"{name}.yaml"
        if not drafted.is_file():
            run("conf.init", str(data / name), "--name", name, "--out", str(drafted))
        run(
            "sweeps",
            "-m",
            f"hydra.searchpath=[file://{drafted.parent.parent}]",
            f"dataset={name}",
            f"size={SEQUENCE_SIZES if name == PAIRS else SIZES}",
            f"seed=range({1 if name == PAIRS else seeds})",
            f"tracking.root={root}",
            f"sweeps.metrics={str(name != PAIRS).lower()}",
            f"metrics.out={root / 'out' / name}",
        )


def over_baseline(out: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of a metrics output's table `baseline`, by size: in percent and points, with intervals."""
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {row["size"]: row for row in summary["beyond"]["baseline"]["rows"]}


def table(store: Store, out: Path, seeds: int) -> str:
    """Returns the Markdown table of what the finished cells reached: mean and deviation over seeds, and time of each.

    `out` has a folder of metrics for each dataset. Raises NotFound for a cell that is not there.
    """
    rows = []
    for name in DATASETS:
        beside = over_baseline(out / name)
        for size in SIZES.split(","):
            scores = [store.artifact(f"scores-{name}-{size}-s{seed}-test:latest") for seed in range(seeds)]
            accuracies, over = [100 * one.metadata["accuracy"] for one in scores], beside[size]
            low, high = over["over_baseline_ci_low"], over["over_baseline_ci_high"]
            cells = (
                name,
                f"{over['baseline']:.1f}",
                size,
                f"{scores[0].metadata['parameters']:,}",
                f"{mean(accuracies):.1f}" + (f" ± {stdev(accuracies):.1f}" if seeds > 1 else ""),
                f"{over['over_baseline']:+.1f}" + ("" if low is None else f" [{low:+.1f}, {high:+.1f}]"),
                f"{minutes(store, name, size, seeds):.1f}",
            )
            rows.append(cells)
    of_seeds = "Of one seed" if seeds == 1 else f"Of {seeds} seeds, mean ± standard deviation"
    lines = [
        *markdown_table(HEADS, rows, (0, 2)),
        "",
        f"{of_seeds}; minutes of wall-clock time of a training on {cores()} cores, the first of which compiles. The "
        "intervals are of seeds and of the rows that happen to be in the test split, and take model and baseline as "
        "independent, so they are wide rather than narrow.",
    ]
    return "\n".join(lines)


def pairs_table(store: Store) -> str:
    """Returns the Markdown table of what one seed of each size reached on sentence pairs: BLEU, and the time of each.

    Raises NotFound for a cell that is not there.
    """
    rows = []
    for size in SEQUENCE_SIZES.split(","):
        metadata = store.artifact(f"scores-{PAIRS}-{size}-s0-test:latest").metadata
        spent = minutes(store, PAIRS, size, 1)
        rows.append((PAIRS, size, f"{metadata['parameters']:,}", f"{metadata['bleu']:.1f}", f"{spent:.1f}"))
    return "\n".join(markdown_table(("sentence pairs", "size", "parameters", "BLEU", "minutes"), rows, (0, 1)))


def minutes(store: Store, name: str, size: str, seeds: int) -> float:
    """Returns the mean minutes of the newest trainings of a dataset and size, one for each seed."""
    runs = [one for one in store.runs(job_type="train", state="finished") if one.tags == [name, size]]
    return mean((one.ended - one.started) / 60 for one in runs[-seeds:] if one.ended is not None)


def main() -> None:
    """Trains what is missing, and writes the page."""
    parser = argparse.ArgumentParser(prog="just scratch", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--root", type=Path, default=Path("runs/scratch"), help="the store; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="of each size; default: %(default)s")
    options = parser.parse_args()
    root = options.root.absolute()
    # as on a machine that has compiled nothing of it yet: the first seed of a size compiles, the others needn't
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
    train(options.data.absolute(), root, options.seeds)
    store = Store(root, create=False)
    write_between_marks(PAGE, MARKS, f"{table(store, root / 'out', options.seeds)}\n\n{pairs_table(store)}")


if __name__ == "__main__":
    main()
