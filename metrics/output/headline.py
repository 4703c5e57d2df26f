"""Prints what a metrics output says first: accuracies or BLEU, what deferral gains, notes, where the report is."""

import json
from pathlib import Path

from rich.console import Console

from metrics.output.replace import MARK


def print_headline(out: Path, console: Console) -> None:
    """Prints accuracies or BLEU, what deferral by margin gains, the notes, and where the report is."""
    summary = json.loads((out / MARK).read_text(encoding="utf-8"))
    for dataset, result in summary["datasets"].items():
        bleu = result["measure"] == "bleu"
        unit, sign = (1, "BLEU") if bleu else (100, "%")
        qualities = [f"{size['name']} {unit * size[result['measure']]['value']:.2f} {sign}" for size in result["sizes"]]
        console.print(f"{dataset}: {', '.join(qualities)}")
        for pair in result["pairs"]:
            area = pair["scores"]["margin"]["area"]
            limits = [f"{unit * area[key]:.2f}" for key in ("ci_low", "ci_high") if area[key] is not None]
            console.print(
                f"  {pair['small']} -> {pair['large']}: deferral by margin beats random by {unit * area['value']:.2f} "
                f"points{' (' + ' to '.join(limits) + ')' if limits else ''}"
            )
    for note in summary["notes"]:
        console.print(f"note: {note}")
    console.print(f"{out / 'report' / 'index.html'}")
