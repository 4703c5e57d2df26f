"""Makes texts of a figure smaller where they are longer than the room for them, which the length of names decides."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

_LEAST_SIZE = 5.0  # points
_ON_PIXELS = 1.08  # letters that are fitted to pixels, as in a PNG, may be so much wider than their outlines
_GAP = 4.0  # points between a text and whatever is next to it
_LEGEND_SAMPLE = 3.6  # ems of a legend beside its texts: the line, and the space around it


def fit_texts(figure: Figure) -> None:
    """Makes titles, axis labels and legends smaller that would run into another panel or past the figure's edge.

    All others stay as they are; nothing gets smaller than 5 points.
    """
    width, height = (72 * inches for inches in figure.get_size_inches())
    for axes in figure.axes:
        box = axes.get_position()
        left, right = box.x0 * width, box.x1 * width
        beside = [72 * figure.get_figwidth() * other.get_position().x0 for other in _in_row(figure, axes)]
        end = min((x for x in beside if x > right + 36), default=width)  # a colour bar is nearer, and belongs to it
        start = max((x for x in beside if x < left - 36), default=None)
        before = 0.0 if start is None else (left + start + box.width * width) / 2
        _fit([axes._left_title, axes.title], end - left)  # type: ignore[attr-defined]  # no public way to the left one
        middle = (left + right) / 2
        _fit([axes.xaxis.label], 2 * min(middle - before, (width if end == width else (end + right) / 2) - middle))
        beyond = 2 * min(box.y0 * height, (1 - box.y1) * height)
        for one in (axes, *axes.child_axes):
            _fit([one.yaxis.label], box.height * height + beyond)
        _fit_legend(axes, width - right if _legend_is_beside(axes) else right - left)


def text_width(text: Text) -> float:
    """Returns how wide the longest line of a text is, in points."""
    font: FontProperties = text.get_fontproperties()
    lines = text.get_text().split("\n")
    return _ON_PIXELS * max(
        float(text_to_path.get_text_width_height_descent(line, font, ismath=bool(is_math_text(line)))[0])
        for line in lines
    )


def _in_row(figure: Figure, axes: Axes) -> list[Axes]:
    """Returns the other panels in the row of one."""
    y = axes.get_position().y0
    return [other for other in figure.axes if other is not axes and abs(other.get_position().y0 - y) < 1e-6]


def _fit(texts: Iterable[Text], room: float) -> None:
    """Makes each text small enough for `room` points, if it isn't."""
    for text in texts:
        width = text_width(text) if text.get_text() else 0.0
        if width > room - _GAP:
            text.set_fontsize(max(_LEAST_SIZE, _size(text) * (room - _GAP) / width))


def _size(text: Text) -> float:
    """Returns a text's size in points, which matplotlib keeps as a number."""
    return float(text.get_fontsize())


def _legend_is_beside(axes: Axes) -> bool:
    """Tells whether a panel's legend stands to its right, and not in it."""
    legend = axes.get_legend()
    return legend is not None and legend.get_bbox_to_anchor().x0 >= axes.bbox.x1


def _fit_legend(axes: Axes, room: float) -> None:
    legend = axes.get_legend()
    if legend is None:
        return
    texts = legend.get_texts()
    size = min(map(_size, texts), default=0.0)
    widest = max(map(text_width, texts), default=0.0) + _LEGEND_SAMPLE * size
    if widest > room - _GAP:
        smaller = max(_LEAST_SIZE, size * (room - _GAP - _LEGEND_SAMPLE * size) / (widest - _LEGEND_SAMPLE * size))
        for text in texts:
            text.set_fontsize(smaller)
