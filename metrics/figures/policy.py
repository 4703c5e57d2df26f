"""Draws what a switcher buys: quality against mean cost along its path of thresholds, and the place that was chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from metrics.statistics.policies.expectations import Number


class PolicyCurve(NamedTuple):
    """Holds what the figure shows; qualities and costs are shares, 0-1 (BLEU / 100)."""

    cost_share: np.ndarray  # [T], of one pass of the largest model
    quality: np.ndarray  # [T]
    place: int  # the chosen one
    chosen: "Number"  # quality, with its interval
    largest: float  # its quality
    chain: str
    largest_name: str
    measure: str  # accuracy, exact match or BLEU


def write_policy_figure(curve: PolicyCurve, stem: Path) -> None:
    """Writes STEM.png and STEM.svg; the same curve gives the same bytes."""
    import matplotlib as mpl

    mpl.use("Agg")  # figures are files: no window, whatever the machine has

    from metrics.figures.style import BLUE, GREY, VERMILLION, panels, plain, saved, styled

    with styled():
        figure, (axes,) = panels(1, width=5.2, height=3.2, right=0.3)
        order = np.argsort(curve.cost_share, kind="stable")
        axes.plot(100 * curve.cost_share[order], 100 * curve.quality[order], color=BLUE, label=plain(curve.chain))
        axes.axhline(100 * curve.largest, color=GREY, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"{plain(curve.largest_name)} alone",
            (1, 100 * curve.largest),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=GREY,
            fontsize=8,
        )
        x, value = 100 * curve.cost_share[curve.place], 100 * curve.chosen["value"]
        low, high = 100 * curve.chosen["low"], 100 * curve.chosen["high"]
        axes.errorbar(
            [x],
            [value],
            yerr=[[max(value - low, 0)], [max(high - value, 0)]],
            color=VERMILLION,
            marker="o",
            capsize=3,
            label="this switcher",
        )
        axes.set_xlim(left=0)
        axes.set_xlabel(f"mean cost of an example, % of {plain(curve.largest_name)} alone")
        axes.set_ylabel(curve.measure + ("" if curve.measure == "BLEU" else ", %"))
        axes.legend(loc="lower right")
        saved(figure, stem, f"{curve.measure} against cost of the switcher {curve.chain}")


class TimedSide(NamedTuple):
    """Holds one side of an evaluation: its milliseconds an example (median, least, most) and its quality, 0-1."""

    name: str
    milliseconds: "Number"
    quality: "Number"


def write_evaluation_figure(sides: Sequence[TimedSide], measure: str, stem: Path) -> None:
    """Writes STEM.png and STEM.svg: quality against measured time, a point a side."""
    import matplotlib as mpl

    mpl.use("Agg")

    from metrics.figures.style import CYCLE, panels, plain, saved, styled

    with styled():
        figure, (axes,) = panels(1, width=5.2, height=3.2, right=0.3)
        for k, side in enumerate(sides):
            x, y = side.milliseconds["median"], 100 * side.quality["value"]
            low, high = (100 * side.quality.get(key, side.quality["value"]) for key in ("low", "high"))
            axes.errorbar(
                [x],
                [y],
                xerr=[[x - side.milliseconds["least"]], [side.milliseconds["most"] - x]],
                yerr=[[max(y - low, 0)], [max(high - y, 0)]],
                color=CYCLE[k % len(CYCLE)],
                marker="os^DvP*X"[k % 8],
                capsize=3,
                label=plain(side.name),
            )
        axes.set_xlim(left=0)
        axes.set_xlabel("milliseconds an example")
        axes.set_ylabel(measure + ("" if measure == "BLEU" else ", %"))
        axes.legend(loc="lower right")
        saved(figure, stem, f"{measure} against measured time")
