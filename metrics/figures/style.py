"""Sets how figures look and saves them: in colours for every kind of vision, equal numbers as equal bytes."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metrics.figures.fit import fit_texts
from metrics.grid.runs import Grid
from metrics.short_names import short_names

Row = dict[str, Any]
Drawn = tuple[Figure, Sequence[str], list[Row]]  # a figure, the columns of its CSV, and the CSV's rows

# Okabe and Ito (2008): told apart by all common kinds of colour vision. Line styles tell sizes apart once more.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
STYLES = ("-", "--", "-.", ":")
# Ink and paper are colours that nothing else has, so that the report can swap them for the page's own.
INK, PAPER, GREY = "#1b1c1d", "#fefdfe", "#8a8b8c"

# Inches. Fixed margins rather than a layout engine: that one draws everything a third time to measure it.
_PANEL_WIDTH, _PANEL_HEIGHT = 3.6, 2.5
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.62, 0.72, 0.52, 0.34


@contextmanager
def styled() -> Iterator[None]:
    """Applies the figures' settings to matplotlib while the block runs."""
    with mpl.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.facecolor": "none",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "figure.facecolor": PAPER,
            "savefig.facecolor": PAPER,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.6,
            "svg.hashsalt": "edgewise",
            "svg.fonttype": "none",
            "path.simplify": True,
        }
    ):
        yield


def panels(
    count: int, columns: int = 2, width: float = _PANEL_WIDTH, height: float = _PANEL_HEIGHT, right: float = _RIGHT
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with `count` panels, at least one, of `width` × `height` inches, at most `columns` in a row."""
    count = max(count, 1)
    columns = min(count, columns)
    rows = -(-count // columns)
    cell_width, cell_height = _LEFT + width + right, _BOTTOM + height + _TOP
    figure = Figure(figsize=(cell_width * columns, cell_height * rows))
    axes = []
    for k in range(count):
        row, column = divmod(k, columns)
        x = (column * cell_width + _LEFT) / (cell_width * columns)
        y = ((rows - 1 - row) * cell_height + _BOTTOM) / (cell_height * rows)
        axes.append(figure.add_axes((x, y, width / (cell_width * columns), height / (cell_height * rows))))
    return figure, axes


def colorbar_axes(figure: Figure, axes: Axes) -> Axes:
    """Adds axes for a colour bar in the right margin of a panel."""
    box = axes.get_position()
    inch = 1 / figure.get_figwidth()
    return figure.add_axes((box.x1 + 0.08 * inch, box.y0, 0.1 * inch, box.height))


def quality_name(grid: Grid) -> str:
    """Returns the name of the measure by which a grid's runs are judged."""
    return {"classification": "accuracy", "span_qa": "exact match", "translation": "BLEU"}[grid.task]


def quality_label(grid: Grid) -> str:
    """Returns the label of an axis of quality × 100."""
    return quality_name(grid) + ("" if grid.task == "translation" else ", %")


def drawn_names(names: Iterable[str], most: int = 22) -> dict[str, str]:
    """Returns each name as figures show it: as matplotlib draws it letter by letter, a long one without its middle."""
    return {name: plain(short) for name, short in short_names(names, most).items()}


def plain(name: str) -> str:
    """Returns a name as matplotlib draws it letter by letter: `$` starts no formula, `_` hides no legend entry."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def text_figure(text: str) -> Figure:
    """Returns a figure with nothing but a text, which says why there is nothing to show."""
    figure, (axes,) = panels(1)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, fontsize=11)
    return figure


def band(
    axes: Axes, x: Sequence[float] | np.ndarray, low: np.ndarray, high: np.ndarray, color: str, many: int = 1
) -> None:
    """Draws an interval around a curve, if there is one. Of `many` intervals that overlap, each is paler."""
    if not np.isnan(low).all():
        axes.fill_between(x, low, high, color=color, alpha=0.22 if many <= 2 else 0.1, linewidth=0)


def saved(figure: Figure, stem: Path, title: str) -> str:
    """Writes the figure as STEM.png and STEM.svg, without dates, and returns the SVG. Texts too long get smaller."""
    fit_texts(figure)
    figure.savefig(stem.with_suffix(".png"), dpi=130, metadata={"Software": None})
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=130, metadata={"Date": None, "Creator": None, "Title": title})
    stem.with_suffix(".svg").write_text(buffer.getvalue(), encoding="utf-8")
    return buffer.getvalue()
