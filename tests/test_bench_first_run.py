"""The recorded first session: its data, and the page that it is written into."""

import pytest

from bench.first_run import MARKS, PAGE, ROWS, STEPS, shown_lines, write_reviews
from bench.marked_page import write_between_marks
from train.data.draft import draft


def test_the_reviews_are_what_the_first_command_makes_a_dataset_of(tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    drafted = draft(tmp_path / "reviews.csv", None, None, None)
    assert drafted.dataset.separator == ";" and drafted.dataset.label_column == "verdict"
    assert drafted.dataset.classes == {"neg": "neg", "pos": "pos"} and drafted.dataset.template == "{review}"
    assert any(f"{ROWS:,} rows" in line for line in drafted.seen), drafted.seen


def test_the_page_shows_what_the_terminal_showed(tmp_path):
    assert shown_lines("\x1b[1mbold\x1b[0m\n10 %\r100 %\nin /tmp/x/edgewise\n", "/tmp/x") == [
        "bold",
        "100 %",
        "in /home/me/edgewise",
    ]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    write_between_marks(page, MARKS, "new")
    assert page.read_text() == f"before\n{MARKS[0]}\n\nnew\n\n{MARKS[1]}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the markers"):
        write_between_marks(page, MARKS, "new")


def test_the_page_holds_every_command():
    recorded = PAGE.read_text(encoding="utf-8")
    for step in STEPS:
        assert f"$ {step.command.partition('{run}')[0]}" in recorded
