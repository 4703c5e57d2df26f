"""What is logged to look at says what the files say."""

import csv
import json
import math

import pytest

from conf.schema import Metrics
from metrics.output.directory import Input, write_metrics
from metrics.output.previews import log_output
from tests.synthetic_scores import synthetic_grid


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    grid = synthetic_grid(seeds=2, examples=80, dataset="imdb")
    out = tmp_path_factory.mktemp("media") / "out"
    inputs = [Input(f"scores-{i}", f"{i:032x}") for i in range(len(grid))]
    write_metrics(grid, inputs, Metrics(out=str(out), resamples=10), out)
    return out


def test_metrics_log_their_tables_curves_figures_and_report(out, tracker):
    with tracker.start_run("metrics-imdb", job_type="metrics", config={}) as run:
        log_output(run, out)
    media = {item.key: item for item in tracker.media("metrics-imdb")}
    by_kind = {kind: {key for key, item in media.items() if item.kind == kind} for kind in ("table", "image", "html")}
    assert by_kind["table"] == {"inputs"} | {f"tables/{path.stem}" for path in (out / "tables").glob("*.csv")}
    assert by_kind["image"] == {f"figures/{path.stem}" for path in (out / "figures").glob("*.png")}
    assert by_kind["html"] == {"report"}
    # the table names the digest of each scores artifact that it was made of
    inputs = media["inputs"].content
    named = {row[inputs["columns"].index("name")]: row[inputs["columns"].index("digest")] for row in inputs["rows"]}
    assert named == {f"scores-{i}": f"{i:032x}" for i in range(4)}
    with open(out / "tables/table1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = media["tables/table1"].content
    assert [dict(zip(table["columns"], row, strict=True))["mean"] for row in table["rows"]] == [
        float(row["mean"]) for row in rows
    ]


def test_a_chart_is_the_mean_over_pairs_of_runs(out, tracker):
    with tracker.start_run("metrics-imdb", job_type="metrics", config={}) as run:
        log_output(run, out)
    chart = {item.key: item for item in tracker.media("metrics-imdb")}["curves/switcher/small-base"].content
    result = json.loads((out / "summary.json").read_text())["datasets"]["imdb"]
    accuracy = {size["name"]: size["accuracy"]["value"] for size in result["sizes"]}
    assert chart["x"][0] == 0.0 and chart["x"][-1] == 1.0
    for line in chart["lines"].values():  # at the ends stand the mean accuracies of the two sizes
        assert math.isclose(line[0], accuracy["small"], abs_tol=1e-9)
        assert math.isclose(line[-1], accuracy["base"], abs_tol=1e-9)
