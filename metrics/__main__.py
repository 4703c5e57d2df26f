"""python -m metrics dataset=D, or python -m metrics 'metrics.scores=GLOB' metrics.out=DIR: tables, figures, report.

From a dataset's scores artifacts (or from plain Parquet files) to `metrics.out`. Starts without JAX.
"""

import json
from pathlib import Path

from rich.console import Console

from conf.schema import Config
from metrics.output import MARK
from metrics.stage import compute_metrics, metrics_from_files


def main(config: Config) -> None:
    """Makes the tables and says what to look at."""
    console = Console(highlight=False, soft_wrap=True)
    if config.metrics.scores:
        out = metrics_from_files(config, console.print)
    else:
        from tracking import open_tracker

        out = compute_metrics(config, open_tracker(config.tracking), console.print)
    tell(out, console)


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


if __name__ == "__main__":
    from conf.app import command

    command(main)()
