"""The table of methods, and what the tables say of committees: which method each number has, of which runs."""

from pathlib import Path

from conf.schema import Metrics
from metrics.tables.paper import table_rows, write_paper_tables
from tests.metrics_runs import tables_of
from tests.synthetic_scores import synthetic_grid


def methods(scores, **settings):
    rows = tables_of(scores, Metrics(**{"resamples": 20, **settings}))[1]["interval_methods"].rows
    return {(row["number"], row["sizes"]): (row["method"], row["runs"]) for row in rows}


def test_the_spread_of_runs_is_in_an_interval_where_every_size_has_two():
    found = methods(synthetic_grid(seeds={"small": [0, 1], "base": [0, 1, 2]}, examples=60))
    assert found["accuracy", "small"] == ("t, variance components", "yes")
    assert found["Table 1", "small → base"] == ("resamples, reflected", "yes")
    assert found["overall churn", "base"] == ("t, variance components", "yes")
    assert found["Table 2", "small → base"] == ("t, variance components", "yes")
    two = methods(synthetic_grid(seeds=2, examples=60))
    assert two["Table 2", "small → base"][1] == two["Table 2", "base"][1] == "no"  # two runs are one pair that churns
    one = methods(synthetic_grid(seeds={"small": [0, 1], "base": [0]}, examples=60))
    assert one["Table 3", "small → base"] == ("t, variance components", "no")
    assert one["overall churn", "small"][1] == "no"
    assert set(methods(synthetic_grid(seeds=2, examples=60), resamples=0).values()) >= {("none", "yes")}


def test_translation_is_resampled():
    found = methods(synthetic_grid(seeds=2, examples=40, task="translation"))
    assert found["bleu", "small"][0] == "resamples, percentiles"
    assert found["slices, subgroups", "small → base"][0] == "t, variance of resamples"


def foot_of_table1(scores, config, directory: Path) -> str:
    analysis, _ = tables_of(scores, config)
    write_paper_tables([analysis], table_rows([analysis]), config, directory, [])
    return (directory / "table1.md").read_text(encoding="utf-8")


def test_tables_say_how_many_runs_a_committee_has(tmp_path):
    scores = synthetic_grid(seeds={"small": [0, 1, 2], "base": [0, 1]}, examples=60)
    assert "Churn and committee scores compare 3 runs" in foot_of_table1(scores, Metrics(resamples=20), tmp_path / "a")
    config = Metrics(resamples=20, committee_size=2)
    assert "Churn and committee scores compare 2 runs" in foot_of_table1(scores, config, tmp_path / "b")
    sizes = {"tiny": (1, 1.0), "small": (2, 1.5), "base": (3, 2.0)}
    scores = synthetic_grid(sizes, seeds={"tiny": [0, 1, 2], "small": [0, 1], "base": [0]}, examples=60)
    text = foot_of_table1(scores, Metrics(resamples=20), tmp_path / "c")
    assert "compare 3 runs of tiny, 2 runs of small, and" in text
