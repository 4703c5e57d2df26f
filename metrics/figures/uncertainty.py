"""Draws Figures 1-3: quality and outcomes by how uncertain the smallest model is."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.ticker import NullLocator

from metrics.analysis.dataset import Analysis
from metrics.figures.style import (
    BLUE,
    CYCLE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    STYLES,
    VERMILLION,
    Drawn,
    Row,
    band,
    drawn_names,
    panels,
    quality_label,
    text_figure,
)

FIGURE1_COLUMNS = (
    "dataset",
    "small",
    "small_seed",
    "large",
    "large_seed",
    "group",
    "quantity",
    "log10_low",
    "log10_high",
    "count",
    "share",
    "ci_low",
    "ci_high",
)
FIGURE2_COLUMNS = ("dataset", "small", "large", "threshold", "outcome", "fraction", "ci_low", "ci_high", "examples")
FIGURE3_COLUMNS = (
    "dataset",
    "ranked_by",
    "size",
    "percentile_low",
    "percentile_high",
    "measure",
    "value",
    "ci_low",
    "ci_high",
)

_BETTER_ALIKE_WORSE = (GREEN, BLUE, VERMILLION)  # colours, of the larger model
_BINS = 30
_LEAST_LOG10 = -12.0  # whatever is below goes into the first bin
_LEAST_SPAN = 11.0  # points from the bottom to the top of Figure 3
_LEAST_EXAMPLES = 10  # a fraction of fewer examples than that isn't drawn


def second_likeliest(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Draws Figure 1: histograms of log₁₀ p₂ of the smallest size's first seed, by who is right.

    Sequences have no second most likely class, so theirs are of the margin score. Translations are grouped by whose
    sentence is the better one.
    """
    figure, axes = panels(2 * len(analyses), right=0.3)
    rows: list[Row] = []
    datasets = drawn_names(analysis.grid.dataset for analysis in analyses)
    for i, analysis in enumerate(analyses):
        grid, outcomes = analysis.grid, analysis.outcomes
        small, large = grid.sizes[0], grid.sizes[-1]
        sizes = _drawn_sizes(analysis)
        log10 = outcomes.log_uncertainty / np.log(10.0)
        finite = log10[np.isfinite(log10)]
        lowest = max(np.floor(finite.min()) if len(finite) else -1.0, _LEAST_LOG10)
        most = np.log10(0.5) if outcomes.of_second else 0.0
        edges = np.linspace(min(lowest, most - 1.0), most, _BINS + 1)
        dataset, run = datasets[grid.dataset], f"{sizes[small.name]} seed {small.seeds[0]}"
        labels = [group[0] for group in _groups(analysis, sizes[large.name])]
        for label, (name, member, color, panel) in zip(labels, _groups(analysis, large.name)):
            count = int(member.sum())
            counts = np.histogram(np.clip(log10[member], edges[0], edges[-1]), edges)[0]
            share = counts / max(count, 1)
            low, high = _wilson(counts, count, confidence)
            ax = axes[2 * i + panel]
            ax.stairs(100 * share, edges, color=color, linewidth=1.6, label=f"{label} (n = {count:,})")
            middle = (edges[1:] + edges[:-1]) / 2
            some = counts > 0
            ax.vlines(middle[some], 100 * low[some], 100 * high[some], color=color, linewidth=0.8, alpha=0.7)
            rows += [
                {
                    "dataset": grid.dataset,
                    "small": small.name,
                    "small_seed": small.seeds[0],
                    "large": large.name if large is not small else "",
                    "large_seed": large.seeds[0] if large is not small else "",
                    "group": name,
                    "quantity": "p2" if outcomes.of_second else "margin",
                    "log10_low": float(edges[b]),
                    "log10_high": float(edges[b + 1]),
                    "count": int(counts[b]),
                    "share": float(share[b]),
                    "ci_low": float(low[b]),
                    "ci_high": float(high[b]),
                }
                for b in range(_BINS)
            ]
        titles = (f"{dataset}: {run}, right and wrong", f"{dataset}: where {run} is wrong")
        if grid.task == "translation":
            titles = (
                f"{dataset}: {run}, all sentences",
                f"{dataset}: {run} against {sizes[large.name]} seed {large.seeds[0]}",
            )
        quantity = (
            r"log$_{10}$ p$_2$, second most likely class" if outcomes.of_second else _margin_label(analysis, log=True)
        )
        for ax, title in zip(axes[2 * i : 2 * i + 2], titles):
            ax.set(title=title, xlabel=quantity, ylabel="% of the group")
            ax.set_ylim(bottom=0)
            if ax.get_legend_handles_labels()[0]:
                ax.legend(loc="upper left")
            else:
                ax.text(0.5, 0.5, "one size only", ha="center", transform=ax.transAxes)
    return figure, FIGURE1_COLUMNS, rows


def _groups(analysis: Analysis, large: str) -> list[tuple[str, np.ndarray, str, int]]:
    """Returns Figure 1's groups of examples: name, members [n] bool, colour, and the panel, 0 or 1.

    `large` is what the names call the larger size.
    """
    outcomes = analysis.outcomes
    if outcomes.small_right is None:
        groups = [("all", np.ones(len(outcomes.log_uncertainty), dtype=bool), BLUE, 0)]
        if outcomes.outcome is not None:
            names = (f"{large} better", "both alike", f"{large} worse")
            groups += [
                (name, outcomes.outcome == k, color, 1)
                for k, (name, color) in enumerate(zip(names, _BETTER_ALIKE_WORSE))
            ]
        return groups
    right = outcomes.small_right
    groups = [("right", right, BLUE, 0), ("wrong", ~right, VERMILLION, 0)]
    if outcomes.outcome is not None:
        only_large = outcomes.outcome == outcomes.names.index("only the larger right")
        groups += [
            (f"wrong, {large} right", only_large, GREEN, 1),
            (f"wrong, {large} wrong too", ~right & ~only_large, INK, 1),
        ]
    return groups


def _drawn_sizes(analysis: Analysis) -> dict[str, str]:
    """Returns the name of each size as the figures show it."""
    return drawn_names(size.name for size in analysis.grid.sizes)


def _margin_label(analysis: Analysis, log: bool = False) -> str:
    """Returns the label of an axis of the margin score."""
    small = _drawn_sizes(analysis)[analysis.grid.sizes[0].name]
    if analysis.context is None:
        return f"margin score of {small}, 1 - (p$_1$ - p$_2$)"
    context = "of the gold answer's tokens" if analysis.context == "gold" else "of its own output's tokens"
    return f"{'log$_{10}$ ' if log else ''}mean 1 - (p$_1$ - p$_2$) {context}"


def outcomes(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Draws Figure 2: on what fractions both, one or none are right, among the examples with margin ≥ t.

    For translations: where the larger model's sentence is the better one by sentence BLEU, and where the smaller's.
    """
    shown = [analysis for analysis in analyses if analysis.outcomes.fraction is not None]
    if not shown:
        return text_figure("One size only: there is no larger model to compare with."), FIGURE2_COLUMNS, []
    figure, axes = panels(len(shown), right=0.3)
    rows: list[Row] = []
    datasets = drawn_names(analysis.grid.dataset for analysis in shown)
    for ax, analysis in zip(axes, shown):
        shares, sizes, drawn = analysis.outcomes, analysis.grid.sizes, _drawn_sizes(analysis)
        assert shares.fraction is not None and shares.examples is not None
        low, high = shares.band if shares.band is not None else (np.full_like(shares.fraction, np.nan),) * 2
        enough = shares.examples >= min(_LEAST_EXAMPLES, analysis.grid.examples / 2)
        large, small = drawn[sizes[-1].name], drawn[sizes[0].name]
        names = [name.replace("the larger", large).replace("the smaller", small) for name in shares.names]
        colors = (BLUE, ORANGE, GREEN, VERMILLION) if len(names) == 4 else _BETTER_ALIKE_WORSE
        for k, (name, color) in enumerate(zip(names, colors)):
            x = shares.thresholds[enough]
            ax.plot(x, 100 * shares.fraction[enough, k], color=color, linestyle=STYLES[k], label=name)
            band(ax, x, 100 * low[enough, k], 100 * high[enough, k], color)
            rows += [
                {
                    "dataset": analysis.grid.dataset,
                    "small": sizes[0].name,
                    "large": sizes[-1].name,
                    "threshold": float(shares.thresholds[t]),
                    "outcome": shares.names[k],
                    "fraction": float(shares.fraction[t, k]),
                    "ci_low": float(low[t, k]),
                    "ci_high": float(high[t, k]),
                    "examples": float(shares.examples[t]),
                }
                for t in range(len(shares.thresholds))
            ]
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(
            title=f"{datasets[analysis.grid.dataset]} (n = {analysis.grid.examples:,})",
            xlabel=_margin_label(analysis) + " at least",
            ylabel="% of those examples",
            ylim=(0, 100),
        )
        ax.legend()
    return figure, FIGURE2_COLUMNS, rows


def percentiles(analyses: Sequence[Analysis], confidence: float) -> Drawn:
    """Draws Figure 3: accuracy, or BLEU, of each size in 100 equal-count buckets of the smallest size's margin."""
    figure, axes = panels(len(analyses), right=0.3)
    rows: list[Row] = []
    middle = np.arange(100) + 0.5
    datasets = drawn_names(analysis.grid.dataset for analysis in analyses)
    for ax, analysis in zip(axes, analyses):
        grid, drawn = analysis.grid, _drawn_sizes(analysis)
        for k, size in enumerate(grid.sizes):
            quality, (low, high) = analysis.buckets.quality[size.name], analysis.buckets.band[size.name]
            color, seeds = CYCLE[k % len(CYCLE)], len(size.seeds)
            label = f"{drawn[size.name]} ({seeds} seed{'s' if seeds > 1 else ''})"
            ax.plot(middle, 100 * quality, color=color, linestyle=STYLES[k % len(STYLES)], linewidth=1.2, label=label)
            band(ax, middle, 100 * low, 100 * high, color, many=len(grid.sizes))
            rows += [
                {
                    "dataset": grid.dataset,
                    "ranked_by": grid.sizes[0].name,
                    "size": size.name,
                    "percentile_low": b,
                    "percentile_high": b + 1,
                    "measure": grid.measure,
                    "value": grid.unit * float(quality[b]),
                    "ci_low": grid.unit * float(low[b]),
                    "ci_high": grid.unit * float(high[b]),
                }
                for b in range(100)
            ]
        ax.set(
            title=f"{datasets[grid.dataset]} (n = {grid.examples:,})",
            xlabel=f"percentile of {drawn[grid.sizes[0].name]}'s margin (100: most uncertain)",
            ylabel=quality_label(grid),
            xlim=(0, 100),
        )
        bottom, top = ax.get_ylim()
        if top - bottom < _LEAST_SPAN:  # all alike: ticks of less would be written as differences from a number
            ax.set_ylim((bottom + top - _LEAST_SPAN) / 2, (bottom + top + _LEAST_SPAN) / 2)
        # a band may reach into the corner: what lies under the legend shows through, and it can be read
        ax.legend(loc="lower left", frameon=True, framealpha=0.8, facecolor=PAPER, edgecolor="none")
    return figure, FIGURE3_COLUMNS, rows


def _wilson(counts: np.ndarray, n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns Wilson's interval of counts / n (Wilson 1927): the run is fixed here, so only examples vary."""
    if n == 0:
        return np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = counts / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)
