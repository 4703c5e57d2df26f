"""Long names of sizes, datasets and slices: figures, the overview's picture, tables and the page can still be read."""

import re
from html import unescape

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.figures import TITLES, deferral, uncertainty
from metrics.figures.fit import fit_texts
from metrics.figures.style import styled
from metrics.grid.collect import collect_grids
from metrics.output.directory import Input, write_metrics
from metrics.report.picture import picture
from metrics.report.words import passages
from metrics.short_names import short_names
from metrics.tables.html import table
from metrics.tables.table import Head
from tests.chromium import installed, launched, url
from tests.synthetic_scores import synthetic_grid

CONFIG = Metrics(resamples=20, beyond=False)
SVG = '<svg width="10pt" height="10pt" viewBox="0 0 10 10"></svg>'
LONG = ("Meta-Llama-with-a-long-name-8B-Instruct-v1.0", "Meta-Llama-with-a-long-name-70B-Instruct-v1.0")
FIGURES = (
    uncertainty.second_likeliest,
    uncertainty.outcomes,
    uncertainty.percentiles,
    deferral.mean_curves,
    deferral.all_curves,
    deferral.humps,
)


def analysis_of(small, large, dataset, **options):
    sizes = {small: (10, 1.2), large: (100, 2.4)}
    [grid] = collect_grids(synthetic_grid(sizes, seeds=2, examples=200, dataset=dataset, **options))
    return analyse(grid, CONFIG)


@pytest.fixture(scope="module")
def long_names():
    return [analysis_of(*LONG, f"amazon_reviews_of_video_games_and_more_{k}") for k in range(2)]


def boxes(figure):
    """The place of each title, label and legend entry of a figure, in pixels from the left and the bottom."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = {}
    for k, axes in enumerate(figure.axes):
        legend = axes.get_legend()
        texts = {"title": axes._left_title, "x": axes.xaxis.label, "y": axes.yaxis.label}
        texts |= {f"legend {i}": text for i, text in enumerate(legend.get_texts())} if legend else {}
        texts |= {f"right {i}": one.yaxis.label for i, one in enumerate(axes.child_axes)}
        texts |= {f"note {i}": text for i, text in enumerate(axes.texts)}
        found |= {
            (k, name): text.get_window_extent(renderer) for name, text in texts.items() if text.get_text().strip()
        }
    return found


@pytest.mark.parametrize("draw", FIGURES, ids=[draw.__name__ for draw in FIGURES])
def test_texts_of_a_figure_stay_inside_it_and_off_each_other(long_names, draw):
    with styled():
        figure, _, rows = draw(long_names, 0.95)
        fit_texts(figure)
        found = boxes(figure)
    width, height = figure.canvas.get_width_height()
    for box in found.values():  # a label beside wide ticks may reach half a pixel too far, which nobody sees
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    across = [box for (_, name), box in found.items() if name in ("title", "x")]
    for k, one in enumerate(across):
        assert not any(one.overlaps(other) for other in across[k + 1 :])
    assert rows[0]["small"] == LONG[0] if "small" in rows[0] else rows[0]["ranked_by"] == LONG[0]


def test_short_names_are_as_long_as_given_and_differ():
    assert short_names(["small", "large", "small"], 5) == {"small": "small", "large": "large"}
    assert short_names(["a-long-name"], 7) == {"a-long-name": "a-l…ame"}
    alike = [f"{'x' * 20}{k}{'y' * 20}" for k in range(3)]
    assert len(set(short_names(alike, 9).values())) == 3


def test_short_names_leave_out_what_all_begin_with():
    assert list(short_names(LONG, 22).values()) == ["…ame-8B-Instruct-v1.0", "…ame-70B-Instruct-v1.0"]
    family = [f"a-family-of-models.{size}-with-a-long-end" for size in ("small", "large")]
    assert list(short_names(family, 16).values()) == ["…small-w…ong-end", "…large-w…ong-end"]


def test_short_names_leave_figures_as_they_were():
    analysis = analysis_of("small", "large", "reviews")
    with styled():
        for draw in FIGURES:
            figure, _, _ = draw([analysis], 0.95)
            before = [axes._left_title.get_fontsize() for axes in figure.axes]
            fit_texts(figure)
            assert [axes._left_title.get_fontsize() for axes in figure.axes] == before


def test_figures_without_intervals_name_none():
    [grid] = collect_grids(synthetic_grid(seeds=2, examples=60))
    analysis = analyse(grid, Metrics(resamples=0, beyond=False))
    with styled():
        drawn = [draw([analysis], 0.95)[0] for draw in (deferral.mean_curves, deferral.all_curves)]
    titles = [figure.axes[0].get_legend().get_title().get_text() for figure in drawn]
    entries = [text.get_text() for figure in drawn for text in figure.axes[0].get_legend().get_texts()]
    assert titles == ["", ""] and entries == ["most uncertain first", "at random", "mean"]


def test_figure_3_of_sizes_that_are_always_right_has_plain_ticks():
    [grid] = collect_grids(synthetic_grid(seeds=2, examples=1))
    with styled():
        figure, _, _ = uncertainty.percentiles([analyse(grid, CONFIG)], 0.95)
        figure.draw(FigureCanvasAgg(figure).get_renderer())
    assert figure.axes[0].yaxis.get_major_formatter().get_offset() == ""


def lines_of(drawing):
    """Each text of names and advice in an SVG: its first and last pixel across, its baseline, and what it says."""
    found = []
    for x, y, anchor, text in re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)" class="(?:name|advice)">(.*?)</text>', drawing
    ):
        width = 7 * len(unescape(text))
        left = float(x) - (width if anchor == "end" else 0)
        found.append((left, left + width, float(y), text))
    return found


@pytest.mark.parametrize("names", [("small", "large"), LONG])
def test_picture_writes_nothing_over_the_share_to_defer(names):
    drawn = picture(analysis_of(*names, "reviews"), 0.95)
    drawings = re.findall(r"<svg.*?</svg>", drawn, re.DOTALL)
    assert len(drawings) == 2 and "defer" in drawings[1]
    for drawing in drawings:
        width = float(re.search(r'viewBox="0 0 (\d+)', drawing)[1])
        lines = lines_of(drawing)
        assert all(left >= 0 and right <= width for left, right, _, _ in lines)
        for k, (left, right, y, _) in enumerate(lines):
            for other_left, other_right, other_y, _ in lines[k + 1 :]:
                assert right <= other_left or other_right <= left or abs(y - other_y) >= 14


def test_many_slice_columns_do_not_fill_the_overview():
    scores = synthetic_grid(seeds=2, examples=120)
    for one in scores:
        one.slices = {f"slice_{k:02d}": np.array(["a", "b", "v" * 90] * 40, dtype=object) for k in range(12)}
    [grid] = collect_grids(scores)
    said = " ".join(dict(passages(analyse(grid, Metrics(resamples=20)), 0.95))["Where does the larger model help?"])
    assert said.count("By ") == 6 and said.endswith("6 more columns of subgroups: see Slices.")
    assert "v" * 50 not in said


def test_a_long_name_at_the_head_of_a_row_may_take_several_lines():
    html = table("t", "A table", "", [Head("Name", text=True), Head("n")], [["x" * 25, "1"], ["x" * 24, "2"]])
    assert f'<span class="row-name">{"x" * 25}</span>' in html and f'row">{"x" * 24}</th>' in html


@pytest.mark.skipif(installed() is None, reason="needs Chromium")
def test_a_phone_shows_numbers_and_examples_beside_long_names(tmp_path):
    pytest.importorskip("playwright.sync_api")
    scores = synthetic_grid({LONG[0] * 2: (10, 1.2), LONG[1] * 2: (100, 2.4)}, seeds=2, examples=120, classes=9)
    for one in scores:
        one.metadata.classes = [f"{name} {'and more ' * 9}" for name in one.metadata.classes]
        one.target, one.prediction = (
            np.array([f"{name} {'and more ' * 9}" for name in names], dtype=object)
            for names in (one.target, one.prediction)
        )
        one.slices = {f"slice_column_{k:02d}": np.array(["a", "b", "c"] * 40, dtype=object) for k in range(40)}
        one.slices["slice_" + "of a name that goes on and on " * 3] = one.slices["slice_column_00"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.output.directory.write_figures", lambda analyses, *_: dict.fromkeys(TITLES, SVG))
        write_metrics(scores, [Input(str(k), "d") for k in range(len(scores))], CONFIG, tmp_path / "out")
    with launched() as browser:
        for width in (400, 1280):
            tab = browser.new_context(viewport={"width": width, "height": 900}, offline=True).new_page()
            tab.goto(url(tmp_path / "out" / "report" / "index.html"))
            row = tab.locator("#sizes-0 tbody tr").first
            assert row.locator("th").bounding_box()["width"] < width / 2
            tab.locator("#curves").scroll_into_view_if_needed()
            tab.wait_for_selector("#curve-chart svg", timeout=15_000)
            chart = tab.locator("#curve-chart svg").bounding_box()
            for by in ("fraction", "cost"):
                tab.locator("#curve-controls [name=x]").select_option(by)
                for text in tab.locator("#curve-chart text.label, #curve-chart text.note").all():
                    box = text.bounding_box()
                    assert box["x"] >= chart["x"] - 1 and box["x"] + box["width"] <= chart["x"] + chart["width"] + 1
            tab.locator("#examples").scroll_into_view_if_needed()
            tab.wait_for_selector("#example-list tbody tr[data-place]", timeout=15_000)
            assert tab.locator("#example-list thead").bounding_box()["height"] < 150
            tab.locator("#example-list tbody tr[data-place]").first.click()
            first, second = (tab.locator(f"#example-detail {tag}").last.bounding_box() for tag in ("dt", "dd"))
            assert (second["x"] > first["x"]) == (width > 640)  # on a phone one below the other
            assert tab.locator("#example-detail dt").nth(42).bounding_box()["width"] < max(width / 3, 400)
        table_box = tab.locator("#example-detail .wide").first
        assert table_box.evaluate("box => box.scrollWidth <= box.clientWidth")  # the thresholds can be read beside it
