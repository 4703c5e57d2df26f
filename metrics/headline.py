"""What a metrics output says first: accuracies, what deferral gains, notes, and where the report is."""

import json
from pathlib import Path

from rich.console import Console

from metrics.output import MARK


def tell(out: Path, console: Console) -> None:
    """The accuracies, what deferral by margin gains, the notes, and where the rest is."""
    summary = json.loads((out / MARK).read_text(encoding="utf-8"))
    for dataset, result in summary["datasets"].items():
        accuracies = ", ".join(f"{size['name']} {100 * size['accuracy']['value']:.2f} %" for size in result["sizes"])
        console.print(f"{dataset}: {accuracies}")
        for pair in result["pairs"]:
            area = pair["scores"]["margin"]["area"]
            limits = [f"{100 * area[key]:.2f}" for key in ("ci_low", "ci_high") if area[key] is not None]
            console.print(
                f"  {pair['small']} -> {pair['large']}: deferral by margin beats random by {100 * area['value']:.2f} "
                f"points{' (' + ' to '.join(limits) + ')' if limits else ''}"
            )
    for note in summary["notes"]:
        console.print(f"note: {note}")
    console.print(f"{out / 'report' / 'index.html'}")
