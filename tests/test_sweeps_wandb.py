"""The main job on W&B: the same sweep, by its command, against the loopback server, with the embedded one's lineage."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support import REPO
from tests.training import SMALL_GRID
from tests.wandb_server import ENTITY
from tracking.__main__ import main
from tracking.delivery import Ledger
from tracking.lineage import as_json, lineage
from tracking.store import Store
from tracking.wandb.project import WandbProject
from tracking.wandb.server import Server


def sweep(folder, *overrides, grid=SMALL_GRID):
    given = [f"tracking.root={folder / 'runs'}", f"metrics.out={folder / 'out'}", "metrics.resamples=20", *overrides]
    command = [sys.executable, "-m", "sweeps", *grid, *given]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=environment)


def graph(reader) -> dict:
    """All that lineage says of the data: artifacts, runs, edges; the id of the data's run is partly chance."""
    found = as_json(lineage(reader, "data-demo"))

    def named(run: str) -> str:
        return re.sub(r"^(data-demo-\w+)-\w{6}$", r"\1", run)

    return {
        "artifacts": {ref: (one["type"], one["digest"], one["files"]) for ref, one in found["artifacts"].items()},
        "runs": {named(run): (one["job_type"], one["state"], one["group"]) for run, one in found["runs"].items()},
        "edges": {(edge["kind"], named(edge["run"]), edge["artifact"]) for edge in found["edges"]},
    }


@pytest.fixture(scope="module")
def swept(wandb_server, tmp_path_factory):
    """The same grid, once on the embedded store and once on W&B."""
    embedded, shared = tmp_path_factory.mktemp("embedded"), tmp_path_factory.mktemp("shared")
    # As it is by default with W&B, so that the scores and the report are the same.
    result = sweep(embedded, "infer.keep_text=false", "report.text=false")
    assert result.returncode == 0, result.stderr + result.stdout
    result = sweep(shared, "tracking=wandb", f"tracking.entity={ENTITY}", "tracking.project=sweep")
    assert result.returncode == 0, result.stderr + result.stdout
    return embedded, shared, result


def test_the_sweep_is_on_wandb_whole(swept, wandb_server):
    _, shared, result = swept
    assert "not delivered" not in result.stderr
    store = Store(shared / "runs")
    assert not Ledger(store, WandbProject.chosen(ENTITY, "sweep").key).pending()
    runs = wandb_server.project("sweep").runs
    assert {run.state for run in runs.values()} == {"finished"}
    by_job = {job: [run for run in runs.values() if run.job_type == job] for job in ("train", "infer", "metrics")}
    assert {job: len(found) for job, found in by_job.items()} == {"train": 4, "infer": 4, "metrics": 1}
    [group] = {run.group for found in by_job.values() for run in found}
    assert group.startswith("sweep-")
    for run in by_job["train"] + by_job["infer"]:
        assert run.tags[0] == "demo" and run.tags[1] in ("nano", "micro")
    train = runs[next(record.id for record in store.runs(job_type="train"))]
    assert train.config["train"]["value"]["steps"] == 10 and train.config["settings"]["value"]["mesh"]["fsdp"] == 1
    assert train.config["edgewise"]["value"]["code_version"] == store.run(train.name).code_version
    assert [point["_step"] for point in train.history] == [point["step"] for point in store.history(train.name)]


def test_its_lineage_equals_the_embedded_runs(swept):
    embedded, shared, _ = swept
    here, there = Store(embedded / "runs"), Server(WandbProject.chosen(ENTITY, "sweep"), remember=True)
    assert graph(there) == graph(here)
    assert graph(Store(shared / "runs")) == graph(here)
    assert len(graph(here)["edges"]) == 1 + 4 * (1 + 1) + 4 * (1 + 2) + 1 + 4


def test_what_there_is_to_look_at_is_there(swept, wandb_server):
    runs = wandb_server.project("sweep").runs.values()
    infer = next(run for run in runs if run.job_type == "infer")
    assert infer.summary["most_uncertain"]["_type"] == "table-file" and infer.summary["most_uncertain"]["nrows"] == 60
    metrics = next(run for run in runs if run.job_type == "metrics")
    kinds = {
        key: value["_type"] for key, value in metrics.summary.items() if isinstance(value, dict) and "_type" in value
    }
    assert kinds["tables/table1"] == kinds["inputs"] == kinds["curves/switcher/nano-micro_table"] == "table-file"
    assert kinds["figures/fig1"] == "image-file" and kinds["report"] == "html-file"
    page = metrics.files[metrics.summary["report"]["path"]]
    assert b"<html" in page.lower()


@pytest.mark.slow  # of runs without models: test_tracking_transfer
def test_an_embedded_sweep_that_is_pushed_is_the_same(swept, wandb_server):
    embedded, _, _ = swept
    root = str(embedded / "runs")
    assert main(["push", "--root", root, "--entity", ENTITY, "--project", "pushed"]) == 0
    assert graph(Server(WandbProject.chosen(ENTITY, "pushed"), remember=True)) == graph(Store(root))
    media = {key for run in wandb_server.project("pushed").runs.values() for key in run.summary}
    assert {"tables/table1", "report", "most_uncertain"} <= media


def test_another_machine_finds_it_all_done_and_makes_the_same_tables(swept, tmp_path):
    """An empty store beside the same project: no cell is trained again, and the tables come from W&B's scores."""
    _, shared, _ = swept
    result = sweep(tmp_path, "tracking=wandb", f"tracking.entity={ENTITY}", "tracking.project=sweep")
    assert result.returncode == 0, result.stderr + result.stdout
    assert result.stdout.count("was done already") == 4
    made, first = (json.loads((folder / "out/summary.json").read_text()) for folder in (tmp_path, shared))
    assert made == first
    assert not [artifact for artifact in Store(tmp_path / "runs").artifacts() if artifact.type == "model"]


def test_another_machine_scores_by_a_model_from_wandb(swept, wandb_server, tmp_path):
    """Another split, in an empty store: the model is taken from W&B, and W&B shows that it was used."""
    _, shared, _ = swept
    given = [override for override in SMALL_GRID[1:] if not override.startswith(("size=", "seed="))]
    place = [
        "tracking=wandb",
        f"tracking.entity={ENTITY}",
        "tracking.project=sweep",
        f"tracking.root={tmp_path / 'runs'}",
    ]
    command = [sys.executable, "-m", "infer", *given, *place, "size=nano", "seed=0", "infer.split=train"]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "logged scores-demo-nano-s0-train:v0" in result.stdout and "not delivered" not in result.stderr
    model = Store(shared / "runs").artifact("model-demo-nano-s0")
    assert Store(tmp_path / "runs").artifact("model-demo-nano-s0").digest == model.digest
    [run] = [
        run for run in wandb_server.project("sweep").runs.values() if run.name.startswith("infer-demo-nano-s0-train")
    ]
    assert model.digest in {artifact.digest for artifact in run.inputs}


def test_nothing_of_this_machine_is_sent(swept, wandb_server):
    _, shared, _ = swept
    received = b"\n".join(wandb_server.received)
    for text in (str(REPO), str(shared), os.path.expanduser("~") + "/"):
        found = re.search(re.escape(text.encode()), received)
        assert found is None, received[max(0, found.start() - 300) : found.end() + 100]


@pytest.mark.slow
def test_the_whole_demo_on_wandb(wandb_server, tmp_path):
    result = sweep(
        tmp_path, "tracking=wandb", f"tracking.entity={ENTITY}", "tracking.project=demo", grid=("sweep=demo",)
    )
    assert result.returncode == 0, result.stderr + result.stdout
    assert "not delivered" not in result.stderr
    store = Store(tmp_path / "runs")
    assert not Ledger(store, WandbProject.chosen(ENTITY, "demo").key).pending()
    assert graph(Server(WandbProject.chosen(ENTITY, "demo"), remember=True)) == graph(store)
    assert len(store.artifacts("model-*")) == 10
