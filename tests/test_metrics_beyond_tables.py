"""All tables past the paper's together: files, summary, determinism, partial grids, what readable cells look like."""

import csv
import json
import math
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

import metrics.beyond
from conf.errors import EdgewiseError
from conf.schema import Metrics
from metrics.beyond import BEYOND_TABLES
from metrics.beyond.table import BeyondTable, interval_entries
from metrics.bootstrap.resampling import Estimate
from metrics.tables.escape import text_of_spreadsheet
from metrics.tables.files import write_tables
from metrics.tables.table import MOST_SHOWN, Column, Table
from tests.metrics_runs import tables_of, write_without_pictures
from tests.synthetic_scores import synthetic_grid

CONFIG = Metrics(resamples=20)


THREE_SIZES = {"small": (10, 1.5), "base": (20, 2.0), "large": (40, 2.4)}


def with_a_frequent_class(scores):
    """The runs without most of the examples that are not of the first class."""
    kept = np.flatnonzero((scores[0].target == "class 0") | (np.arange(len(scores[0].target)) % 4 == 0))
    return [one.take(kept) for one in scores]


@pytest.fixture(scope="module")
def scores():
    return [
        *with_a_frequent_class(synthetic_grid(THREE_SIZES, seeds=2, examples=300, classes=3, dataset="a")),
        *synthetic_grid(seeds={"small": [0], "base": [1, 2]}, examples=60, dataset="b|c&d", seed=1),
        *synthetic_grid(seeds=2, examples=50, task="span_qa", dataset="answers"),
    ]


# what a dataset is too small for, or has none of
LACKING = {
    "ensembles": {"b|c&d"},
    "score_comparison": {"b|c&d"},
    "post_hoc": {"b|c&d", "answers"},
    "token_quantiles": {"a", "b|c&d"},
    "class_quality": {"b|c&d", "answers"},
    "multiplicity": {"b|c&d"},
    "chains": {"b|c&d", "answers"},
}


@pytest.fixture(scope="module")
def out(scores, tmp_path_factory):
    directory = tmp_path_factory.mktemp("beyond") / "out"
    write_without_pictures(scores, CONFIG, directory)
    return directory


def test_every_table_in_every_form(out):
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))["beyond"]
    assert list(summary) == [table.name for table in BEYOND_TABLES]
    for table in BEYOND_TABLES:
        with (out / "tables" / f"{table.name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and list(rows[0]) == table.keys
        kept = summary[table.name]
        assert kept["reading"] == table.reading and kept["signature"].startswith("edgewise:1|")
        assert [[str("" if v is None else v) for v in row.values()] for row in kept["rows"]] == [
            list(map(text_of_spreadsheet, row.values())) for row in rows
        ]
        expected = {"a", "b|c&d", "answers"} - LACKING.get(table.name, set())
        assert {row["dataset"] for row in rows} == expected
        assert all((row["context"] == "") == (row["dataset"] != "answers") for row in rows)
        text = (out / "tables" / f"{table.name}.md").read_text(encoding="utf-8")
        assert table.title in text and table.reading in text and kept["signature"] in text
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1 and len(lines) == 2 + len(rows)
        tex = (out / "tables" / f"{table.name}.tex").read_text(encoding="utf-8")
        assert (r"b\textbar{}c\&d" in tex) == ("b|c&d" in expected) and "\\bottomrule" in tex
        body = [line for line in tex.splitlines() if line.endswith(r"\\")]
        assert len({line.replace(r"\&", "").count("&") for line in body}) == 1


def test_no_table_of_a_module_is_left_out_of_the_list():
    modules = [import_module(f"metrics.beyond.{module.name}") for module in iter_modules(metrics.beyond.__path__)]
    defined = [one for module in modules for one in vars(module).values() if isinstance(one, BeyondTable)]
    assert {table.name for table in defined} == {table.name for table in BEYOND_TABLES}
    assert len({table.name for table in BEYOND_TABLES}) == len(BEYOND_TABLES)


def test_names_and_units_of_columns():
    for table in BEYOND_TABLES:
        assert len(set(table.keys)) == len(table.keys)
        assert all(column.unit == "" or column.form for column in table.columns)
        assert table.title[-1] != "." and table.reading.endswith(".")


def test_the_same_bytes_again(out, scores, tmp_path):
    write_without_pictures(scores, CONFIG, tmp_path / "out")
    for path in sorted(out.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(out)).read_bytes(), path.name


def test_without_it(scores, tmp_path):
    summary = write_without_pictures(scores, Metrics(resamples=0, beyond=False), tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out" / "tables").iterdir()}
    assert summary["beyond"] == {} and names == {"table1", "table2", "table3", "contexts"}


def test_what_a_partial_grid_lacks_is_said(out):
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))["beyond"]
    assert "b|c&d: small has one seed: no ensembles of it." in summary["ensembles"]["notes"]
    assert "b|c&d: 60 examples are too few; it takes 100." in summary["post_hoc"]["notes"]


@pytest.mark.parametrize(
    ("sizes", "seeds", "examples"),
    [({"small": (10, 1.5)}, 2, 40), ({"small": (10, 1.5), "base": (20, 2.0)}, 1, 1), (None, 2, 3), (None, 1, 150)],
)
def test_grids_that_say_little(tmp_path, sizes, seeds, examples):
    scores = synthetic_grid(*([sizes] if sizes else []), seeds=seeds, examples=examples)
    summary = write_without_pictures(scores, Metrics(resamples=5), tmp_path / "out")["beyond"]
    assert summary["selective"]["rows"]
    if sizes and len(sizes) == 1:
        assert "One size only (small)" in summary["certified"]["notes"][0] and not summary["cost"]["rows"]
        text = (tmp_path / "out" / "tables" / "cost.md").read_text(encoding="utf-8")
        assert "Nothing to show: see the notes." in text


def test_epsilon_and_delta_are_checked():
    Metrics(epsilon=0.0, delta=0.5).check()
    for wrong in ({"epsilon": -0.01}, {"epsilon": 1.0}, {"delta": 0.0}, {"delta": 1.0}):
        with pytest.raises(EdgewiseError, match=next(iter(wrong))):
            Metrics(**wrong).check()


def test_cells():
    column = Column("x", "X", "points", "+.2f", interval=True)
    assert column.cell(interval_entries("x", Estimate(0.01234, -0.001, 0.02), 100)).line == "+1.23 [-0.10, +2.00]"
    assert column.cell(interval_entries("x", Estimate(0.5))).line == "+0.50"
    assert column.cell(interval_entries("x", Estimate(math.nan))).line == "-"
    assert column.keys == ("x", "x_ci_low", "x_ci_high") and column.head.heading == "X, points"
    assert Column("k", "K", "", ",d").cell({"k": 12345}).line == "12,345"
    assert Column("t", "T").cell({"t": "text"}).line == "text" and Column("t", "T").cell({"t": None}).line == "-"


def test_long_tables_are_cut_for_reading_alone(tmp_path):
    rows = [{"k": k} for k in range(MOST_SHOWN + 5)]
    table = Table("long", "Long", "Read it.", (Column("k", "K", "", "d"),), rows)
    write_tables([table], 0.95, tmp_path)
    assert len((tmp_path / "long.csv").read_text().splitlines()) == MOST_SHOWN + 6
    text = (tmp_path / "long.md").read_text()
    assert f"The first {MOST_SHOWN} of {MOST_SHOWN + 5} rows; long.csv has all." in text
    assert text.count("\n| ") == MOST_SHOWN + 2
    assert len(table.sheet_for_page(0.95).lines) == MOST_SHOWN
    assert f"The first {MOST_SHOWN} of {MOST_SHOWN + 5} rows. File" in table.sheet_for_page(0.95).foot


def test_one_size_of_translation_says_what_it_lacks():
    tables = tables_of(synthetic_grid({"small": (10, 1.5)}, seeds=2, examples=30, task="translation"), CONFIG)[1]
    for name in ("selective", "selective_runs"):
        assert tables[name].rows == [] and tables[name].notes == [
            "Translation is left out: no sentence is right or wrong."
        ]
    assert tables["class_quality"].rows == [] and tables["class_quality"].notes == ["There are no classes."]
    for name in tables.keys() - {"selective", "selective_runs", "class_quality"}:
        assert tables[name].rows == [] and tables[name].notes[0].startswith("One size only (small)")
