"""Makes Figures 1-6 part of the page: SVG in the page's own colours, a caption, and what they show in words."""

import math
import re
from collections.abc import Sequence
from html import escape

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import near_gap
from metrics.figures import TITLES
from metrics.report.measure import quality_of
from metrics.report.words import context_note

_OF_PAIRS = ("fig2", "fig4", "fig5", "fig6")
# what each figure's reader should know beyond its axes
_NOTES = {
    "fig1": "First seed of the smallest and of the largest size. Bars: Wilson intervals over examples.",
    "fig2": "Pooled over all pairs of runs of the smallest and the largest size.",
    "fig3": "Mean over runs; the smallest model's own is of the run that ranks. Ties are split evenly.",
    "fig4": "Mean over all pairs of runs, ranked by margin. Dashed: deferring as many at random.",
    "fig5": "Smallest to largest size, ranked by margin; a colour for how much better the larger run is.",
    "fig6": "Ranked by margin. Only pairs of runs 0.5 to 1 point apart, where there are any.",
}


def figure(name: str, svg: str, analyses: Sequence[Analysis], confidence: float) -> str:
    """Returns one figure's HTML; its text alternative is its title and its description.

    A figure that would show nothing of what it is for is a sentence that says so.
    """
    title = titled(name, analyses)
    if nothing := _nothing_to_show(name, analyses):
        return f'<p class="soft" id="{name}"><b>Figure {name[-1]}.</b> {escape(title)}: {escape(nothing)}</p>'
    caption = f"{title}. {_NOTES[name]}"
    has_intervals = all(one.widest is None or one.widest.gap.has_interval for one in analyses)
    if name not in ("fig1", "fig6") and has_intervals:  # the one says what its bars are, the other is of single pairs
        caption += f" Bands: {100 * confidence:g} % intervals over seeds and examples"
        caption += ", from at most 200 resamples." if name == "fig2" else "."
    # Text has the same size in all figures: one panel fits a phone, three scroll there and fill a wide screen.
    width = re.search(r'width="([\d.]+)pt"', svg)
    assert width is not None, "matplotlib writes the width of an SVG in points"
    points = float(width[1])
    caption = f"{caption} {context_note(analyses)}".rstrip()
    alternative = f"{title}. {described(name, analyses)}"
    return (
        f'<figure id="{name}" style="max-width:{1.33 * points:.0f}px">'
        f'<div class="wide" role="region" tabindex="0" aria-label="Figure {name[-1]}">'
        f"{_inline(svg, alternative, round(0.95 * points))}</div>"
        f"<figcaption><b>Figure {name[-1]}.</b> {escape(caption)} Numbers: figures/{name}.csv.</figcaption></figure>"
    )


def _nothing_to_show(name: str, analyses: Sequence[Analysis]) -> str:
    """Writes why a figure has nothing to show; "" where it has something."""
    pairs = [pair for analysis in analyses for pair in analysis.pairs]
    if name in _OF_PAIRS and not pairs:
        return "one size only, so there is no pair of sizes to show."
    if name == "fig6" and not any(near_gap(pair.gaps).any() for pair in pairs):
        return "no pair of runs is 0.5 to 1 point apart. figures/fig6.svg shows all pairs, in grey."
    return ""


def titled(name: str, analyses: Sequence[Analysis]) -> str:
    """Returns a figure's title with the measures of these datasets in place of `accuracy or BLEU`."""
    measures = list(dict.fromkeys(quality_of(analysis.grid).name for analysis in analyses))
    named = " or ".join(filter(None, [", ".join(measures[:-1]), measures[-1]]))
    return TITLES[name].replace("Accuracy or BLEU", named[0].upper() + named[1:]).replace("accuracy or BLEU", named)


def described(name: str, analyses: Sequence[Analysis]) -> str:
    """Describes a figure for those who can't see it: the numbers that one would read off it."""
    return " ".join(sentence for analysis in analyses if (sentence := _DESCRIBED[name](analysis)))


def _second_likeliest(analysis: Analysis) -> str:
    outcomes, small, large = analysis.outcomes, analysis.grid.sizes[0].name, analysis.grid.sizes[-1].name
    right = outcomes.small_right
    if right is not None:
        groups = [(f"where {small} is right", right), (f"where {small} is wrong", ~right)]
    elif outcomes.outcome is not None:
        names = (f"where {large} is better", "where both are alike", f"where {small} is better")
        groups = [(name, outcomes.outcome == k) for k, name in enumerate(names)]
    else:
        groups = []
    medians = [
        f"{math.exp(_median(outcomes.log_uncertainty[member])):.2g} {where}" for where, member in groups if member.any()
    ]
    what = "p2" if outcomes.of_second else "margin score"
    return f"{analysis.grid.dataset}: the median {what} of {small} is {', '.join(medians)}." if medians else ""


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return float(ordered[len(ordered) // 2])


def _outcomes(analysis: Analysis) -> str:
    shown = analysis.outcomes
    if shown.fraction is None or shown.examples is None:
        return ""
    enough = [t for t in range(len(shown.thresholds)) if shown.examples[t] >= min(10, analysis.grid.examples / 2)]
    if not enough:
        return ""
    of_all, of_uncertain = shown.fraction[enough[-1]], shown.fraction[enough[0]]
    fractions = [f"{name} {100 * a:.1f} % and {100 * b:.1f} %" for name, a, b in zip(shown.names, of_all, of_uncertain)]
    return f"{analysis.grid.dataset}, of all examples and of the most uncertain: {', '.join(fractions)}."


def _percentiles(analysis: Analysis) -> str:
    quality = quality_of(analysis.grid)
    sizes = []
    for size, values in analysis.buckets.quality.items():
        certain, uncertain = values[:50].mean(), values[90:].mean()
        sizes.append(
            f"{size} {quality.value(certain)} in the more certain half and {quality.value(uncertain)} in the "
            "least certain tenth"
        )
    return f"{analysis.grid.dataset}, mean {quality.name} of a percentile: {'; '.join(sizes)}."


def _mean_curve(analysis: Analysis) -> str:
    pair, quality = analysis.widest, quality_of(analysis.grid)
    if pair is None:
        return ""
    curve = pair.curve["margin"]
    qualities = ", ".join(f"{quality.value(curve[k])} at {k} %" for k in (0, 10, 25, 50, 75, 100))
    return f"{analysis.grid.dataset}, {pair.small} to {pair.large}: {qualities} deferred."


def _all_curves(analysis: Analysis) -> str:
    pair = analysis.widest
    if pair is None:
        return ""
    gaps = 100 * pair.gaps
    return (
        f"{analysis.grid.dataset}: {gaps.size} pairs of runs, {pair.large} better by {gaps.min():.2f} to "
        f"{gaps.max():.2f} {quality_of(analysis.grid).points}."
    )


def _humps(analysis: Analysis) -> str:
    pairs = [
        f"{pair.small} to {pair.large} disagree on {100 * pair.disagreements.mean():.1f} % with a mean hump of "
        f"{100 * pair.scores['margin'].hump.mean():.2f}"
        for pair in analysis.pairs
    ]
    return f"{analysis.grid.dataset}: {'; '.join(pairs)}." if pairs else ""


_DESCRIBED = {
    "fig1": _second_likeliest,
    "fig2": _outcomes,
    "fig3": _percentiles,
    "fig4": _mean_curve,
    "fig5": _all_curves,
    "fig6": _humps,
}


def _inline(svg: str, alternative: str, least: int) -> str:
    """Returns an SVG file as part of a page: its ink and paper become the page's; ids without a reference go."""
    from metrics.figures.style import INK, PAPER

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>", "", svg, flags=re.DOTALL)  # would pop up wherever the pointer rests
    referred = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in referred else "", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none")
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(alternative)}" style="min-width:{least}px"', 1)
