"""The metrics stage on a store: what it consumes, what it logs, and that a second run has nothing to do."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Config, Dataset, Metrics, Report
from metrics.stage import compute_metrics, scores_artifacts
from tests.metrics_runs import log_scores
from tests.synthetic_scores import synthetic_grid, write_grid
from tracking.interface import ArtifactDraft
from tracking.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def config(out, force=False, **metrics):
    return Config(dataset=Dataset(name="imdb"), metrics=Metrics(out=str(out), resamples=10, **metrics), force=force)


def files(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture
def digests(store, tmp_path):
    result = log_scores(store, synthetic_grid(seeds=2, examples=40, dataset="imdb"), tmp_path / "a")
    # none of these is imdb's test split
    for other in (
        {"dataset": "imdb-noisy"},
        {"dataset": "imdb", "split": "dev"},
        {"dataset": "imdb", "split": "x-test"},
    ):
        log_scores(store, synthetic_grid(seeds=1, examples=40, **other), tmp_path / "b")
    return result


def test_consumes_and_logs(store, digests, out):
    assert compute_metrics(config(out), store) == out
    (run,) = store.runs(job_type="metrics")
    assert run.state == "finished" and run.id.startswith("metrics-imdb-")
    assert {a.name: a.digest for a in store.inputs(run.id)} == digests
    artifact = store.artifact("metrics-imdb")
    assert artifact.type == "metrics" and artifact.metadata["inputs"] == digests
    assert [a.digest for a in store.outputs(run.id)] == [artifact.digest]
    assert {name: artifact.file(name).read_bytes() for name in artifact.files} == files(out)
    listed = json.loads((out / "summary.json").read_text(encoding="utf-8"))["inputs"]
    assert {one["name"]: one["digest"] for one in listed} == digests


def test_again_is_nothing_to_do(store, digests, out):
    compute_metrics(config(out), store)
    before, said = files(out), []
    compute_metrics(config(out), store, said.append)
    assert len(said) == 1 and "is done already: metrics-imdb:v0" in said[0]
    (out / "tables" / "table1.csv").unlink()
    (out / "tables" / "table2.csv").write_text("changed")
    compute_metrics(config(out), store, said.append)
    assert files(out) == before and "restored" in said[-1]
    shutil.rmtree(out)
    compute_metrics(config(out), store)
    assert files(out) == before
    assert len(store.runs(job_type="metrics")) == 1


def test_force_makes_the_same_again(store, digests, out):
    compute_metrics(config(out), store)
    before, said = files(out), []
    compute_metrics(config(out, force=True), store, said.append)
    assert not any("done already" in text for text in said)
    assert files(out) == before
    assert [a.version for a in store.artifacts("metrics-imdb")] == [0]


def test_other_config_or_other_scores_are_another_run(store, digests, out, tmp_path):
    compute_metrics(config(out), store)
    compute_metrics(config(out, committee="mean_probability"), store)
    changed = log_scores(store, synthetic_grid(seeds=2, examples=40, dataset="imdb", seed=5), tmp_path / "a")
    compute_metrics(config(out), store)
    assert len(store.runs(job_type="metrics")) == 3
    assert store.artifact("metrics-imdb").metadata["inputs"] == changed
    # where the output goes is no part of what it is
    compute_metrics(config(tmp_path / "elsewhere"), store)
    assert len(store.runs(job_type="metrics")) == 3
    assert files(tmp_path / "elsewhere") == files(out)


def test_a_page_with_texts_never_stands_in_for_one_without(store, out, tmp_path):
    grid = synthetic_grid(seeds=1, examples=40, dataset="imdb", slices=False)
    text = np.array([f"private {k}" for k in range(40)], dtype=object)
    log_scores(store, [replace(one, text=text) for one in grid], tmp_path / "scores")
    quick = Metrics(out=str(out), resamples=0, beyond=False)
    pages = []
    for shown in ("auto", False):
        compute_metrics(Config(dataset=Dataset(name="imdb"), metrics=quick, report=Report(text=shown)), store)
        pages.append((out / "report" / "index.html").read_text(encoding="utf-8"))
    assert ['id="no-text"' in page for page in pages] == [False, True]
    assert len(store.runs(job_type="metrics")) == 2


def test_names_with_hyphens_are_told_apart(store, tmp_path):
    """(a, b-c) and (a-b, c) once had one artifact name, and the files of the one were read for the other."""
    sizes = {"a": {"b-c": (10, 1.5), "d": (20, 2.0)}, "a-b": {"c": (10, 1.5), "d": (20, 2.0)}}
    digests = {
        dataset: log_scores(
            store, synthetic_grid(of_dataset, seeds=2, examples=40, dataset=dataset, seed=k), tmp_path / "scores"
        )
        for k, (dataset, of_dataset) in enumerate(sizes.items())
    }
    assert not set(digests["a"]) & set(digests["a-b"])
    for dataset, name in (("a", "metrics-a"), ("a-b", "metrics-a--b")):
        made = compute_metrics(
            Config(dataset=Dataset(name=dataset), metrics=Metrics(out=str(tmp_path / name), resamples=10)), store
        )
        assert store.artifact(name).metadata["inputs"] == digests[dataset]
        summary = json.loads((made / "summary.json").read_text(encoding="utf-8"))
        assert {one["name"]: one["digest"] for one in summary["inputs"]} == digests[dataset]


def test_metadata_says_whose_scores_they_are_not_the_name(store, tmp_path):
    """A name from before hyphens were doubled is read, unless the cell has been scored since."""
    grid = synthetic_grid({"s": (10, 1.5), "t": (20, 2.0)}, seeds=1, examples=40, dataset="a-b")
    for one, path in zip(grid, write_grid(grid, tmp_path / "scores")):
        m = one.metadata
        metadata = {"dataset": m.dataset, "size": m.size, "seed": m.seed, "split": m.split}
        draft = ArtifactDraft(f"scores-a-b-{m.size}-s0-test", "scores", metadata, {"scores.parquet": path})
        with store.start_run(f"infer-{m.size}", job_type="infer", config={}) as run:
            run.log_artifact(draft)
    assert [a.name for a in scores_artifacts(store, "a-b", "test")] == ["scores-a-b-s-s0-test", "scores-a-b-t-s0-test"]
    assert scores_artifacts(store, "a", "test") == []
    log_scores(store, grid[:1], tmp_path / "again")
    assert [a.name for a in scores_artifacts(store, "a-b", "test")] == ["scores-a--b-s-s0-test", "scores-a-b-t-s0-test"]


def test_no_scores(store, out):
    with pytest.raises(EdgewiseError, match=r"python -m infer dataset=imdb"):
        compute_metrics(config(out), store)
    assert not out.exists() and store.runs() == []


def test_a_failure_leaves_nothing_half_done(store, out, tmp_path):
    log_scores(store, synthetic_grid({"small": (10, 1.5)}, seeds=1, examples=40, dataset="imdb"), tmp_path / "a")
    with pytest.raises(EdgewiseError, match="one run only"):
        compute_metrics(config(out), store)
    assert [run.state for run in store.runs(job_type="metrics")] == ["failed"]
    assert not out.exists() and store.artifacts("metrics-*") == []


def test_out_that_is_no_metrics_output_is_left_alone(store, digests, out):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(EdgewiseError, match="holds files but no"):
        compute_metrics(config(out), store)
    assert files(out) == {"notes.txt": b"mine"} and store.runs(job_type="metrics") == []
