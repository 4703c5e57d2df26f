"""What is logged to look at says what the files say."""

import csv
import json
import math

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.output.directory import Input, write_metrics
from metrics.output.previews import log_output, most_uncertain
from tests.synthetic_scores import synthetic_grid


@pytest.mark.parametrize("task", ["classification", "span_qa", "translation"])
def test_the_preview_holds_the_most_uncertain_rows(task):
    scores = synthetic_grid(seeds=1, examples=60, task=task)[0]
    columns, rows = most_uncertain(scores, most=20)
    assert len(rows) == 20 and all(len(row) == len(columns) for row in rows)
    json.dumps(rows, allow_nan=False)
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    margins = [row["margin"] for row in table]
    assert margins == sorted(margins)
    if task == "classification":
        p = np.exp(scores.class_log_likelihoods.astype(float))
        p = np.sort(p / p.sum(axis=1, keepdims=True), axis=1)
        expected = p[:, -1] - p[:, -2]
        entropies = -(p * np.log(p)).sum(axis=1)
    else:
        tokens = scores.self_tokens
        spans = list(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True))
        expected = np.array([tokens.margins[a:b].astype(float).mean() for a, b in spans])
        entropies = np.array([tokens.entropies[a:b].astype(float).mean() for a, b in spans])
    assert margins == pytest.approx(np.sort(expected)[:20], abs=1e-9)
    place = {id: row for row, id in enumerate(scores.example_id)}
    for row in table:
        assert row["margin"] == pytest.approx(expected[place[row["example_id"]]], abs=1e-9)
        assert row["entropy"] == pytest.approx(entropies[place[row["example_id"]]], abs=1e-9)
        assert row["target"] == scores.target[place[row["example_id"]]]


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
