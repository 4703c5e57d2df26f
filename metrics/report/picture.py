"""Draws the overview's picture: the switcher curve of the smallest to the largest size, and the share to defer on it.

It is plain SVG in the page's own colours, so it is there without a script; once for wide screens and once for phones,
as the text would shrink with the drawing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair
from metrics.analysis.prices import Prices
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import SizeRuns
from metrics.report.measure import quality_of
from metrics.report.words import loss_allowed, percent, percent_rounded_up, points, saving
from metrics.report.words.phrases import pairs_of_runs
from metrics.report.words.savings import flops_known
from metrics.report.words.weak import weak_sizes
from metrics.short_names import short_names
from metrics.statistics.switcher import FRACTIONS

_STEPS = (1, 2, 2.5, 5, 10)  # between two ticks, times a power of ten
_LEAST_SPAN = 0.4  # points from the lowest to the highest quality shown: ticks of less have more digits than fit
_LETTER = {"name": 7.4, "advice": 8.2, "label": 6.8}  # pixels, at most about, as the style sheet sets these texts
_LINE = 17  # pixels from a line of text to the next


@dataclass(frozen=True)
class _Canvas:
    """Maps fractions deferred and qualities in percent to the pixels of one drawing."""

    css: str  # the class by which the style sheet shows it or not
    width: int
    height: int
    lowest: float
    highest: float
    left: int = 46
    right: int = 14
    top: int = 44
    bottom: int = 46

    @property
    def longest_name(self) -> int:
        """Returns how many characters of a size's name have room in the drawing."""
        return self.width // 32

    def x(self, fraction: float) -> float:
        """Returns the pixel of a fraction deferred, 0-1, from the left."""
        return round(self.left + fraction * (self.width - self.left - self.right), 1)

    def y(self, quality: float) -> float:
        """Returns the pixel of a quality, in percent, from the top."""
        share = (quality - self.lowest) / (self.highest - self.lowest)
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)


def picture(analysis: Analysis, confidence: float, prices: Prices | None = None) -> str:
    """Returns the picture of a dataset as a figure; "" with one size.

    `confidence`, 0-1, is that of the band. Costs are in `prices`, or in FLOPs where there are none. Sequences are
    ranked by the uncertainty that can be deployed.
    """
    analysis = analysis.deployable
    pair = analysis.widest
    if pair is None:
        return ""
    low, high = pair.band["margin"]
    shown = 100 * np.concatenate([pair.curve["margin"], low[np.isfinite(low)], high[np.isfinite(high)]])
    middle, span = (shown.max() + shown.min()) / 2, max(np.ptp(shown), _LEAST_SPAN)
    limits = float(middle - 0.58 * span), float(middle + 0.58 * span)
    canvases = _Canvas("wide-screen", 580, 400, *limits), _Canvas("phone", 358, 290, *limits)
    caption = f"{_caption(pair, confidence)} {why_nothing_is_recommended(analysis, pair, prices)}".rstrip()
    drawings = "".join(_drawing(canvas, analysis, pair, prices) for canvas in canvases)
    return f'<figure class="picture">{drawings}<figcaption>{escape(caption)}</figcaption></figure>'


def recommended_share(analysis: Analysis, pair: SizePair, prices: Prices | None = None) -> float:
    """Returns the least share of the examples, 0-1, whose deferral is shown to lose at most `metrics.epsilon`.

    It is NaN where there is none to recommend, as `why_nothing_is_recommended` says.
    """
    return math.nan if why_nothing_is_recommended(analysis, pair, prices) else pair.least_share["margin"].within_epsilon


def why_nothing_is_recommended(analysis: Analysis, pair: SizePair, prices: Prices | None = None) -> str:
    """Writes why there is no share of the examples to recommend deferring; "" where there is one."""
    shares, loss = pair.least_share["margin"], loss_allowed(analysis, pair)
    if {pair.small, pair.large} <= set(weak_sizes(analysis)):
        return "The models are too weak to recommend a share to defer."
    if not pair.gap.has_interval:
        return "How much of the gap is chance can't be told, so no share to defer is recommended."
    if not pair.gap.above_zero:
        return f"As {pair.large} isn't shown to be the better model, no share to defer is recommended."
    if not shares.saves:
        return f"No share short of all examples is shown to lose at most {loss}."
    if saved_part(analysis, pair, shares.within_epsilon, prices) <= 0:
        share = percent_rounded_up(shares.within_epsilon, 0)
        return f"Deferring {share} is shown to lose at most {loss}, but costs more than {pair.large} alone."
    return ""


def saved_part(analysis: Analysis, pair: SizePair, share: float, prices: Prices | None = None) -> float:
    """Returns what part of the larger model's cost is saved by deferring a share, 0-1: of its price, else of its FLOPs.

    It is NaN where neither is known, and negative where deferring costs more than the larger model alone.
    """
    if prices is not None:
        return prices.saving(pair.small, pair.large, share)
    small, large = _sizes(analysis, pair)
    return saving(small, large, Estimate(share)).value if flops_known(small, large) else math.nan


def sparkline(pair: SizePair) -> str:
    """Returns a pair's mean curve as a drawing as high as a line of text, beside the chord of random deferral."""
    curve = pair.curve["margin"]
    low, high = float(curve.min()), float(curve.max())
    scale = (high - low) or 1.0

    def y(value: float) -> float:
        return round(25 - 22 * (value - low) / scale, 1)

    line = "L".join(f"{2 + 0.96 * k:.1f} {y(curve[k])}" for k in range(0, 101, 2))
    return (
        '<svg class="whisker" width="100" height="28" aria-hidden="true">'
        f'<line x1="2" x2="98" y1="{y(curve[0])}" y2="{y(curve[-1])}" stroke="currentColor" stroke-opacity=".4" '
        f'stroke-dasharray="3 3"/><path class="curve" d="M{line}"/></svg>'
    )


def _caption(pair: SizePair, confidence: float) -> str:
    text = f"The examples of which {pair.small} is least certain are deferred first. Mean over {pairs_of_runs(pair)}"
    if math.isnan(pair.band["margin"][0][0]):
        return f"{text}; dashed: as many deferred at random."
    return f"{text}; band: {100 * confidence:g} % interval; dashed: as many deferred at random."


def _drawing(canvas: _Canvas, analysis: Analysis, pair: SizePair, prices: Prices | None) -> str:
    curve = 100 * pair.curve["margin"]
    low, high = (100 * limit for limit in pair.band["margin"])
    parts = [_axes(canvas, analysis, pair, prices)]
    if np.isfinite(low).all() and np.isfinite(high).all():
        outline = [*zip(FRACTIONS, high), *zip(FRACTIONS[::-1], low[::-1])]
        parts.append(f'<path class="band" d="M{_path(canvas, outline)}Z"/>')
    parts.append(f'<path class="random" d="M{_path(canvas, [(0.0, curve[0]), (1.0, curve[-1])])}"/>')
    parts.append(f'<path class="curve" d="M{_path(canvas, list(zip(FRACTIONS, curve)))}"/>')
    recommended = _recommendation(canvas, analysis, pair, prices)
    parts += _ends(canvas, analysis, pair, recommended)
    if recommended:
        parts += _marked_share(canvas, pair, recommended_share(analysis, pair, prices))
    parts += [label.svg for label in recommended]
    return (
        f'<svg class="{canvas.css}" viewBox="0 0 {canvas.width} {canvas.height}" role="img" '
        f'aria-label="{escape(_described(analysis, pair, prices))}">{"".join(parts)}</svg>'
    )


def _axes(canvas: _Canvas, analysis: Analysis, pair: SizePair, prices: Prices | None) -> str:
    """Returns both axes with their labels: the share deferred below, its cost above where it is known."""
    quality = quality_of(analysis.grid)
    ends = canvas.x(0), canvas.x(1)
    floor = canvas.height - canvas.bottom
    parts = []
    for value, text in _ticks(canvas.lowest, canvas.highest):
        at = canvas.y(value)
        parts.append(f'<line class="grid" x1="{ends[0]}" x2="{ends[1]}" y1="{at}" y2="{at}"/>')
        parts.append(_text(canvas.left - 6, at + 4, text, anchor="end"))
    parts.append(f'<line class="axis" x1="{ends[0]}" x2="{ends[1]}" y1="{floor}" y2="{floor}"/>')
    shares = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    parts += [_text(canvas.x(share), floor + 17, f"{100 * share:.0f}", anchor="middle") for share in shares]
    middle = (ends[0] + ends[1]) / 2
    large = _short_names(canvas, pair)[1]
    parts.append(_text(middle, canvas.height - 8, f"examples deferred to {large}, %", "label", "middle"))
    parts.append(_text(2, canvas.top - 10, quality.axis, "label"))
    costs = _costs(analysis, pair, shares, prices, large)
    if costs is not None:
        title, written = costs
        parts.append(_text(ends[1], 14, title, "label", "end"))
        for share, cost in list(zip(shares, written, strict=True))[1:]:
            at = canvas.x(share)
            parts.append(f'<line class="axis" x1="{at}" x2="{at}" y1="{canvas.top - 6}" y2="{canvas.top - 2}"/>')
            parts.append(_text(at, canvas.top - 10, cost, anchor="middle"))
    return "".join(parts)  # the first cost would stand where the vertical axis has its name


def _costs(
    analysis: Analysis, pair: SizePair, shares: Sequence[float], prices: Prices | None, large_name: str
) -> tuple[str, list[str]] | None:
    """Returns the title of the axis of costs, and the cost of deferring each share; None where none is known."""
    if prices is not None:
        costs = [prices.of_mixture(pair.small, pair.large, share) for share in shares]
        return f"price, {prices.unit} per example", [f"{cost:.3g}" for cost in costs]
    small, large = _sizes(analysis, pair)
    if not flops_known(small, large):
        return None
    ratio = small.flops_per_example / large.flops_per_example
    return f"cost, % of the FLOPs of {large_name} alone", [f"{100 * (ratio + share):.0f}" for share in shares]


@dataclass(frozen=True)
class _Label:
    """Holds a text in the drawing: where its line begins or ends, in pixels, and how the style sheet sets it."""

    x: float
    y: float
    text: str
    css: str
    anchor: str = "start"

    @property
    def svg(self) -> str:
        """Returns the text as SVG."""
        return _text(self.x, self.y, self.text, self.css, self.anchor)

    def overlaps(self, other: "_Label") -> bool:
        """Tells whether two texts stand, as far as their letters are counted, on one another."""
        (left, right), (other_left, other_right) = self._span, other._span
        return left < other_right and other_left < right and abs(self.y - other.y) < _LINE - 2

    @property
    def _span(self) -> tuple[float, float]:
        width = _LETTER[self.css] * len(self.text)
        return (self.x - width, self.x) if self.anchor == "end" else (self.x, self.x + width)


def _short_names(canvas: _Canvas, pair: SizePair) -> tuple[str, str]:
    """Returns the names of the smaller and the larger size as the drawing has room for them."""
    names = short_names([pair.small, pair.large], canvas.longest_name)
    return names[pair.small], names[pair.large]


def _ends(canvas: _Canvas, analysis: Analysis, pair: SizePair, taken: Sequence[_Label]) -> list[str]:
    """Returns the points of the two models by themselves, and what they are, beside the texts that are `taken`."""
    quality, (start, end) = quality_of(analysis.grid), pair.curve["margin"][[0, -1]]
    small, large = _short_names(canvas, pair)
    below, above = 17, -10
    at_end = above if end >= start else below
    # the smaller model's stands on the other side of its point, or, where that is taken, the least way above it
    offsets = [below if end >= start else above, *range(above, -canvas.height, -_LINE)]
    labels = [
        _Label(canvas.x(0) + 9, canvas.y(100 * start) + offset, f"{small} {quality.value(start)}", "name")
        for offset in offsets
    ]
    free = (label for label in labels if not any(label.overlaps(other) for other in taken) and label.y > canvas.top)
    return [
        _point(canvas, 0.0, start),
        next(free, labels[0]).svg,
        _point(canvas, 1.0, end),
        _text(canvas.x(1), canvas.y(100 * end) + at_end, f"{large} {quality.value(end)}", "name", "end"),
    ]


def _recommendation(canvas: _Canvas, analysis: Analysis, pair: SizePair, prices: Prices | None) -> list[_Label]:
    """Returns what the share to defer gives and saves, a line each; nothing where there is none."""
    share = recommended_share(analysis, pair, prices)
    if math.isnan(share):
        return []
    value = float(np.interp(share, FRACTIONS, pair.curve["margin"]))
    at, level, floor = canvas.x(share), canvas.y(100 * value), canvas.height - canvas.bottom
    lines = [f"defer {percent_rounded_up(share, 0)}: {quality_of(analysis.grid).value(value)}"]
    saved = saved_part(analysis, pair, share, prices)
    if not math.isnan(saved):
        lines.append(f"{percent(saved, 0)} {'cheaper' if prices is not None else 'fewer FLOPs'}")
    shares = pair.least_share["margin"]
    lines.append(f"at most {points(shares.epsilon)} {quality_of(analysis.grid).points} lost")
    lines.append(f"({percent(shares.confidence, 0)} confidence)")
    lowest = floor - 8 - _LINE * (len(lines) - 1)  # of the first line
    # there is room to the right below the flat end of the curve, or to the left below the chord
    x, anchor, first = (at + 10, "start", min(level + 26, lowest)) if share <= 0.5 else (at - 10, "end", lowest)
    return [_Label(x, first + _LINE * k, line, "advice" if k == 0 else "name", anchor) for k, line in enumerate(lines)]


def _marked_share(canvas: _Canvas, pair: SizePair, share: float) -> list[str]:
    """Returns the point of a share to defer on the curve, and the line from there to the axis."""
    value = float(np.interp(share, FRACTIONS, pair.curve["margin"]))
    at, level, floor = canvas.x(share), canvas.y(100 * value), canvas.height - canvas.bottom
    line = f'<line class="advice" x1="{at}" x2="{at}" y1="{level}" y2="{floor}"/>'
    return [line, f'<circle class="advice" cx="{at}" cy="{level}" r="6"/>']


def _described(analysis: Analysis, pair: SizePair, prices: Prices | None) -> str:
    """Describes the picture for those who can't see it."""
    quality, curve = quality_of(analysis.grid), pair.curve["margin"]
    values = ", ".join(f"{quality.value(curve[k])} at {k} %" for k in (0, 10, 20, 30, 50, 75, 100))
    text = f"Switcher curve from {pair.small} to {pair.large}, {quality.name} by share deferred: {values}."
    share = recommended_share(analysis, pair, prices)
    if not math.isnan(share):
        text += f" Marked: {percent_rounded_up(share, 0)} deferred lose at most {loss_allowed(analysis, pair)}."
    return text


def _sizes(analysis: Analysis, pair: SizePair) -> tuple[SizeRuns, SizeRuns]:
    by_name = {size.name: size for size in analysis.grid.sizes}
    return by_name[pair.small], by_name[pair.large]


def _path(canvas: _Canvas, values: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{canvas.x(fraction)} {canvas.y(quality)}" for fraction, quality in values)


def _point(canvas: _Canvas, fraction: float, quality: float) -> str:
    return f'<circle class="end" cx="{canvas.x(fraction)}" cy="{canvas.y(100 * quality)}" r="4.5"/>'


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _ticks(lowest: float, highest: float, count: int = 6) -> list[tuple[float, str]]:
    """Returns about `count` round numbers from `lowest` to `highest`, each with how it is written."""
    power = 10 ** math.floor(math.log10((highest - lowest) / count))
    step = next(factor * power for factor in _STEPS if (highest - lowest) / (factor * power) <= count)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if round(step / power, 6) == 2.5 else 0)
    first = math.ceil(lowest / step - 1e-9)
    last = math.floor(highest / step + 1e-9)
    return [(k * step, points(k * step / 100, digits=digits)) for k in range(first, last + 1)]
