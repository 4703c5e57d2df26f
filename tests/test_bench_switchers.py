"""The page of switchers of real text: what stands in it, without a model."""

import pytest

from bench.marked_page import write_between_marks
from bench.switchers import MARKS, WANTED, Measured, section, speed


def side(quality, milliseconds, deferred=None):
    return {
        "quality": {"value": quality},
        "ms_per_example": {"median": milliseconds},
        "deferred": None if deferred is None else {"value": deferred},
    }


def result(measure="accuracy", loss_at_most=0.02):
    deferred = {"at_most": 0.3, "measured": 0.25, "kept": True}
    loss = {"at_most": loss_at_most, "measured": 0.03, "kept": None if loss_at_most is None else False}
    return {
        "measure": measure,
        "sides": [side(0.80, 0.5, 0.25), side(0.70, 0.2), side(0.83, 1.0)],
        "promise": {"deferred": deferred, "loss": loss, "examples": 800},
        "examples": 800,
        "rounds": 7,
        "device": "1 × cpu",
    }


def test_the_ideal_has_no_cost_of_the_switcher_itself():
    found = speed(result())
    assert found["ratio"] == 0.2 and found["deferred"] == 0.25
    assert found["ideal"] == pytest.approx(1 / 0.45) and found["speedup"] == 2
    assert found["of_ideal"] == pytest.approx(0.9)


def test_the_page_has_a_row_for_each_switcher_and_says_why_there_is_none(tmp_path):
    refused = Measured(WANTED[2], None, "the least that can be certified is 0.05")
    translated = Measured(WANTED[3], result("BLEU", None))
    text = section([Measured(WANTED[0], result()), refused, translated])
    assert "| SST-2 | budget: 20 % deferred | 30.00 % | 25.00 % | 2.00 points | 3.00 points | not on these |" in text
    assert "| the least that can be certified is 0.05 | – | – | – | – |" in text
    assert "| 30.00 % | 25.00 % | none | 3.00 BLEU | yes |" in text
    assert "| 80.00 | 83.00 | 70.00 | 0.5 | 1 | 0.2 | 0.20 | 0.25 | 2.22 | 2.00 | 0.90 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[:5]}) == 1 and len({line.count("|") for line in rows[5:]}) == 1
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", *MARKS, "after"]))
    write_between_marks(page, MARKS, text)
    assert page.read_text().startswith("before") and page.read_text().endswith("after")
