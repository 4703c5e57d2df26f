"""Draws Figures 1-6 as PNG and SVG, each with the CSV of what it shows. Only this room imports matplotlib."""

import importlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from metrics.analysis.dataset import Analysis

TITLES = {
    "fig1": "How uncertain the smaller model is where it does well and where it doesn't",
    "fig2": "Who does better among the examples at least this uncertain",
    "fig3": "Accuracy or BLEU of every size by percentile of the smallest model's uncertainty",
    "fig4": "Switcher curves: accuracy or BLEU against the share of examples deferred",
    "fig5": "Switcher curves of every pair of runs",
    "fig6": "Disagreement against hump size",
}


def load_in_background() -> None:
    """Starts to import matplotlib on another thread: half a second that then runs beside numpy's work."""

    def load() -> None:
        # If it fails, the import that `write_figures` needs fails too, and there the error is seen.
        with suppress(Exception):
            for backend in ("agg", "svg"):
                importlib.import_module(f"matplotlib.backends.backend_{backend}")

    threading.Thread(target=load, daemon=True).start()


def write_figures(analyses: Sequence[Analysis], confidence: float, directory: Path) -> dict[str, str]:
    """Writes fig1-fig6 as .png, .svg and .csv into `directory`, which it makes; returns each figure's SVG text."""
    import matplotlib as mpl

    mpl.use("Agg")  # figures are files: no window, whatever the machine has

    from metrics.figures import deferral, uncertainty
    from metrics.figures.style import saved, styled
    from metrics.tables.files import write_csv

    directory.mkdir(parents=True)
    draw = {
        "fig1": uncertainty.second_likeliest,
        "fig2": uncertainty.outcomes,
        "fig3": uncertainty.percentiles,
        "fig4": deferral.mean_curves,
        "fig5": deferral.all_curves,
        "fig6": deferral.humps,
    }
    drawn = {}
    with styled():
        for name, function in draw.items():
            figure, columns, rows = function(analyses, confidence)
            write_csv(directory / f"{name}.csv", columns, rows)
            drawn[name] = saved(figure, directory / name, TITLES[name])
    return drawn
