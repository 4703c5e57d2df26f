"""Draws a line over steps: with characters for a terminal, or as a PNG or SVG file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tracking.files import written_whole
from tracking.interface import TrackingError

Points = Sequence[tuple[float, float]]  # (step, value)

_LABEL_WIDTH = 9  # characters of a value beside the axis
# The bits of a braille character (Unicode's block from U+2800 on) by row and column of its 4 × 2 dots.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_SUFFIXES = (".png", ".svg", ".pdf")


def draw_with_characters(points: Points, width: int, height: int, *, braille: bool = True) -> list[str]:
    """Returns the lines of a chart, of `width` characters at most: `height` for the values, and two for the steps.

    Points that follow each other are joined, except over a value that is not finite. Without `braille` a point is an
    asterisk, for terminals that have no other characters. There is at least one finite value, and steps ascend.
    """
    columns = max(1, width - _LABEL_WIDTH - 2)
    finite = [value for _, value in points if math.isfinite(value)]
    low, high = min(finite), max(finite)
    first, last = points[0][0], points[-1][0]
    dots_across, dots_down = (2, 4) if braille else (1, 1)
    lit = {
        (column, row)
        for run in _finite_runs(points)
        for column, row in _joined(
            [
                (
                    _position(step, first, last, columns * dots_across),
                    height * dots_down - 1 - _position(value, low, high, height * dots_down),
                )
                for step, value in run
            ]
        )
    }
    cells = [[0] * columns for _ in range(height)]
    for column, row in lit:
        cells[row // dots_down][column // dots_across] |= _DOTS[row % dots_down][column % dots_across]
    text = ["".join(_character(bits, braille) for bits in row).rstrip() for row in cells]
    labels = {0: f"{high:.4g}", height - 1: f"{low:.4g}"} if low < high else {height // 2: f"{low:.4g}"}
    corner, bar, line, tick = ("└", "│", "─", "┤") if braille else ("+", "|", "-", "+")
    lines = [
        f"{labels.get(number, ''):>{_LABEL_WIDTH}} {tick if number in labels else bar}{row}"
        for number, row in enumerate(text)
    ]
    lines.append(" " * (_LABEL_WIDTH + 1) + corner + line * columns)
    steps = f"{first:g}" if first == last else f"{first:g}{f'{last:g}':>{max(1, columns - len(f'{first:g}'))}}"
    return [*lines, " " * (_LABEL_WIDTH + 2) + steps]


def write_figure(path: Path, title: str, lines: Mapping[str, Points]) -> None:
    """Writes a file with one panel a line, by the suffix of `path` (.png, .svg or .pdf); loads Matplotlib.

    Raises TrackingError for another suffix, and where the file can't be written.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise TrackingError(f"--plot {path}: expected a file name that ends with {', '.join(_SUFFIXES)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 0.6 + 2.2 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(title, fontsize=11)
    for panel, (name, points) in zip(axes, lines.items(), strict=True):
        panel.plot([step for step, _ in points], [value for _, value in points], marker="." if len(points) < 40 else "")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    kind = path.suffix.lower().removeprefix(".")
    try:
        with written_whole(path) as partial:
            figure.savefig(partial, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    except OSError as error:
        raise TrackingError(f"--plot {path}: {error.strerror or error}") from error


def _position(value: float, low: float, high: float, count: int) -> int:
    """Returns which of `count` places from `low` to `high` a value takes; the middle one where these are equal."""
    if low == high:
        return (count - 1) // 2
    return round((value / 2 - low / 2) / (high / 2 - low / 2) * (count - 1))  # halves: a difference may overflow


def _finite_runs(points: Points) -> Iterator[Points]:
    """Yields the longest parts of the points without a value that is not finite."""
    part: list[tuple[float, float]] = []
    for step, value in points:
        if math.isfinite(value):
            part.append((step, value))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _joined(dots: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields the dots and those on the straight lines between them."""
    yield dots[0]
    for (column, row), (next_column, next_row) in zip(dots, dots[1:], strict=False):
        count = max(abs(next_column - column), abs(next_row - row), 1)
        for part in range(1, count + 1):
            yield (
                column + round(part * (next_column - column) / count),
                row + round(part * (next_row - row) / count),
            )


def _character(bits: int, braille: bool) -> str:
    if not bits:
        return " "
    return chr(0x2800 + bits) if braille else "*"
