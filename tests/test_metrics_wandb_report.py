"""The W&B Report page: made of what W&B holds, and updated, not made twice. Real wandb-workspaces, loopback server."""

import json
import subprocess
import sys

import pytest

from conf.errors import EdgewiseError
from conf.schema import Config, Dataset, Metrics
from metrics.stage import compute_metrics
from metrics.wandb_report import save_report
from tests.metrics_runs import log_scores
from tests.support import REPO
from tests.synthetic_scores import synthetic_grid
from tests.wandb_server import ENTITY
from tracking.__main__ import main
from tracking.store import Store
from tracking.wandb.project import WandbProject

PLACE = WandbProject(ENTITY, "report")


@pytest.fixture(scope="module")
def store(wandb_server, tmp_path_factory):
    """An embedded store with metrics of imdb in it, pushed."""
    folder = tmp_path_factory.mktemp("report")
    store = Store(folder / "runs")
    log_scores(store, synthetic_grid(seeds=2, examples=60, dataset="imdb"), folder / "scores")
    make(store, folder)
    push(store)
    return store


def make(store, folder, dataset="imdb"):
    metrics = Metrics(out=str(folder / "out"), resamples=10)
    compute_metrics(Config(dataset=Dataset(name=dataset), metrics=metrics), store)


def push(store):
    assert main(["push", "--root", str(store.root), "--entity", ENTITY, "--project", "report"]) == 0


def texts(value) -> str:
    """All text in a page's specification."""
    if isinstance(value, dict):
        return " ".join(texts(item) for item in value.values())
    if isinstance(value, list):
        return " ".join(texts(item) for item in value)
    return value if isinstance(value, str) else ""


def test_the_page_says_what_was_asked_and_where_the_numbers_come_from(store, wandb_server):
    report, is_new = save_report("imdb", PLACE)
    assert is_new and report.url.startswith(wandb_server.url)
    [view] = wandb_server.project("report").views
    assert view.display_name == "Edgewise: imdb" and view.type == "runs"
    spec = json.loads(view.spec)
    kinds = [block["type"] for block in spec["blocks"]]
    assert kinds.count("panel-grid") == 3 and kinds.count("markdown-block") == 3
    said = texts(spec)
    headings = [texts(block["children"]).strip() for block in spec["blocks"] if block["type"] == "heading"]
    assert headings == [
        "What was asked", "Runs", "Switcher curves", "Table 1", "Table 3", "Table 2: churn",
        "Where the numbers come from",
    ]  # fmt: skip
    metrics = store.artifact("metrics-imdb")
    for name in ("table1", "table2", "table3"):
        assert metrics.file(f"tables/{name}.md").read_text() in said
    assert metrics.digest in said
    for artifact in store.artifacts("scores-imdb-*"):
        assert artifact.ref in said and artifact.digest in said
        assert f"{wandb_server.url}/{ENTITY}/report/artifacts/scores/{artifact.name}/v0" in said
    assert "curves/switcher/small-base_table" in said and "wandb/lineseries/v0" in said
    assert "figures/fig1" in said
    # the panels' run sets are the grid's runs, by job type, grouped
    runsets = [
        runset for block in spec["blocks"] if block["type"] == "panel-grid" for runset in block["metadata"]["runSets"]
    ]
    assert [runset["name"] for runset in runsets] == ["training", "scoring", "metrics", "metrics"]
    assert all(runset["grouping"] for runset in runsets)


def test_the_same_command_updates_the_page(store, wandb_server, tmp_path):
    save_report("imdb", PLACE)
    [view] = wandb_server.project("report").views
    before, name = view.spec, view.name
    log_scores(store, synthetic_grid(seeds=3, examples=60, dataset="imdb"), tmp_path / "more")
    make(store, tmp_path)
    push(store)
    command = [sys.executable, "-m", "metrics.wandb_report", "dataset=imdb", f"tracking.entity={ENTITY}"]
    result = subprocess.run([*command, "tracking.project=report"], cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"updated {wandb_server.url}")
    [view] = wandb_server.project("report").views
    assert view.name == name or view.spec != before
    latest = store.artifact("metrics-imdb")
    assert latest.version == 1 and latest.digest in texts(json.loads(view.spec)) and latest.digest not in texts(before)


def test_without_metrics_at_wandb_it_says_how_to_get_them_there(store):
    with pytest.raises(EdgewiseError, match="holds no artifact metrics-other.*tracking push metrics-other"):
        save_report("other", PLACE)


def test_the_page_of_translations_shows_their_bleu_and_names_its_artifact(wandb_server, tmp_path):
    store = Store(tmp_path / "runs")
    grid = synthetic_grid(seeds=1, examples=40, dataset="my-translations", task="translation")
    log_scores(store, grid, tmp_path / "scores")
    make(store, tmp_path, "my-translations")
    assert main(["push", "--root", str(store.root), "--entity", ENTITY, "--project", "translations"]) == 0
    save_report("my-translations", WandbProject(ENTITY, "translations"))
    [view] = wandb_server.project("translations").views
    spec = json.loads(view.spec)
    said = texts(spec)
    assert "python -m tracking lineage metrics-my--translations --backend wandb" in said
    assert "small: 1 seed, bleu" in said
    panels = [panel for block in spec["blocks"] if block["type"] == "panel-grid" for panel in texts(block).split()]
    assert "bleu" in panels and "accuracy" not in panels
