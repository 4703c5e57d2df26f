"""Figures 4-6: switcher curves, and the humps of pairs of runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import near_gap
from metrics.figures.style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    band,
    colorbar_axes,
    panels,
    quality_label,
    quality_name,
    saying,
)
from metrics.statistics.switcher import FRACTIONS

Drawn = tuple[Figure, Sequence[str], list[dict]]

_MARKERS = "os^DvP*X"
_MANY_CURVES, _MANY_POINTS = 40, 400  # more than that are drawn as pixels, to keep the SVG small


def mean_curves(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Figure 4: the mean switcher curve of smallest and largest size by margin, one panel a dataset."""
    columns = (
        *("dataset", "small", "large", "fraction", "measure", "value"),
        *("scaled", "ci_low", "ci_high", "random"),
    )
    shown = [analysis for analysis in analyses if analysis.widest is not None]
    if not shown:
        return saying("One size only: there is no larger model to defer to."), columns, []
    figure, axes = panels(len(shown))
    rows: list[dict] = []
    percent = 100 * FRACTIONS
    for ax, analysis in zip(axes, shown):
        pair = analysis.widest
        assert pair is not None
        curve, (low, high) = pair.curve["margin"], pair.band["margin"]
        chord = curve[0] + FRACTIONS * (curve[-1] - curve[0])
        band(ax, percent, 100 * low, 100 * high, BLUE)
        ax.plot(percent, 100 * curve, color=BLUE, label="most uncertain first")
        ax.plot(percent, 100 * chord, color=GREY, linestyle="--", linewidth=1.2, label="at random")
        gained = pair.matching["margin"].value
        if gained < 0.9:
            ax.plot([100 * gained], [100 * curve[-1]], "o", color=ORANGE, markersize=5)
            ax.annotate(
                f"{pair.large}'s {quality_name(analysis.grid)}\nat {100 * gained:.0f} %",
                (100 * gained, 100 * curve[-1]),
                # before it first gets there, the curve is below
                xytext=(6, -24) if gained < 0.35 else (-6, 5),
                textcoords="offset points",
                horizontalalignment="left" if gained < 0.35 else "right",
                fontsize=8,
            )
        ax.set(
            title=f"{analysis.grid.dataset}: {pair.small} → {pair.large} (n = {analysis.grid.examples:,})",
            xlabel=f"% of examples deferred to {pair.large}",
            ylabel=quality_label(analysis.grid),
            xlim=(0, 100),
        )
        if curve[-1] > 0:
            _scaled_axis(ax, 100 * float(curve[-1])).set_ylabel(f"scaled: {pair.large} = 1")
        ax.legend(loc="lower right", title=f"band: {100 * confidence:g} %, seeds and examples", title_fontsize=8)
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
    return figure, columns, rows


def _scaled_axis(ax: Axes, top: float) -> SecondaryAxis:
    """A right axis in units of `top`."""

    def scale(y: Any) -> Any:
        return np.asarray(y) / top

    def unscale(y: Any) -> Any:
        return np.asarray(y) * top

    return ax.secondary_yaxis("right", functions=(scale, unscale))


def all_curves(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Figure 5: the switcher curve of every small run × large run, coloured by how much better the larger run is."""
    columns = ("dataset", "small", "large", "small_seed", "large_seed", "measure", "gap", "fraction", "value")
    shown = [analysis for analysis in analyses if analysis.widest is not None]
    if not shown:
        return saying("One size only: there is no larger model to defer to."), columns, []
    figure, axes = panels(len(shown), right=0.9)
    rows: list[dict] = []
    for ax, analysis in zip(axes, shown):
        pair = analysis.widest
        assert pair is not None
        curves = pair.scores["margin"].curve.reshape(-1, 101)
        gaps = 100 * pair.gaps.ravel()
        lines = LineCollection(
            [np.column_stack([100 * FRACTIONS, 100 * curve]) for curve in curves],
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
        band(ax, 100 * FRACTIONS, 100 * low, 100 * high, VERMILLION)
        ax.plot(
            100 * FRACTIONS, 100 * pair.curve["margin"], color=VERMILLION, linewidth=2.2, label="mean, with interval"
        )
        figure.colorbar(lines, cax=colorbar_axes(figure, ax), label=f"{pair.large} - {pair.small}, points")
        ax.set(
            title=f"{analysis.grid.dataset}: {len(curves)} pairs (n = {analysis.grid.examples:,})",
            xlabel=f"% of examples deferred to {pair.large}",
            ylabel=quality_label(analysis.grid),
            xlim=(0, 100),
        )
        ax.autoscale_view()
        ax.legend(loc="lower right")
        small, large = analysis.grid.sizes[0], analysis.grid.sizes[-1]
        rows += [
            {
                "dataset": analysis.grid.dataset,
                "small": pair.small,
                "large": pair.large,
                "small_seed": small_seed,
                "large_seed": large_seed,
                "measure": analysis.grid.measure,
                "gap": analysis.grid.unit * float(pair.gaps[i, j]),
                "fraction": float(FRACTIONS[k]),
                "value": analysis.grid.unit * float(pair.scores["margin"].curve[i, j, k]),
            }
            for i, small_seed in enumerate(small.seeds)
            for j, large_seed in enumerate(large.seeds)
            for k in range(101)
        ]
    return figure, columns, rows


def humps(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Figure 6: disagreement against hump of every pair of runs of every size pair with 0.5 % ≤ b - a ≤ 1 %."""
    columns = (
        *("dataset", "small", "large", "small_seed", "large_seed"),
        *("measure", "gap", "disagreement", "hump", "near"),
    )
    pairs = [(k, analysis, pair) for k, analysis in enumerate(analyses) for pair in analysis.pairs]
    if not pairs:
        return saying("One size only: there are no pairs of sizes."), columns, []
    any_near = any(near_gap(pair.gaps).any() for _, _, pair in pairs)
    total = sum(int(near_gap(p.gaps).sum()) if any_near else p.gaps.size for _, _, p in pairs)
    figure, (ax,) = panels(1, width=4.8, height=3.4, right=2.6)
    rows: list[dict] = []
    legend: list[Line2D] = []
    kinds: dict[tuple[str, str], str] = {}
    for k, analysis, pair in pairs:
        near = near_gap(pair.gaps)
        chosen = near if any_near else np.ones_like(near)
        color = CYCLE[k % len(CYCLE)] if any_near else GREY
        marker = kinds.setdefault((pair.small, pair.large), _MARKERS[len(kinds) % len(_MARKERS)])
        hump = pair.scores["margin"].hump
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
            label = f"{analysis.grid.dataset}: {pair.small} → {pair.large} ({int(chosen.sum())})"
            legend.append(Line2D([], [], color=color, marker=marker, linestyle="", label=label))
        if near.any():
            x, y = pair.near_disagreement, pair.near_hump
            ax.plot([100 * x.low, 100 * x.high], [100 * y.value] * 2, color=color, linewidth=1.4)
            ax.plot([100 * x.value] * 2, [100 * y.low, 100 * y.high], color=color, linewidth=1.4)
            ax.plot([100 * x.value], [100 * y.value], marker, color=color, markersize=7, markeredgecolor=INK, zorder=3)
        small, large = (next(s for s in analysis.grid.sizes if s.name == name) for name in (pair.small, pair.large))
        rows += [
            {
                "dataset": analysis.grid.dataset,
                "small": pair.small,
                "large": pair.large,
                "small_seed": small_seed,
                "large_seed": large_seed,
                "measure": analysis.grid.measure,
                "gap": analysis.grid.unit * float(pair.gaps[i, j]),
                "disagreement": float(pair.disagreements[i, j]),
                "hump": analysis.grid.unit * float(hump[i, j]),
                "near": bool(near[i, j]),
            }
            for i, small_seed in enumerate(small.seeds)
            for j, large_seed in enumerate(large.seeds)
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
    return figure, columns, rows
