"""`show RUN` and `history RUN`: what a run was given, how it went, and what it came to."""

import csv
import io
import json
import math

import pytest

from tracking.__main__ import main
from tracking.interface import ArtifactDraft
from tracking.store import Store

CONFIG = {"train": {"steps": 20, "classes": [["0", "no"]]}, "seed": 0, "empty": {}}


@pytest.fixture
def root(tmp_path):
    store = Store(tmp_path / "runs")
    with store.start_run("data-x-1", job_type="data", config={}) as run:
        run.log_artifact(ArtifactDraft("data-x", "data"))
    with store.start_run(
        "train-x-s0-abc", job_type="train", config=CONFIG, name="train [x]", group="grid", tags=["x", "small"]
    ) as run:
        run.use_artifact("data-x")
        for step, loss in ((5, 2.0), (10, 1.5), (15, math.nan), (20, 1.0)):
            run.log({"loss": loss, "rate": 0.1}, step)
        run.log({"loss": 1.0, "rate": 0.1, "validation_accuracy": 0.75}, 20)
        run.set_summary({"parameters": 12_345})
        run.log_artifact(ArtifactDraft("model-x", "model"))
    with pytest.raises(ValueError, match="no such"), store.start_run("train-x-s1-abc", job_type="train", config={}):
        raise ValueError("no such [label]\nin row 7")
    store.close()
    return tmp_path / "runs"


@pytest.fixture
def call(root, capsys):
    """A function that calls the command; returns status, output and errors."""

    def call(*arguments):
        status = main([*map(str, arguments), "--root", str(root)])
        return status, *capsys.readouterr()

    return call


def test_a_run_is_shown_by_its_id_or_the_start_of_it(call):
    status, output, _ = call("show", "train-x-s0-abc")
    assert status == 0 and output.startswith("train-x-s0-abc  train  finished\n")
    for text in (
        "name     train [x]",
        "group    grid",
        "tags     x, small",
        "used     data-x:v0",
        "logged   model-x:v0",
        "history  4 points, steps 5 to 20: loss, rate, validation_accuracy;",
        "train.steps = 20",
        'train.classes = [["0", "no"]]',
        "empty = {}",
        "parameters = 12345",
    ):
        assert f"\n{text}" in output
    assert "\nerror" not in output
    assert call("show", "train-x-s0") == (0, output, "")


def test_a_run_in_json(call):
    _, output, _ = call("show", "train-x-s0", "--json")
    shown = json.loads(output, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert shown["config"] == CONFIG and shown["summary"]["loss"] == 1.0
    assert (shown["state"], shown["alive"], shown["error"]) == ("finished", False, None)
    assert shown["duration"] == pytest.approx(shown["ended"] - shown["started"])
    assert [one["artifact"] for one in shown["inputs"]] == ["data-x:v0"]
    assert {one["artifact"]: one["type"] for one in shown["outputs"]} == {"model-x:v0": "model"}
    assert (shown["points"], shown["metrics"]) == (4, ["loss", "rate", "validation_accuracy"])


def test_a_failed_run_is_shown_with_its_traceback(call):
    status, output, _ = call("show", "train-x-s1")
    assert status == 0 and "train-x-s1-abc  train  failed" in output and "used     nothing" in output
    assert output.endswith("ValueError: no such [label]\nin row 7\n") and "Traceback" in output


def test_an_artifact_goes_before_a_run_and_unknown_or_unclear_names_are_told(call):
    assert list(json.loads(call("show", "data-x", "--json")[1])) == [
        "name", "type", "version", "digest", "aliases", "metadata", "files"
    ]  # fmt: skip
    status, output, error = call("show", "train-x")
    assert (status, output) == (1, "")
    assert error.startswith(
        "error: train-x is the start of 2 run ids, name one of them: train-x-s1-abc (failed, started 20"
    )
    assert ", train-x-s0-abc (finished, started 20" in error and error.count("\n") == 1
    assert "no run has that id either" in call("show", "nobody")[2]
    assert call("history", "nobody")[2].startswith("error: no run 'nobody': expected a run id or the start of one")
    assert call("history", "")[0] == 1


def test_history_as_a_table_csv_and_json(call):
    status, output, _ = call("history", "train-x-s0")
    rows = [line.split() for line in output.splitlines() if line.strip() and "─" not in line]
    assert status == 0 and rows == [
        ["step", "loss", "rate", "validation_accuracy"],
        ["5", "2", "0.1"],
        ["10", "1.5", "0.1"],
        ["15", "nan", "0.1"],
        ["20", "1", "0.1", "0.75"],
    ]
    read = list(csv.DictReader(io.StringIO(call("history", "train-x-s0", "--csv")[1])))
    assert read[0] == {"step": "5", "loss": "2.0", "rate": "0.1", "validation_accuracy": ""}
    assert read[3]["validation_accuracy"] == "0.75"
    found = json.loads(call("history", "train-x-s0", "--json", "--keys", "validation_accuracy,loss")[1])
    assert found[2:] == [{"step": 15, "loss": "NaN"}, {"step": 20, "validation_accuracy": 0.75, "loss": 1.0}]
    assert call("history", "data-x-1") == (0, "no points in the history of data-x-1\n", "")
    status, _, error = call("history", "train-x-s0", "--keys", "loss,validation_acuracy")
    assert status == 1 and "--keys validation_acuracy: did you mean validation_accuracy?" in error


def test_history_as_a_picture(call, tmp_path):
    status, output, _ = call("history", "train-x-s0", "--plot")
    assert status == 0 and "loss by step, last 1, 1 of 4 values are not finite" in output
    assert "validation_accuracy by step, last 0.75" in output and "rate by step" not in output
    assert output.endswith("also logged: rate (--keys rate)\n")
    assert "rate by step" in call("history", "train-x-s0", "--plot", "--keys", "rate")[1]
    file = tmp_path / "chart.png"
    status, output, _ = call("history", "train-x-s0", "--plot", file)
    assert output == f"drew loss, validation_accuracy of train-x-s0-abc into {file}\n"
    assert file.read_bytes().startswith(b"\x89PNG")
    assert call("history", "data-x-1", "--plot")[2] == "error: run data-x-1 has no numbers to draw in its history\n"


def test_a_run_that_goes_on_says_so(root, call):
    store = Store(root)
    run = store.start_run("goes-on", job_type="train", config={})
    run.log({"loss": 1.0}, 1)
    assert call("show", "goes-on")[1].startswith("goes-on  train  running\n")
    assert json.loads(call("show", "goes-on", "--json")[1])["alive"] is True
    run.finish("stopped", "stopped by signal 15")
    assert "stopped by signal 15" in call("show", "goes-on")[1]
    store.close()
