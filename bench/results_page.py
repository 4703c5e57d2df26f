"""Writes docs/results.md from finished metrics outputs, so that no number is typed in: `just results DATA VOCABULARY`.

python -m bench.results_page [--root DIR] DOCS OUT...: each OUT is a metrics output (out/trec, out/sst2, out/multi30k).
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.markdown import markdown_table
from tracking.interface import Tracker
from tracking.store import Store

INTRODUCTION = """# Results on real text

These are **small T5s trained from scratch** on a CPU: they are far smaller than the sizes of the paper and have seen no
text but the training split. Their quality says nothing about T5; they show that the whole way of the data works on real
text, and what its tables look like. TREC's test set has 500 questions, so its intervals are wide.
[study.md](study.md) asks the paper's questions of sizes that share a pre-training.

Made by `just results DATA VOCABULARY`: DATA holds the folders `trec`, `sst2` and `multi30k`, VOCABULARY is T5's
`spiece.model`. Times are wall-clock, of a shared machine with two cores.
"""


@dataclass(frozen=True)
class Description:
    """Describes a dataset in words that its metrics output doesn't have; `command` are the overrides of its sweep."""

    title: str
    text: str
    command: str


DESCRIPTIONS = {
    "trec": Description(
        "TREC question types",
        "Six classes of questions, 5,452 to train on and 500 to test (Li and Roth 2002).",
        "experiment=trec_scratch dataset.path=DATA/trec tokenizer.path=VOCABULARY size=nano,micro 'seed=range(5)'",
    ),
    "sst2": Description(
        "SST-2",
        "Positive and negative sentences of film reviews, 6,920 to train on and 1,821 to test (Socher et al. 2013).",
        "experiment=sst2_scratch dataset.path=DATA/sst2 tokenizer.path=VOCABULARY size=nano,micro 'seed=range(5)'",
    ),
    "multi30k": Description(
        "Multi30k, English to German",
        "Captions of pictures, 29,000 pairs to train on, and the 1,000 of flickr 2016 to translate, greedily (Elliott "
        "et al. 2016). A switcher's curve is corpus BLEU of the mixed output, exact at every fraction.",
        "experiment=multi30k_scratch dataset.path=DATA/multi30k size=micro,tiny 'seed=range(3)'",
    ),
}


def section(out: Path, docs: Path, tracker: Tracker) -> str:
    """Returns a dataset's section: its command, its sizes, what deferral by margin gains, Tables 1-3 and Figure 4."""
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    [(name, result)] = summary["datasets"].items()
    description, measure = DESCRIPTIONS[name], result["measure"]
    unit = 1.0 if measure == "bleu" else 100.0  # BLEU is written 0-100, accuracy 0-1

    def interval(estimate: dict[str, Any]) -> str:
        return f"{unit * estimate['value']:.2f} [{unit * estimate['ci_low']:.2f}, {unit * estimate['ci_high']:.2f}]"

    points, heading = ("BLEU", "BLEU") if measure == "bleu" else ("points", "Accuracy, %")
    lines = [
        f"## {description.title}",
        "",
        description.text,
        "",
        "```",
        f"just sweep -m {description.command}",
        "```",
        "",
    ]
    rows = []
    for size in result["sizes"]:
        runs = [
            run
            for run in tracker.runs(job_type="train", state="finished")
            if run.id.startswith(f"train-{name}-{size['name']}-s")
        ]
        minutes = [(run.ended - run.started) / 60 for run in runs if run.ended is not None]
        train = runs[-1].config["train"]
        by_seed = ", ".join(f"{unit * value:.2f}" for value in size[f"{measure}_by_seed"])
        cells = [size["name"], f"{size['parameters']:,}", f"{size['flops_per_example']:.3g}"]
        cells += [f"{train['steps']:,} × {train['batch_size']}", f"{min(minutes):.1f} to {max(minutes):.1f}"]
        rows.append([*cells, interval(size[measure]), by_seed])
    heads = ["Size", "Parameters", "FLOPs per example", "Steps × batch", "Minutes a run"]
    lines += [*markdown_table([*heads, f"{heading} [95 % interval]", "By seed"], rows, (0, 6)), ""]
    for pair in result["pairs"]:
        area = pair["scores"]["margin"]["area"]
        verdict = "excludes" if area["ci_low"] > 0 or area["ci_high"] < 0 else "includes"
        lines += [
            f"{pair['large']} over {pair['small']}: {interval(pair['gap'])} {points}. Deferring by {pair['small']}'s "
            f"margin against deferring at random: {interval(area)} {points} on average over all fractions; the "
            f"interval {verdict} 0.",
            "",
        ]
    other = result.get("other_context")
    if other:
        area = other["pairs"][0]["scores"]["margin"]["area"]
        lines += [
            f"That margin is of the gold translation, which nobody has when deferring ({result['context']} context). "
            f"The margin of the model's own output ({other['context']} context) gains {interval(area)} {points}.",
            "",
        ]
    figure = docs / f"{name}_fig4.png"
    shutil.copyfile(out / "figures" / "fig4.png", figure)
    lines += [f"![Switcher curve of {description.title}]({figure.name})", ""]
    for table in ("table1", "table2", "table3"):
        text = (out / "tables" / f"{table}.md").read_text(encoding="utf-8")
        if table != "table3":  # the notes are the same under each
            text = text.split("Notes:")[0]
        lines += [text.strip(), ""]
    return "\n".join(lines)


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="runs", help="the store that the outputs were made from")
    parser.add_argument("docs", type=Path)
    parser.add_argument("out", type=Path, nargs="+")
    options = parser.parse_args()
    tracker = Store(options.root, create=False)
    parts = [INTRODUCTION, *(section(out, options.docs, tracker) for out in options.out)]
    (options.docs / "results.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
