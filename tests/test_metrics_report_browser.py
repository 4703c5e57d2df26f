"""The report in a real headless Chromium: nothing fails to load, and every control does what it says."""

import csv
import json
import re

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.figures import TITLES
from metrics.grid.collect import collect_grids
from metrics.output.directory import Input, write_metrics
from metrics.report import examples
from metrics.statistics.text import sentence_bleu
from metrics.tables.escape import spreadsheet_text
from tests.chromium import installed, launched, url
from tests.synthetic_scores import synthetic_grid

expect = pytest.importorskip("playwright.sync_api").expect
if installed() is None:
    pytest.skip("needs Chromium: none is installed, or none starts", allow_module_level=True)

CONFIG = Metrics(resamples=20)
SIZES = {"small": (10, 1.5), "base": (20, 1.6), "large": (30, 2.0)}
NASTY = "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">\"'&"
EXAMPLES = 400
QUICK = Metrics(resamples=0, beyond=False)


def no_figures(analyses, confidence, directory):
    """In place of `write_figures`, where a page is about something else: drawing takes seconds."""
    return dict.fromkeys(TITLES, '<svg width="10pt" height="10pt" viewBox="0 0 10 10"></svg>')


HOSTILE = NASTY + " \u202ereversed\u2066 \0 <svg/onload=document.title='run'> " + "long text " * 200 + "its end"


def nasty_grid():
    scores = synthetic_grid(seeds=2, examples=30, dataset=NASTY)
    texts = {"class 0": NASTY, "class 1": "<b>other</b>"}
    for one in scores:
        one.metadata.classes = list(texts.values())
        one.target = np.array([texts[t] for t in one.target], dtype=object)
        one.prediction = np.array([texts[p] for p in one.prediction], dtype=object)
        one.example_id = np.array([f"{NASTY} {k}" for k in range(30)], dtype=object)
        one.slices = {"slice_<i>": np.array([NASTY, None, "<u>"] * 10, dtype=object)}
        one.text = np.array([f"{k} {HOSTILE}" if k else None for k in range(30)], dtype=object)
    return scores


@pytest.fixture(scope="module")
def synthetic():
    return synthetic_grid(SIZES, seeds={"small": [0, 1, 4], "base": [0, 1], "large": [2, 3, 5]}, examples=EXAMPLES)


@pytest.fixture(scope="module")
def scores(synthetic):
    return [
        *synthetic,
        *synthetic_grid(seeds=2, examples=90, classes=4, dataset="topics", seed=1),
        *nasty_grid(),
    ]


@pytest.fixture(scope="module")
def analysis(synthetic):
    [grid] = collect_grids(synthetic)
    return analyse(grid, CONFIG)


def written(scores, config, out):
    """The page of scores, which is written with everything beside it."""
    write_metrics(scores, [Input(f"scores-{k}", f"digest-{k}") for k in range(len(scores))], config, out)
    return out / "report" / "index.html"


@pytest.fixture(scope="module")
def page_file(scores, tmp_path_factory):
    """A page of three datasets, with all that there is."""
    return written(scores, CONFIG, tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def plain_page(synthetic, tmp_path_factory):
    """A page of `synthetic` with the paper's tables alone and no figures: a browser opens it in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.output.directory.write_figures", no_figures)
        config = Metrics(resamples=CONFIG.resamples, beyond=False)
        return written(synthetic, config, tmp_path_factory.mktemp("plain") / "out")


@pytest.fixture(scope="module")
def browser():
    with launched() as one:
        yield one


def opened(browser, page_file, width=1280, height=900, **options):
    """A tab with the page in it; what the console and the network complain of is in `tab.complaints`."""
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    tab = context.new_page()
    tab.set_default_timeout(15_000)
    tab.complaints = []
    tab.on(
        "console", lambda message: tab.complaints.append(message.text) if message.type in ("error", "warning") else 0
    )
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("requestfailed", lambda request: tab.complaints.append(f"failed: {request.url}"))
    tab.on(
        "request",
        lambda request: request.url.startswith(("file:", "blob:", "data:")) or tab.complaints.append(request.url),
    )
    tab.goto(url(page_file))
    return tab


def opened_without_complaints(browser, page_file):
    """Yields a tab, and checks at its end that nothing was complained of."""
    one = opened(browser, page_file)
    yield one
    assert one.complaints == []
    one.context.close()


@pytest.fixture
def tab(browser, page_file):
    yield from opened_without_complaints(browser, page_file)


@pytest.fixture
def plain_tab(browser, plain_page):
    yield from opened_without_complaints(browser, plain_page)


@pytest.fixture
def curves(plain_tab):
    """The tab, at the curves of `synthetic`."""
    plain_tab.locator("#curves").scroll_into_view_if_needed()
    plain_tab.locator("#curve-view").wait_for()
    expect(plain_tab.locator("#curve-title")).to_contain_text("small → ")
    return plain_tab


@pytest.fixture
def listed(plain_tab):
    """The tab, at the examples of `synthetic`."""
    plain_tab.locator("#examples").scroll_into_view_if_needed()
    plain_tab.locator("#example-view").wait_for()
    expect(plain_tab.locator("#example-scope")).to_contain_text("examples")
    return plain_tab


def choose(tab, form, name, label):
    tab.locator(f"{form} [name='{name}']").select_option(label=label)


def give(tab, name, value):
    box = tab.locator(f"#example-controls [name='{name}']")
    box.fill(str(value))
    box.dispatch_event("change")


def readout(tab):
    """The table at the cursor: one dict a curve."""
    heads = tab.locator("#curve-readout thead th").all_inner_texts()
    return [
        dict(zip(heads, row.locator("th, td").all_inner_texts(), strict=True))
        for row in tab.locator("#curve-readout tbody tr").all()
    ]


def at(tab, value):
    cursor = tab.locator("#curve-cursor")
    cursor.fill(str(value))
    cursor.dispatch_event("input")


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


def ids(tab):
    return tab.locator("#example-list tbody tr[data-place] th span").all_inner_texts()


def ids_of(analysis):
    return np.array(analysis.grid.example_id.to_pylist())


def fits(tab, many):
    """Waits until that many examples fit: a search begins a moment after the last key."""
    expect(tab.locator("#example-count")).to_have_text(re.compile(f"^{many} of "))


def count(tab):
    return int(tab.locator("#example-count").inner_text().split(" of ")[0].replace(",", ""))


# ---- the page as a whole


# each width and each scheme once
CROSSED = [pytest.param(1280, "dark", marks=pytest.mark.slow), pytest.param(375, "light", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark"), *CROSSED])
def test_nothing_fails_and_nothing_overflows(browser, page_file, tmp_path, width, scheme):
    tab = opened(browser, page_file, width=width, color_scheme=scheme)
    for section in ("curves", "examples", "figures", "tables", "provenance"):
        tab.locator(f"#{section}").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.click()
    tab.locator("#example-detail h3").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert tab.complaints == []
    tab.context.close()


def test_theme_follows_the_system_and_then_the_toggle(browser, plain_page):
    tab = opened(browser, plain_page, color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, button = tab.evaluate(paper), tab.locator("#theme")
    assert button.inner_text() == "Light colours"
    button.click()
    light = tab.evaluate(paper)
    assert light == "rgb(255, 255, 255)" != dark and button.inner_text() == "Dark colours"
    tab.reload()
    assert tab.evaluate(paper) == light  # it is kept
    button.click()
    assert tab.evaluate(paper) == dark
    tab.context.close()


def test_readable_without_scripts(browser, page_file):
    tab = opened(browser, page_file, java_script_enabled=False)
    assert tab.locator("#overview .tile").count() == 3 * 4 and tab.locator(".answer").first.is_visible()
    assert tab.locator("#table1 tbody tr").count() == 3 + 1 + 1 and tab.locator("#table3").is_visible()
    assert tab.locator(".figures figure svg[role=img]").count() == 6 and tab.locator("#fig4 svg").is_visible()
    assert tab.get_by_text("The interactive curves need JavaScript").is_visible()
    assert not tab.locator("#curve-view").is_visible() and not tab.locator("#theme").is_visible()
    tab.context.close()


def test_every_dataset_can_be_chosen_and_a_reset_shows_the_first(tab):
    tab.locator("#curves").scroll_into_view_if_needed()
    tab.locator("#curve-view").wait_for()
    choose(tab, "#curve-controls", "dataset", "synthetic")
    expect(tab.locator("#curve-title")).to_contain_text("synthetic: ")
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-view").wait_for()
    choose(tab, "#example-controls", "dataset", "synthetic")
    expect(tab.locator("#example-scope")).to_contain_text(f"All {EXAMPLES} examples of synthetic,")
    tab.locator("#example-controls button[type=reset]").click()
    expect(tab.locator("#example-scope")).to_contain_text("All 30 examples")


def test_every_name_is_text_and_never_markup(tab):
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.click()
    assert NASTY in tab.locator("#example-detail h3").inner_text()
    assert NASTY in tab.locator("#example-detail .facts").inner_text()
    assert NASTY in tab.locator("#example-scope").inner_text()
    give(tab, "search", "<b>other</b>")
    tab.locator("#curves").scroll_into_view_if_needed()
    expect(tab.locator("#curve-title")).to_contain_text(NASTY)
    assert NASTY in tab.locator("#overview").inner_text()
    assert tab.title().startswith("Edgewise: ") and tab.locator("main img, main b b, u").count() == 0
    assert tab.locator("script").count() == 2 + 3 + 2 * 3


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """A page of one dataset, without its figures."""
    out = tmp_path_factory.mktemp("small") / "out"
    scores = synthetic_grid({"small": (1, 1.0), "large": (100, 2.2)}, seeds=3, examples=600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.output.directory.write_figures", no_figures)
        priced = Metrics(resamples=40, price={"small": 0.25, "large": 4.0}, price_unit="ms")
        write_metrics(scores, [Input(f"scores-{k}", "d") for k in range(6)], priced, out)
    return out / "report" / "index.html"


@pytest.mark.parametrize(("width", "height", "drawing"), [(1280, 800, "wide-screen"), (390, 844, "phone")])
def test_the_first_screen_has_the_picture_and_the_answer(browser, small_page, width, height, drawing):
    tab = opened(browser, small_page, width=width, height=height)
    shown = tab.locator(f".picture svg.{drawing}")
    other = tab.locator(".picture svg").evaluate_all("all => all.filter(e => e.getBoundingClientRect().width).length")
    assert shown.is_visible() and other == 1
    for part in (shown, tab.locator(".picture figcaption"), tab.locator(".answer")):
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height
    said = shown.text_content()
    assert "defer " in said and "cheaper" in said and "95\xa0% confidence" in said and "points lost" in said
    right = "e => e.getBoundingClientRect().right"
    texts = shown.locator("text").evaluate_all(f"all => Math.max(...all.map({right}))")
    assert texts <= shown.evaluate(right) + 8  # nothing is cut off at the edge
    tab.context.close()


def test_curves_can_be_drawn_over_prices(browser, small_page):
    tab = opened(browser, small_page)
    tab.locator("#curves").scroll_into_view_if_needed()
    tab.locator("#curve-view").wait_for()
    choose(tab, "#curve-controls", "x", "price, ms per example")
    at(tab, 50)
    [row] = readout(tab)
    price = number(row["ms per example"])
    assert price == pytest.approx(0.25 + number(row["deferred"].split(" ")[0]) / 100 * 4.0, abs=0.01)
    assert "price, ms per example" in tab.locator("#curve-chart svg").text_content()
    tab.locator("#curves summary").click()
    with tab.expect_download() as download:
        tab.locator("#curve-csv").click()
    rows = rows_of(download)
    assert float(rows[50]["price_per_example"]) == 0.25 + 0.5 * 4.0
    assert float(rows[50]["flops_per_example"]) == 256 + 0.5 * 100 * 256
    tab.context.close()


def test_an_address_opens_the_table_that_it_names(browser, small_page):
    tab = opened(browser, small_page)
    tab.goto(f"{url(small_page)}#certified")
    tab.locator("#certified table").wait_for()
    assert not tab.locator("#selective table").is_visible()
    said = tab.locator("#empty-tables").inner_text()
    assert "Token quantiles" in said and tab.locator("#token_quantiles").count() == 0
    tab.context.close()


def test_wide_tables_say_that_they_scroll_on_a_phone(browser, small_page):
    for width, wide in ((390, True), (1280, False)):
        tab = opened(browser, small_page, width=width, height=844)
        tab.locator("#table3").scroll_into_view_if_needed()
        hint = tab.locator("#table3 .hint")
        assert hint.is_visible() is wide
        box = tab.locator("#table3 .wide")
        assert (box.evaluate("e => e.scrollWidth > e.clientWidth + 1")) is wide
        if wide:
            box.evaluate("e => { e.scrollLeft = 40 }")
            expect(hint).to_have_text("← scroll sideways →")
        tab.context.close()


def test_the_theme_button_covers_nothing(browser, small_page):
    tab = opened(browser, small_page, width=390, height=844)
    button, links = tab.locator("#theme").bounding_box(), tab.locator("nav .links").bounding_box()
    assert links["x"] + links["width"] <= button["x"] and button["x"] + button["width"] <= 390
    tab.locator("nav .links").evaluate("e => { e.scrollLeft = e.scrollWidth }")
    last = tab.locator("nav .links a").last.bounding_box()
    assert last["x"] + last["width"] <= button["x"]
    tab.context.close()


def test_landmarks_names_and_heads(tab):
    assert tab.locator("nav[aria-label]").count() == 1 and tab.locator("main").count() == 1
    assert tab.locator("h1").count() == 1
    for link in tab.locator("nav a").all():
        assert tab.locator(link.get_attribute("href")).count() == 1
    for section in tab.locator("main > section").all():
        assert tab.locator(f"#{section.get_attribute('aria-labelledby')}").count() == 1
    tab.locator("#curves").scroll_into_view_if_needed()
    tab.locator("#curve-readout tbody tr").first.wait_for(state="attached")
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.wait_for()
    unnamed = """() => [...document.querySelectorAll('select, input, button, [role=region], svg[role=img]')]
        .filter(e => !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent.trim())
        .map(e => e.outerHTML.slice(0, 120))"""
    assert tab.evaluate(unnamed) == []
    assert tab.evaluate("[...document.querySelectorAll('th')].filter(e => !e.scope).length") == 0
    ids_ = tab.evaluate("[...document.querySelectorAll('section, section [id]')].map(e => e.id)")
    own = [one for one in ids_ if not re.fullmatch(r"[mp][0-9a-f]{9,}|DejaVu.*|.*-[0-9a-f]{2,}|image[0-9a-f]+", one)]
    assert len(set(own)) == len(own)


CONTRAST = """() => {
  const lightness = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b }
  const paper = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor
      if (!/, 0\\)$|transparent/.test(c)) return c } return 'rgb(255, 255, 255)' }
  const low = []
  for (const e of document.querySelectorAll('main *, nav *')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue
    const [a, b] = [getComputedStyle(e).color, paper(e)].map(lightness).sort((p, q) => q - p)
    if ((a + .05) / (b + .05) < 4.5) low.push(e.outerHTML.slice(0, 120))
  }
  return low }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(browser, page_file, scheme):
    tab = opened(browser, page_file, color_scheme=scheme)
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.click()
    assert tab.evaluate(CONTRAST) == []  # WCAG AA: 4.5 to 1
    tab.context.close()


def test_keyboard_reaches_everything_in_order(tab):
    tab.locator("#curves").scroll_into_view_if_needed()
    tab.locator("#curve-readout tbody tr").first.wait_for(state="attached")
    tab.evaluate("scrollTo(0, 0)")
    seen = []
    for _ in range(150):
        tab.keyboard.press("Tab")
        seen.append(
            tab.evaluate("(e => e.name || e.id || e.className || e.getAttribute('href'))(document.activeElement)")
        )
        if seen[-1] == "curve-cursor":
            break
    assert seen[:3] == ["skip", "#overview", "#curves"] and "theme" in seen
    order = [*("dataset", "pair", "x", "y", "runs", "from", "to", "score", "random", "perfect"), "curve-cursor"]
    places = [seen.index(one) for one in order]
    assert places == sorted(places)
    before = tab.locator("#curve-at").inner_text()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#curve-at").inner_text() != before


# ---- tables


def test_tables_sort_by_a_column_and_back(tab):
    rows = tab.locator("#table3 tbody tr")
    column = tab.locator("#table3 thead th").nth(3)
    original = rows.all_inner_texts()

    def values():
        return [number(row.locator("td").nth(2).inner_text().split()[0]) for row in rows.all()]

    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending" and values() == sorted(values(), reverse=True)
    column.get_by_role("button").press("Enter")
    assert column.get_attribute("aria-sort") == "ascending" and values() == sorted(values())
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") is None and rows.all_inner_texts() == original
    tab.locator("#table3 thead th").first.get_by_role("button").click()
    assert tab.locator("#table3 thead th").first.get_attribute("aria-sort") == "ascending"


def test_tables_past_the_paper_are_listed_and_there(tab):
    links = tab.locator("#tables .contents a")
    assert links.count() > 8
    for link in links.all():
        assert tab.locator(f"{link.get_attribute('href')} table caption").count() == 1
    assert all(tab.locator(f"#table{k} table").is_visible() for k in (1, 2, 3))
    assert not tab.locator("#cost table").is_visible()
    for _ in range(2):  # the second time from the same address
        tab.locator("#tables .contents a[href='#cost']").click()
        tab.locator("#cost table").wait_for()
        tab.locator("details:has(#cost) > summary").first.click()
        assert not tab.locator("#cost table").is_visible()
    tab.locator("#tables .contents a[href='#cost']").click()
    column = tab.locator("#cost thead th").nth(4)
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") is not None


# ---- curves


def test_curves_say_the_numbers_of_the_analysis(curves, analysis):
    pair = analysis.widest
    at(curves, 30)
    (row,) = readout(curves)
    assert row["Deferred by"] == "margin" and row["deferred"] == "30 % (120)"
    assert number(row["accuracy, %"]) == pytest.approx(100 * pair.curve["margin"][30], abs=0.0051)
    low, high = (number(text) for text in row["interval"].split(" to "))
    assert (low, high) == pytest.approx([100 * band[30] for band in pair.band["margin"]], abs=0.0051)
    chord = pair.curve["margin"][0] + 0.3 * (pair.curve["margin"][100] - pair.curve["margin"][0])
    assert number(row["over random, points"]) == pytest.approx(100 * (pair.curve["margin"][30] - chord), abs=0.0051)
    table = curves.locator("#curve-table tbody tr")
    assert table.count() == 21 and table.nth(6).locator("th").text_content() == "30"


def test_every_pair_and_score_can_be_chosen(curves, analysis):
    for pair in analysis.pairs:
        choose(curves, "#curve-controls", "pair", f"{pair.small} → {pair.large}")
        for box in curves.locator("#curve-scores input").all():
            box.check()
        at(curves, 50)
        shown = {row["Deferred by"].replace(" ", "_"): number(row["accuracy, %"]) for row in readout(curves)}
        assert shown == pytest.approx({s: 100 * c[50] for s, c in pair.curve.items()}, abs=0.0051)
    assert curves.locator("#curve-chart path.line").count() == len(analysis.pairs[-1].curve) + 1


def test_vertical_axis_is_scaled_by_the_larger_model(curves, analysis):
    choose(curves, "#curve-controls", "y", "scaled: larger model = 1")
    at(curves, 100)
    (row,) = readout(curves)
    assert row["accuracy, scaled"] == "1.0000"
    at(curves, 40)
    curve = analysis.widest.curve["margin"]
    assert number(readout(curves)[0]["accuracy, scaled"]) == pytest.approx(curve[40] / curve[100], abs=5.1e-5)
    assert "large = 1" in curves.locator("#curve-chart svg").text_content()


def test_cost_charges_the_committee(curves, analysis):
    choose(curves, "#curve-controls", "x", "cost, FLOPs per example")
    curves.locator("#curve-scores input[value=committee_margin]").check()
    small, _, large = analysis.grid.sizes
    costs = {"margin": small.flops_per_example, "committee margin": 3 * small.flops_per_example}
    at(curves, 50)  # between 3 × small and small + large, where both curves are
    for row in readout(curves):
        cost = number(row["kFLOPs per example"]) * 1000
        deferred = number(row["deferred"].split(" %")[0]) / 100
        assert cost == pytest.approx(costs[row["Deferred by"]] + deferred * large.flops_per_example, rel=2e-3)
        curve = analysis.widest.curve[row["Deferred by"].replace(" ", "_")]
        value = np.interp(100 * deferred, np.arange(101), curve)
        assert number(row["accuracy, %"]) == pytest.approx(100 * value, abs=0.03)
        mixed = min(1.0, (cost - small.flops_per_example) / (large.flops_per_example - small.flops_per_example))
        against = curve[0] + mixed * (curve[100] - curve[0])
        assert number(row["over random, points"]) == pytest.approx(100 * (value - against), abs=0.05)
    assert "3 runs of small on every example" in curves.locator("#curve-reading").inner_text()
    assert curves.locator("#curve-controls [name=x] option[value=price]").is_disabled()
    assert {"small alone", "large alone"} <= set(curves.locator("#curve-chart text.note").all_text_contents())
    assert "cost, kFLOPs per example" in curves.locator("#curve-chart svg").text_content()


def test_runs_can_be_averaged_ranged_and_picked(curves, analysis):
    statistics, (small, _, large) = analysis.widest.scores["margin"], analysis.grid.sizes
    choose(curves, "#curve-controls", "runs", "one pair of runs")
    choose(curves, "#curve-controls", "small_seed", "4")
    choose(curves, "#curve-controls", "large_seed", "3")
    at(curves, 35)
    expected = 100 * statistics.curve[small.seeds.index(4), large.seeds.index(3), 35]
    assert number(readout(curves)[0]["accuracy, %"]) == pytest.approx(expected, abs=0.0051)
    assert "small seed 4 with large seed 3" in curves.locator("#curve-reading").inner_text()
    choose(curves, "#curve-controls", "runs", "mean, with range of all pairs of runs")
    assert not curves.locator("[name=small_seed]").is_visible()
    (row,) = readout(curves)
    low, high = (number(text) for text in row["range"].split(" to "))
    every = 100 * statistics.curve[:, :, 35]
    assert (low, high) == pytest.approx((every.min(), every.max()), abs=0.0051)
    choose(curves, "#curve-controls", "runs", "every pair of runs")
    assert curves.locator("#curve-chart path.faint").count() == 9
    choose(curves, "#curve-controls", "runs", "mean, with interval")
    assert curves.locator("#curve-chart path.band").count() == 1


def test_references_come_and_go(curves):
    lines = curves.locator("#curve-chart path.thin")
    assert lines.count() == 1
    curves.get_by_label("a perfect router").check()
    assert lines.count() == 2
    curves.get_by_label("deferral at random").uncheck()
    curves.get_by_label("a perfect router").uncheck()
    assert lines.count() == 0


def test_hover_reads_off_and_a_drag_zooms(curves, analysis):
    chart = curves.locator("#curve-chart svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    x = {share: box["x"] + 54 + share * (box["width"] - 70) for share in (0.2, 0.4, 0.6)}
    y = box["y"] + box["height"] / 2
    curves.mouse.move(x[0.6], y)
    assert curves.locator("#curve-at").inner_text().startswith("60 % deferred, 240 of 400")
    value = curves.locator("#curve-chart text.value").text_content()
    assert number(value) == pytest.approx(100 * analysis.widest.curve["margin"][60], abs=0.0051)
    curves.mouse.move(x[0.2], y)
    curves.mouse.down()
    curves.mouse.move(x[0.4], y, steps=4)
    curves.mouse.up()
    assert [curves.locator(f"#curve-controls [name={n}]").input_value() for n in ("from", "to")] == ["20", "40"]
    assert curves.locator("#curve-table tbody tr").count() == 21
    curves.locator("#curve-chart svg").dblclick()
    assert [curves.locator(f"#curve-controls [name={n}]").input_value() for n in ("from", "to")] == ["0", "100"]


def rows_of(download):
    """The rows of a CSV file that the page has saved."""
    with download.value.path().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_shown_curves_are_saved_as_csv(curves, analysis):
    curves.locator("#curves summary").click()
    with curves.expect_download() as download:
        curves.locator("#curve-csv").click()
    rows = rows_of(download)
    assert download.value.suggested_filename == "switcher.csv" and len(rows) == 101
    assert float(rows[50]["value"]) == pytest.approx(analysis.widest.curve["margin"][50], abs=1e-7)
    assert rows[50]["flops_per_example"] == str(10 * 256 + 0.5 * 30 * 256).removesuffix(".0")


def test_names_that_a_spreadsheet_would_run_are_text(browser, tmp_path, monkeypatch):
    """As the tables' CSV files have them; numbers stay numbers."""
    name = '=HYPERLINK("http://evil")'
    scores = synthetic_grid({"@small": (10, 1.5), "-2": (20, 2.0)}, seeds=2, examples=40, dataset=name)
    monkeypatch.setattr("metrics.output.directory.write_figures", no_figures)
    write_metrics(scores, [Input(str(k), "d") for k in range(4)], QUICK, tmp_path / "out")
    tab = opened(browser, tmp_path / "out" / "report" / "index.html")
    tab.locator("#curves").scroll_into_view_if_needed()
    tab.locator("#curves summary").click()
    with tab.expect_download() as download:
        tab.locator("#curve-csv").click()
    rows = rows_of(download)
    assert {(row["dataset"], row["small"], row["large"]) for row in rows} == {(spreadsheet_text(name), "'@small", "-2")}
    assert [row["percent_deferred"] for row in rows[:3]] == ["0", "1", "2"] and float(rows[0]["value"]) > 0
    assert tab.complaints == []
    tab.context.close()


# ---- examples


def share_right(size):
    return size.correct.mean(axis=0)


def test_the_list_is_by_uncertainty_and_scrolls_to_its_end(listed, analysis):
    order = np.argsort(-analysis.percentiles["small"]["margin"].astype(int), kind="stable")
    expected = [ids_of(analysis)[k] for k in order]
    assert count(listed) == EXAMPLES and ids(listed)[:10] == expected[:10]
    assert len(ids(listed)) < 40  # rows out of view aren't there
    listed.locator("#example-list").evaluate("e => { e.scrollTop = e.scrollHeight }")
    expect(listed.locator("#example-list tbody tr[data-place] th span").last).to_have_text(expected[-1])
    assert listed.locator("#example-list table").get_attribute("aria-rowcount") == str(EXAMPLES + 1)
    assert listed.locator("#example-list tbody tr[data-place]").last.get_attribute("aria-rowindex") == str(EXAMPLES + 1)


def test_who_is_right(listed, analysis):
    small, _, large = (share_right(size) > 0.5 for size in analysis.grid.sizes)
    for who, of in {
        "both": small & large,
        "only the larger": ~small & large,
        "only the smaller": small & ~large,
        "none": ~small & ~large,
    }.items():
        choose(listed, "#example-controls", "who", who)
        assert count(listed) == of.sum() > 0
        assert set(ids(listed)) <= set(ids_of(analysis)[of])


def test_other_sizes_and_scores(listed, analysis):
    choose(listed, "#example-controls", "small", "base")
    choose(listed, "#example-controls", "score", "churn")
    give(listed, "from", 60)
    kept = analysis.percentiles["base"]["churn"] >= 6000
    assert count(listed) == kept.sum() > 0
    give(listed, "to", 60)
    assert count(listed) == (analysis.percentiles["base"]["churn"] == 6000).sum()


def test_churn_slice_and_search_narrow_the_list(listed, analysis):
    grid = analysis.grid
    small = grid.sizes[0].prediction
    differing = sum((small[i] != small[j]).astype(int) for i in range(3) for j in range(i))
    give(listed, "churn", 60)
    assert count(listed) == (differing >= 2).sum()
    give(listed, "churn", 0)
    choose(listed, "#example-controls", "slice.0", "noise")
    kind = grid.slices["slice_kind"].decoded() == "noise"
    assert count(listed) == kind.sum()
    give(listed, "search", "TEST-1")
    hits = np.array(["test-1" in one for one in ids_of(analysis)])
    fits(listed, (kind & hits).sum())
    give(listed, "search", "no such text")
    fits(listed, 0)
    assert listed.get_by_text("No example fits all of that.").is_visible()
    listed.locator("#example-controls button[type=reset]").click()
    fits(listed, EXAMPLES)


def test_search_looks_into_predictions_and_slices(listed, analysis):
    grid = analysis.grid
    give(listed, "search", "compos")
    fits(listed, (grid.slices["slice_kind"].decoded() == "composition").sum())
    code = grid.classes.index("class 1")
    said = np.any([(size.prediction == code).any(axis=0) for size in grid.sizes], axis=0)
    give(listed, "search", "Class 1")
    fits(listed, (said | (grid.target.decoded() == "class 1")).sum())


SORTS = {
    "large gains most first": lambda g: share_right(g.sizes[2]) - share_right(g.sizes[0]),
    "large loses most first": lambda g: share_right(g.sizes[0]) - share_right(g.sizes[2]),
    "small worst first": lambda g: -share_right(g.sizes[0]),
    "large best first": lambda g: share_right(g.sizes[2]),
    "order of the split": lambda g: -np.arange(EXAMPLES),
    "order of the split, reversed": lambda g: np.arange(EXAMPLES),
}


def test_sorting(listed, analysis):
    for sort, key in SORTS.items():
        choose(listed, "#example-controls", "sort", sort)
        order = np.argsort(-np.round(key(analysis.grid), 9), kind="stable")
        assert ids(listed)[:12] == list(ids_of(analysis)[order][:12])


def test_heads_sort_and_say_so(listed, analysis):
    head = listed.locator("#example-list th.churn")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert listed.locator("#example-controls [name=sort]").input_value() == "churn:down"
    first = [
        number(row.locator("td.churn").inner_text()) for row in listed.locator("#example-list tr[data-place]").all()[:9]
    ]
    assert first == sorted(first, reverse=True) and first[0] > 0
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"


def test_an_example_in_full_by_keyboard(listed, analysis):
    listed.locator("#example-list").focus()
    for key, place in (
        ("ArrowDown", 0),
        ("ArrowDown", 1),
        ("End", EXAMPLES - 1),
        ("ArrowUp", EXAMPLES - 2),
        ("Home", 0),
    ):
        listed.keyboard.press(key)
        assert listed.locator("#example-list tr[aria-current]").get_attribute("data-place") == str(place)
    k = int(np.argsort(-analysis.percentiles["small"]["margin"].astype(int), kind="stable")[0])
    detail = listed.locator("#example-detail")
    assert detail.locator("h3").inner_text() == f"Example {ids_of(analysis)[k]}"
    said = {}
    size = None
    for row in detail.locator(".predictions tbody tr").all():
        size = row.locator("th").inner_text() if row.locator("th").count() else size
        text, right, runs, seeds = row.locator("td").all_inner_texts()
        for seed in seeds.split(", "):
            said[size, int(seed)] = (text, "right" in right)
        assert runs.startswith(str(len(seeds.split(", "))))
    grid = analysis.grid
    assert said == {
        (one.name, seed): (grid.classes[one.prediction[r, k]], bool(one.correct[r, k]))
        for one in grid.sizes
        for r, seed in enumerate(one.seeds)
    }
    titles = {one.get_attribute("title") for one in detail.locator("abbr").all()}
    assert titles == {f"scores-{k}" for k in range(8)}
    listed.keyboard.press("Enter")
    assert listed.evaluate("document.activeElement.textContent").startswith("Example ")
    listed.keyboard.press("Escape")
    assert listed.evaluate("document.activeElement.id") == "example-list"


def test_texts_are_text_and_can_be_searched(tab):
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.wait_for()
    choose(tab, "#example-controls", "dataset", NASTY)
    expect(tab.locator("#example-scope")).to_contain_text("All 30 examples")
    give(tab, "search", "17 </SCRIPT>")
    fits(tab, 1)
    row = tab.locator("#example-list tbody tr[data-place]").first
    assert row.locator("th span").inner_text().startswith(f"17 {NASTY} \u202ereversed")
    row.click()
    detail = tab.locator("#example-detail")
    text, more = detail.locator("dd").first, detail.get_by_role("button", name="more")
    assert "\ufffd <svg/onload" in text.inner_text() and not text.inner_text().endswith("its end less")
    more.click()
    assert (
        "its end" in text.inner_text()
        and detail.locator("bdi").first.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"
    )
    detail.get_by_role("button", name="less").click()
    assert "its end" not in text.inner_text()
    assert tab.title().startswith("Edgewise") and tab.locator("#example-detail img, #example-detail svg").count() == 0
    give(tab, "search", "its end")
    fits(tab, 29)


def test_probabilities_margin_and_threshold_of_an_example(listed, analysis):
    give(listed, "search", "test-399")
    fits(listed, 1)
    listed.locator("#example-list tbody tr[data-place]").first.click()
    size = analysis.grid.sizes[0]
    raw = np.exp(size.log_likelihoods[:, 399].astype(float))
    p = raw / raw.sum(axis=1, keepdims=True)
    margin, share = np.abs(p[:, 0] - p[:, 1]).mean(), 100 - analysis.percentiles["small"]["margin"][399] / 100
    cells = listed.locator("#example-detail table").first.locator("tbody tr").first.locator("td").all_inner_texts()
    assert [number(cell) for cell in cells[:2]] == pytest.approx(p.mean(axis=0), abs=0.0011)
    assert number(cells[2]) == pytest.approx(margin, abs=0.0011)
    assert re.match(r"thresholds from [\d.]+ up, which defer about [\d.]+ % of all examples or more", cells[3])
    assert number(cells[3].split(" ")[2]) == pytest.approx(margin, abs=0.0011)
    assert number(cells[3].split(" ")[7]) == pytest.approx(share, abs=0.51)
    last = listed.locator("#example-detail table").first.locator("tbody tr").last.locator("td").last
    assert last.inner_text() == "–"  # the largest defers to none


def test_a_page_without_texts_says_so(browser, tmp_path, monkeypatch):
    scores = synthetic_grid(seeds=2, examples=40)
    for one in scores:
        one.text = np.array([f"private {k}" for k in range(40)], dtype=object)
    monkeypatch.setattr("metrics.output.directory.write_figures", no_figures)
    inputs = [Input(str(k), "d") for k in range(4)]
    write_metrics(scores, inputs, QUICK, tmp_path / "out", with_text=False)
    tab = opened(browser, tmp_path / "out" / "report" / "index.html")
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.wait_for()
    assert "texts of the examples were left out of this page (report.text)" in tab.locator("#no-text").inner_text()
    assert tab.locator("#example-list tbody th.id span").first.inner_text().startswith("test-")
    give(tab, "search", "private")
    fits(tab, 0)
    assert tab.complaints == []
    tab.context.close()


def test_a_part_of_the_examples_says_so(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "BUDGET", 3_000)
    scores = synthetic_grid(seeds=2, examples=300)
    monkeypatch.setattr("metrics.output.directory.write_figures", no_figures)
    write_metrics(scores, [Input(str(k), "d") for k in range(4)], QUICK, tmp_path / "out")
    tab = opened(browser, tmp_path / "out" / "report" / "index.html")
    tab.locator("#examples").scroll_into_view_if_needed()
    tab.locator("#example-list tbody tr[data-place]").first.wait_for()
    said = tab.locator("#example-scope").inner_text()
    shown, of = re.match(r"(\d+) of the (\d+) examples of synthetic", said).groups()
    assert int(of) == 300 and count(tab) == int(shown) < 300 and "differ most in how well they do" in said
    assert json.loads(tab.evaluate("JSON.stringify(document.querySelectorAll('[data-several]').length)")) == 2
    assert not tab.locator("#example-controls [name=dataset]").is_visible()
    assert tab.complaints == []
    tab.context.close()


def test_answers_and_sentences(browser, tmp_path, monkeypatch):
    """Span QA and translation: BLEU by name, uncertainty in both contexts, predictions in their own words."""
    scores = [
        *synthetic_grid(seeds=2, examples=50, dataset="answers", task="span_qa"),
        *synthetic_grid(seeds=2, examples=60, dataset="sentences", task="translation", seed=1),
    ]
    monkeypatch.setattr("metrics.output.directory.write_figures", no_figures)
    write_metrics(scores, [Input(f"scores-{k}", "d") for k in range(8)], QUICK, tmp_path / "out")
    grids = {grid.dataset: grid for grid in collect_grids(scores)}
    tab = opened(browser, tmp_path / "out" / "report" / "index.html")
    tab.locator("#curves").scroll_into_view_if_needed()
    choose(tab, "#curve-controls", "dataset", "sentences")
    expect(tab.locator("#curve-title")).to_contain_text("sentences: ")
    assert "BLEU" in tab.locator("#curve-chart svg").text_content()
    assert not tab.locator("#curve-controls [name=perfect]").is_visible()  # BLEU has none in closed form
    analysis = analyse(grids["sentences"], QUICK)
    at(tab, 40)
    for label, reading in (
        ("the model's own output (deployable)", analysis.deployable),
        ("the gold answer (reads the label)", analysis.contexts[1]),
    ):
        choose(tab, "#curve-controls", "reading", label)
        (row,) = readout(tab)
        assert number(row["BLEU"]) == pytest.approx(100 * reading.widest.curve["margin"][40], abs=0.0051)
    assert reading.context == "gold"

    tab.locator("#examples").scroll_into_view_if_needed()
    choose(tab, "#example-controls", "dataset", "sentences")
    expect(tab.locator("#example-scope")).to_contain_text("of sentences,")
    small, large = (sentence_bleu(size.bleu_stats).mean(axis=0) for size in grids["sentences"].sizes)
    choose(tab, "#example-controls", "who", "the larger is better")
    assert count(tab) == (np.round(large, 2) > np.round(small, 2)).sum() > 0
    choose(tab, "#example-controls", "sort", "base gains most first")
    best = int(np.argmax(np.round(100 * large) - np.round(100 * small)))
    first = tab.locator("#example-list tbody tr[data-place]").first
    assert first.locator("th span").inner_text() == f"test-{best}"
    assert first.locator("td.large small").inner_text() == f"{large[best]:.1f} BLEU"
    first.click()
    said = tab.locator("#example-detail tbody td.full").all_inner_texts()
    assert {one.prediction[best] for one in scores if one.metadata.dataset == "sentences"} <= set(said)

    choose(tab, "#example-controls", "dataset", "answers")
    expect(tab.locator("#example-scope")).to_contain_text("their answers are one of the gold answers")
    choose(tab, "#example-controls", "who", "anyone or no one")
    choose(tab, "#example-controls", "sort", "most uncertain first")
    choose(tab, "#example-controls", "score", "margin of its own output")
    own = analyse(grids["answers"], QUICK).other_context.percentiles["small"]["margin"].astype(int)
    assert ids(tab)[0] == f"test-{np.argsort(-own, kind='stable')[0]}"
    assert tab.complaints == []
    tab.context.close()
