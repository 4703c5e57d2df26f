"""`just results DATA VOCABULARY`: writes docs/results.md from finished metrics outputs, so that no number is typed in.

python -m tests.results DOCS OUT...: each OUT is a metrics output (out/trec, out/sst2).
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

INTRODUCTION = """# Results on real text

These are **small T5s trained from scratch** for a few hundred steps on a CPU: `nano` and `micro` are far smaller than
the sizes of the paper and have seen no text but the training split. Their accuracy says nothing about T5; they show
that the whole way of the data works on real text, and what its tables look like. TREC's test set has 500 questions,
so its intervals are wide.

Made by `just results DATA VOCABULARY`: DATA holds the folders `trec` and `sst2`, VOCABULARY is T5's `spiece.model`.
"""

ABOUT = {
    "trec": (
        "TREC question types",
        "Six classes of questions, 5,452 to train on and 500 to test (Li and Roth 2002).",
        "trec_scratch",
    ),
    "sst2": (
        "SST-2",
        "Positive and negative sentences of film reviews, 6,920 to train on and 1,821 to test (Socher et al. 2013).",
        "sst2_scratch",
    ),
}


def interval(estimate: dict[str, Any]) -> str:
    """`value [low, high]` in points."""
    return f"{100 * estimate['value']:.2f} [{100 * estimate['ci_low']:.2f}, {100 * estimate['ci_high']:.2f}]"


def section(out: Path, docs: Path) -> str:
    """One dataset: its command, its sizes, what deferral by margin gains, Tables 1-3, Figure 4."""
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    [(name, result)] = summary["datasets"].items()
    title, about, experiment = ABOUT[name]
    lines = [f"## {title}", "", about, "", "```"]
    lines += [
        f"just sweep -m experiment={experiment} dataset.path=DATA/{name} tokenizer.path=VOCABULARY \\",
        "    size=nano,micro 'seed=range(5)'",
        "```",
        "",
        "| Size | Parameters | FLOPs per example | Seeds | Accuracy, % [95 % interval] |",
        "| --- | --: | --: | --: | --: |",
    ]
    for size in result["sizes"]:
        cells = (size["name"], f"{size['parameters']:,}", f"{size['flops_per_example']:.3g}", len(size["seeds"]))
        lines.append("| " + " | ".join(map(str, cells)) + f" | {interval(size['accuracy'])} |")
    lines.append("")
    for pair in result["pairs"]:
        area = pair["scores"]["margin"]["area"]
        verdict = "excludes" if area["ci_low"] > 0 or area["ci_high"] < 0 else "includes"
        lines += [
            f"{pair['large']} over {pair['small']}: {interval(pair['gap'])} points. Deferring by {pair['small']}'s "
            f"margin against deferring at random: {interval(area)} points on average over all fractions; the interval "
            f"{verdict} 0.",
            "",
        ]
    figure = docs / f"{name}_fig4.png"
    shutil.copyfile(out / "figures" / "fig4.png", figure)
    lines += [f"![Switcher curve of {title}]({figure.name})", ""]
    for table in ("table1", "table2", "table3"):
        text = (out / "tables" / f"{table}.md").read_text(encoding="utf-8")
        if table != "table3":  # the notes are the same under each
            text = text.split("Notes:")[0]
        lines += [text.strip(), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("docs", type=Path)
    parser.add_argument("out", type=Path, nargs="+")
    options = parser.parse_args()
    parts = [INTRODUCTION, *(section(out, options.docs) for out in options.out)]
    (options.docs / "results.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
