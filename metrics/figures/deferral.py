"""Draws Figures 4-6: switcher curves, and the humps of pairs of runs."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair, near_gap
from metrics.figures.fit import text_width
from metrics.figures.style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    Drawn,
    Row,
    band,
    colorbar_axes,
    drawn_names,
    panels,
    quality_label,
    text_figure,
)
from metrics.statistics.switcher import FRACTIONS

FIGURE4_COLUMNS = (
    "dataset",
    "small",
    "large",
    "fraction",
    "measure",
    "value",
    "scaled",
    "ci_low",
    "ci_high",
    "random",
)
FIGURE5_COLUMNS = ("dataset", "small", "large", "small_seed", "large_seed", "measure", "gap", "fraction", "value")
FIGURE6_COLUMNS = (
    "dataset",
    "small",
    "large",
    "small_seed",
    "large_seed",
    "measure",
    "gap",
    "disagreement",
    "hump",
    "near",
)

_MARKERS = "os^DvP*X"
_MANY_CURVES, _MANY_POINTS = 40, 400  # more than that are drawn as pixels, to keep the SVG small
_LEGEND_NAME, _LEGEND_LINE = 14, 34  # characters in Figure 6's legend, of a size's name and of a line
_PERCENT = 100 * FRACTIONS  # of examples deferred


def mean_curves(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Draws Figure 4: the mean switcher curve of smallest and largest size by margin, one panel a dataset."""
    shown = _widest_pairs(analyses)
    if not shown:
        return text_figure("One size only: there is no larger model to defer to."), FIGURE4_COLUMNS, []
    figure, axes = panels(len(shown))
    width = 72 * figure.get_figwidth() * axes[0].get_position().width  # of a panel, in points
    rows: list[Row] = []
    datasets = drawn_names(analysis.grid.dataset for analysis, _ in shown)
    for ax, (analysis, pair) in zip(axes, shown):
        dataset, (small, large) = datasets[analysis.grid.dataset], _drawn_sizes(pair)
        curve, (low, high) = pair.curve["margin"], pair.band["margin"]
        chord = curve[0] + FRACTIONS * (curve[-1] - curve[0])
        band(ax, _PERCENT, 100 * low, 100 * high, BLUE)
        ax.plot(_PERCENT, 100 * curve, color=BLUE, label="most uncertain first")
        ax.plot(_PERCENT, 100 * chord, color=GREY, linestyle="--", linewidth=1.2, label="at random")
        _mark_least_share(ax, pair, width)
        _label_curve_axes(ax, analysis, pair, f"{dataset}: {small} → {large}")
        if curve[-1] > 0:
            _scaled_axis(ax, 100 * float(curve[-1])).set_ylabel(f"scaled: {large} = 1")
        drawn = f"band: {100 * confidence:g} %, seeds and examples" if np.isfinite(low).any() else None
        ax.legend(loc="lower right", title=drawn, title_fontsize=8)
        rows += [
            {
                "dataset": analysis.grid.dataset,
                "small": pair.small,
                "large": pair.large,
                "fraction": float(FRACTIONS[k]),
                "measure": analysis.grid.measure,
                "value": analysis.grid.unit * float(curve[k]),
                "scaled": float(curve[k] / curve[-1]) if curve[-1] > 0 else float("nan"),
                "ci_low": analysis.grid.unit * float(low[k]),
                "ci_high": analysis.grid.unit * float(high[k]),
                "random": analysis.grid.unit * float(chord[k]),
            }
            for k in range(101)
        ]
    return figure, FIGURE4_COLUMNS, rows


def _widest_pairs(analyses: Sequence[Analysis]) -> list[tuple[Analysis, SizePair]]:
    """Returns each dataset with its smallest and largest size; a dataset with one size is left out."""
    return [(analysis, pair) for analysis in analyses if (pair := analysis.widest) is not None]


def _drawn_sizes(pair: SizePair) -> tuple[str, str]:
    """Returns the names of the smaller and the larger size as the figures show them."""
    names = drawn_names([pair.small, pair.large])
    return names[pair.small], names[pair.large]


def _mark_least_share(ax: Axes, pair: SizePair, width: float) -> None:
    """Marks the least share that is shown to be at most ε below the larger model, unless it is nearly all examples.

    `width` is the panel's, in points.
    """
    shares = pair.least_share["margin"]
    fraction = shares.within_epsilon
    if not fraction < 0.9:
        return
    quality = np.interp(fraction, FRACTIONS, pair.curve["margin"])
    ax.plot([100 * fraction], [100 * quality], "o", color=ORANGE, markersize=5)
    large = _drawn_sizes(pair)[1]
    text = ax.annotate(
        f"at most {100 * shares.epsilon:g} below\n{large} at {math.ceil(100 * fraction - 1e-9)} %",
        (100 * fraction, 100 * quality),
        xytext=(-6, 5),
        textcoords="offset points",
        horizontalalignment="right",
        fontsize=8,
    )
    # to the left of the point, above it, or, where there is no room, to the right, below the curve
    if fraction < 0.35 or text_width(text) + 6 > width * fraction:
        text.set(position=(6, -24), horizontalalignment="left")


def _label_curve_axes(ax: Axes, analysis: Analysis, pair: SizePair, what: str) -> None:
    ax.set(
        title=f"{what} (n = {analysis.grid.examples:,})",
        xlabel=f"% of examples deferred to {_drawn_sizes(pair)[1]}",
        ylabel=quality_label(analysis.grid),
        xlim=(0, 100),
    )


def _scaled_axis(ax: Axes, top: float) -> SecondaryAxis:
    """Adds a right axis on which `top` is 1."""

    def scale(y: Any) -> Any:
        return np.asarray(y) / top

    def unscale(y: Any) -> Any:
        return np.asarray(y) * top

    return ax.secondary_yaxis("right", functions=(scale, unscale))


def all_curves(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Draws Figure 5: the switcher curve of every small run × large run, coloured by how much better the latter is."""
    shown = _widest_pairs(analyses)
    if not shown:
        return text_figure("One size only: there is no larger model to defer to."), FIGURE5_COLUMNS, []
    figure, axes = panels(len(shown), right=0.9)
    rows: list[Row] = []
    datasets = drawn_names(analysis.grid.dataset for analysis, _ in shown)
    for ax, (analysis, pair) in zip(axes, shown):
        dataset, (small, large) = datasets[analysis.grid.dataset], _drawn_sizes(pair)
        curves = pair.scores["margin"].curve.reshape(-1, 101)  # [R_small, R_large, 101] -> [pairs, 101]
        gaps = 100 * pair.gaps.ravel()
        lines = LineCollection(
            [np.column_stack([_PERCENT, 100 * curve]) for curve in curves],
            array=gaps,
            cmap="cividis",
            linewidths=0.8,
            alpha=0.8,
            rasterized=len(curves) > _MANY_CURVES,
        )
        if np.ptp(gaps) == 0:
            lines.set_clim(gaps[0] - 0.5, gaps[0] + 0.5)
        ax.add_collection(lines)
        low, high = pair.band["margin"]
        band(ax, _PERCENT, 100 * low, 100 * high, VERMILLION)
        mean = "mean, with interval" if np.isfinite(low).any() else "mean"
        ax.plot(_PERCENT, 100 * pair.curve["margin"], color=VERMILLION, linewidth=2.2, label=mean)
        figure.colorbar(lines, cax=colorbar_axes(figure, ax), label=f"{large} - {small}, points")
        _label_curve_axes(ax, analysis, pair, f"{dataset}: {len(curves)} pair{'s' if len(curves) > 1 else ''}")
        ax.autoscale_view()
        ax.legend(loc="lower right")
        rows += [
            {
                **run_pair,
                "fraction": float(FRACTIONS[k]),
                "value": analysis.grid.unit * float(pair.scores["margin"].curve[i, j, k]),
            }
            for i, j, run_pair in _run_pairs(analysis, pair)
            for k in range(101)
        ]
    return figure, FIGURE5_COLUMNS, rows


def _run_pairs(analysis: Analysis, pair: SizePair) -> Iterator[tuple[int, int, Row]]:
    """Yields each small run × large run of a pair of sizes: their places, and what a CSV row says of the two."""
    grid = analysis.grid
    seeds = {size.name: size.seeds for size in grid.sizes}
    for i, small_seed in enumerate(seeds[pair.small]):
        for j, large_seed in enumerate(seeds[pair.large]):
            yield (
                i,
                j,
                {
                    "dataset": grid.dataset,
                    "small": pair.small,
                    "large": pair.large,
                    "small_seed": small_seed,
                    "large_seed": large_seed,
                    "measure": grid.measure,
                    "gap": grid.unit * float(pair.gaps[i, j]),
                },
            )


def humps(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Draws Figure 6: disagreement against hump of every pair of runs of every size pair with 0.5 % ≤ b - a ≤ 1 %.

    If no pair of runs is that close, all are shown, in grey.
    """
    pairs = [(k, analysis, pair) for k, analysis in enumerate(analyses) for pair in analysis.pairs]
    if not pairs:
        return text_figure("One size only: there are no pairs of sizes."), FIGURE6_COLUMNS, []
    any_near = any(near_gap(pair.gaps).any() for _, _, pair in pairs)
    total = sum(int(near_gap(pair.gaps).sum()) if any_near else pair.gaps.size for _, _, pair in pairs)
    figure, (ax,) = panels(1, width=4.8, height=3.4, right=2.6)
    rows: list[Row] = []
    legend: list[Line2D] = []
    markers: dict[tuple[str, str], str] = {}  # (small, large) -> one marker in all datasets
    sizes = drawn_names((name for _, _, pair in pairs for name in (pair.small, pair.large)), _LEGEND_NAME)
    datasets = drawn_names((analysis.grid.dataset for _, analysis, _ in pairs), 2 * _LEGEND_NAME)
    for k, analysis, pair in pairs:
        near, hump = near_gap(pair.gaps), pair.scores["margin"].hump  # [R_small, R_large] each
        chosen = near if any_near else np.ones_like(near)
        color = CYCLE[k % len(CYCLE)] if any_near else GREY
        marker = markers.setdefault((pair.small, pair.large), _MARKERS[len(markers) % len(_MARKERS)])
        ax.scatter(
            100 * pair.disagreements[chosen],
            100 * hump[chosen],
            c=color,
            marker=marker,
            s=16,
            alpha=0.5,
            linewidths=0,
            rasterized=total > _MANY_POINTS,
        )
        if chosen.any():
            label = f"{datasets[analysis.grid.dataset]}: {sizes[pair.small]} → {sizes[pair.large]}"
            if len(label) > _LEGEND_LINE:
                label = label.replace(": ", ":\n", 1)
            label += f" ({int(chosen.sum())})"
            legend.append(Line2D([], [], color=color, marker=marker, linestyle="", label=label))
        if near.any():
            _mark_mean_hump(ax, pair, color, marker)
        rows += [
            {
                **run_pair,
                "disagreement": float(pair.disagreements[i, j]),
                "hump": analysis.grid.unit * float(hump[i, j]),
                "near": bool(near[i, j]),
            }
            for i, j, run_pair in _run_pairs(analysis, pair)
        ]
    if any_near:
        title = f"{total} pairs of runs that are 0.5 to 1 point apart"
        kind = f"large: mean, with {100 * confidence:g} % interval"
    else:
        title = f"No pair of runs is 0.5 to 1 point apart: all {total} shown, in grey"
        kind = "pairs of runs"
    ax.set(title=title, xlabel="% of examples on which the two runs predict differently", ylabel="hump, points")
    ax.margins(0.06)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.legend(handles=legend, title=kind, loc="upper left", bbox_to_anchor=(1.01, 1), title_fontsize=8, fontsize=7.5)
    return figure, FIGURE6_COLUMNS, rows


def _mark_mean_hump(ax: Axes, pair: SizePair, color: str, marker: str) -> None:
    """Draws the mean disagreement and hump of the near pairs of runs, with an interval in both directions."""
    x, y = pair.near_disagreement, pair.near_hump
    ax.plot([100 * x.low, 100 * x.high], [100 * y.value] * 2, color=color, linewidth=1.4)
    ax.plot([100 * x.value] * 2, [100 * y.low, 100 * y.high], color=color, linewidth=1.4)
    ax.plot([100 * x.value], [100 * y.value], marker, color=color, markersize=7, markeredgecolor=INK, zorder=3)
