"""Names in CSV and Markdown: what a spreadsheet or a page would run is text, and reads back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.tables.escape import markdown_code, markdown_text, spreadsheet_text, text_of_spreadsheet


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "--1", "=HYPERLINK(1)"],
)
def test_formulas_become_text(text):
    assert spreadsheet_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["imdb", "", "-1", "+2.5", "-1e-3", "1=1", "a-b", "-", "+", "'quoted'", "'"])
def test_other_texts_stay(text):
    assert spreadsheet_text(text) == text == text_of_spreadsheet(text)


@given(st.text(alphabet="'=+-@\t\r\na1.", max_size=6))
def test_cells_read_back(text):
    cell = spreadsheet_text(text)
    assert text_of_spreadsheet(cell) == text
    assert cell[:1] not in ("=", "@", "\t", "\r", "\n") and (
        cell[:1] not in ("+", "-") or cell in ("+", "-") or float(cell) is not None
    )


def test_markdown_has_no_html_no_breaks_and_no_cells_end():
    assert markdown_text("a<img src=x>\nb|c & d\u2028e") == "a&lt;img src=x> b\\|c &amp; d e"
    assert markdown_code("edgewise:1|ci:none") == "`edgewise:1|ci:none`"
    assert markdown_code("a`b``c\n<d>") == "``` a`b``c <d> ```"
