"""Draws small charts of training curves as SVG text: one panel, a line a seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sweeps.training.curves import Curve

WIDTH, HEIGHT = 320, 168
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 22  # the margins around the plot
COLOURS = ("--c0", "--c2", "--c4", "--c5", "--c3")  # of the report's style; without the one like `--wrong`


@dataclass(frozen=True)
class Line:
    """Holds a curve and how it is drawn."""

    curve: Curve
    title: str  # shown where the pointer rests on it
    colour: str
    is_dashed: bool = False
    stands_out: bool = False
    marked_step: int | None = None  # gets a ring: the step that was kept


@dataclass(frozen=True)
class Scale:
    """Maps values to places between two ends; logarithmically where `is_log`."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Returns where a value lies, 0 at the low end and 1 at the high end; values outside are at the end."""
        low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, max(value, self.low)))
        return min((value - low) / (high - low), 1.0) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Returns about three to five round values between the ends."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1, 2, 5), (1, 3), (1,)):
                ticks = [m * 10.0**e for e in decades for m in steps if self.low <= m * 10.0**e <= self.high]
                if len(ticks) <= 5:
                    break
            if len(ticks) >= 3:
                return ticks[:: -(-len(ticks) // 5)]
        span = (self.high - self.low) or 1.0
        size = 10 ** math.floor(math.log10(span / 3))
        step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= 4)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def loss_scale(values: Sequence[float]) -> Scale:
    """Returns a logarithmic scale for losses, at least a factor of two wide."""
    positive = [value for value in values if value > 0]
    low, high = max(min(positive, default=0.5), 1e-4), max(positive, default=1.0)
    return Scale(low, max(high, 2 * low), is_log=True)


def share_scale(values: Sequence[float]) -> Scale:
    """Returns a linear scale for shares in 0-1, at least five points wide."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    spare = max(0.05 - (high - low), 0) / 2
    return Scale(max(low - spare, 0.0), min(max(high + spare, low + 0.05), 1.0))


def panel(lines: Sequence[Line], steps: int, scale: Scale, label: str, is_share: bool = False) -> str:
    """Returns an SVG of the lines over steps from 0 to `steps`; `label` says to a screen reader what it shows."""
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick, is_share)}</text>'
        for tick in scale.ticks()
        for y in [_y(scale, tick)]
    )
    across = Scale(0, max(steps, 1))
    ends = (
        f'<text x="{LEFT}" y="{HEIGHT - 5}">0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{steps:,} steps</text>'
    )
    drawn = "".join(_drawn(line, across, scale) for line in sorted(lines, key=lambda line: line.stands_out))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<g class="grid">{grid}</g>{ends}{drawn}</svg>'
    )


def _drawn(line: Line, across: Scale, scale: Scale) -> str:
    """Returns the SVG of one line, with a cross at its end where it stands out and a ring at the kept step."""
    curve = line.curve
    if not curve.steps:
        return ""
    points = [(_x(across, step), _y(scale, value)) for step, value in zip(curve.steps, curve.values, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    kind = "bad" if line.stands_out else "cell"
    dashes = ' stroke-dasharray="4 3"' if line.is_dashed else ""
    colour = "--wrong" if line.stands_out else line.colour
    marks = ""
    x, y = points[-1]
    if line.stands_out and not line.is_dashed:
        marks += f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8"/>'
    elif len(points) == 1:
        marks += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5"/>'
    if line.marked_step is not None and line.marked_step in curve.steps:
        x, y = points[list(curve.steps).index(line.marked_step)]
        marks += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    return (
        f'<g class="{kind}" style="stroke:var({colour})"><title>{escape(line.title)}</title>'
        f'<polyline points="{path}"{dashes}/>{marks}</g>'
    )


def _x(across: Scale, step: float) -> float:
    return LEFT + across.place(step) * (WIDTH - LEFT - RIGHT)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - TOP - BOTTOM)


def _tick(value: float, is_share: bool) -> str:
    return f"{100 * value:.3g} %" if is_share else f"{value:.3g}"
