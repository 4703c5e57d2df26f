"""Lines over steps, drawn with characters and into files."""

import math

import pytest

from tracking.interface import TrackingError
from tracking.line_chart import draw_with_characters, write_figure


def drawn(points, width=31, height=4, **options):
    return draw_with_characters(points, width, height, **options)


def test_a_rising_line_without_braille():
    assert drawn([(0, 0.0), (10, 1.0), (20, 2.0), (30, 3.0)], width=15, braille=False) == [
        "        3 +   *",
        "          |  *",
        "          | *",
        "        0 +*",
        "          +----",
        "           0 30",
    ]


def test_a_rising_line_in_braille_uses_eight_dots_a_character():
    lines = drawn([(0, 0.0), (7, 7.0)], width=15, height=2)
    assert lines == [
        "        7 ┤  ⡠⠊",
        "        0 ┤⡠⠊",
        "          └────",
        "           0  7",
    ]


def test_points_that_follow_each_other_are_joined_but_not_over_what_is_no_number():
    joined = drawn([(0, 1.0), (1, 1.0), (2, 1.0)], braille=False)
    assert joined[2] == "        1 +" + "*" * 20
    apart = drawn([(0, 1.0), (1, math.nan), (2, 1.0)], braille=False)
    assert apart[2] == "        1 +*" + " " * 18 + "*"
    assert drawn([(0, math.inf), (1, 5.0), (2, -math.inf)], braille=False)[2].count("*") == 1


@pytest.mark.parametrize("points", [[(7, 3.0)], [(0, -1e308), (1, 1e308)], [(k, k % 7) for k in range(10_000)]])
@pytest.mark.parametrize("braille", [True, False])
def test_a_chart_keeps_its_size(points, braille):
    lines = drawn(points, width=60, height=8, braille=braille)
    assert len(lines) == 10 and max(map(len, lines)) <= 60
    assert any(set(line[11:]) - {" "} for line in lines[:8])


def test_files_are_drawn_by_their_suffix(tmp_path):
    lines = {"loss": [(0, 2.0), (1, 1.0)], "accuracy": [(0, 0.5), (1, math.nan)]}
    write_figure(tmp_path / "a" / "chart.png", "run", lines)
    assert (tmp_path / "a" / "chart.png").read_bytes().startswith(b"\x89PNG")
    write_figure(tmp_path / "chart.SVG", "run", lines)
    assert "<svg" in (tmp_path / "chart.SVG").read_text()
    with pytest.raises(TrackingError, match=r"chart.gif: expected a file name that ends with .png, .svg, .pdf"):
        write_figure(tmp_path / "chart.gif", "run", lines)
    with pytest.raises(TrackingError, match="--plot /dev/null/chart.png"):
        write_figure(type(tmp_path)("/dev/null/chart.png"), "run", lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "chart.SVG"]
