"""The metrics stage on a store: what it consumes, what it logs, and that a second run has nothing to do."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Config, Dataset, Metrics, Report, Tracking
from metrics.misfits import advice_on_misfits
from metrics.stage import compute_metrics, metrics_of_scores, scores_artifacts
from metrics.text_baseline import TextBaseline
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


def test_again_is_nothing_to_do(store, digests, out, without_pictures):
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


def test_force_makes_the_same_again(store, digests, out, without_pictures):
    compute_metrics(config(out), store)
    before, said = files(out), []
    compute_metrics(config(out, force=True), store, said.append)
    assert not any("done already" in text for text in said)
    assert files(out) == before
    assert [a.version for a in store.artifacts("metrics-imdb")] == [0]


def test_other_config_or_other_scores_are_another_run(store, digests, out, tmp_path, without_pictures):
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


def test_names_with_hyphens_are_told_apart(store, tmp_path, without_pictures):
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


def test_tables_of_given_scores_are_of_those_whatever_the_latest_are(store, digests, out, tmp_path, without_pictures):
    given = [store.artifact(name) for name in digests]
    log_scores(store, synthetic_grid(seeds=2, examples=40, dataset="imdb", seed=5), tmp_path / "a")
    assert metrics_of_scores(config(out, split="dev"), store, given[::-1]) == out
    artifact = store.artifact("metrics-imdb")
    assert artifact.metadata["inputs"] == digests and artifact.metadata["split"] == "test"
    (run,) = store.runs(job_type="metrics")
    assert {a.name: a.digest for a in store.inputs(run.id)} == digests
    compute_metrics(config(out), store)
    assert store.artifact("metrics-imdb").metadata["inputs"] != digests


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"examples": 30}, "its number of examples is 30, not 40, its fingerprint of the data is synthetic-imdb-30"),
        ({"classes": 3}, 'its list of classes is ["class 0", "class 1", "class 2"], not ["class 0", "class 1"]'),
        ({"sizes": {"small": (77, 1.5)}}, "its number of parameters is 77, not 60000000"),
    ],
)
def test_latest_scores_that_do_not_fit_are_named_with_what_mends_it(
    store, digests, out, tmp_path, without_pictures, other, why
):
    log_scores(
        store,
        synthetic_grid(
            **{"sizes": {"small": (60_000_000, 1.5)}, "seeds": 1, "examples": 40, "dataset": "imdb", **other}
        ),
        tmp_path / "a",
    )
    with pytest.raises(EdgewiseError, match="scores-imdb-small-s0-test:v1 does not fit the others since 20") as caught:
        compute_metrics(config(out), store)
    command = "python -m tracking alias scores-imdb-small-s0-test:v0 latest"
    assert why in str(caught.value) and str(caught.value).count("does not fit") == 1
    assert command in str(caught.value)
    store.move_alias(store.artifact("scores-imdb-small-s0-test:v0"), "latest")
    compute_metrics(config(out), store)
    assert store.artifact("metrics-imdb").metadata["inputs"] == digests


def test_of_scores_that_are_as_frequent_the_first_count(store, tmp_path):
    sizes = {name: {name: (10, 1.5)} for name in ("s", "t")}
    for number, examples in enumerate((40, 30)):
        for of_size in sizes.values():
            log_scores(
                store, synthetic_grid(of_size, seeds=1, examples=examples, dataset="imdb"), tmp_path / str(number)
            )
            if number:
                break
    tracking = Tracking(backend="wandb", root="else where", entity="me", project="p")
    advice = advice_on_misfits(scores_artifacts(store, "imdb", "test"), store, tracking)
    assert advice.startswith("scores-imdb-s-s0-test:v1 does not fit the others since 20")
    assert "--root 'else where' --backend wandb --entity me --project p" in advice
    only = [store.artifact("scores-imdb-s-s0-test:v1")]
    assert advice_on_misfits(only, store, tracking) == ""


def test_scores_without_a_version_that_fits_are_to_be_made_again(store, digests, tmp_path):
    log_scores(store, synthetic_grid({"large": (9, 1.5)}, seeds=1, examples=30, dataset="imdb"), tmp_path / "b")
    advice = advice_on_misfits(scores_artifacts(store, "imdb", "test"), store, Tracking())
    assert "scores-imdb-large-s0-test:v0 does not fit" in advice and "None of its other versions fits" in advice


def test_of_several_versions_that_fit_the_one_that_the_latest_tables_are_of_is_named(
    store, digests, out, tmp_path, without_pictures
):
    """An attempt with other settings fits as well, and is newer."""
    one = {"sizes": {"small": (60_000_000, 1.5)}, "seeds": 1, "dataset": "imdb"}
    for kept in (True, False):
        if not kept:
            compute_metrics(config(out), store)  # of v0
        log_scores(store, synthetic_grid(**one, examples=40, seed_noise=0.3), tmp_path / "a")
        log_scores(store, synthetic_grid(**one, examples=30), tmp_path / "a")
        advice = advice_on_misfits(scores_artifacts(store, "imdb", "test"), store, Tracking())
        assert f"alias scores-imdb-small-s0-test:{'v1' if kept else 'v0'} latest" in advice
        store.move_alias(store.artifact("scores-imdb-small-s0-test:v0"), "latest")


def test_sizes_are_put_beside_the_baseline_in_the_scores_metadata(store, out, tmp_path, without_pictures):
    grid = synthetic_grid(seeds=2, examples=40, dataset="imdb", slices=False)
    log_scores(store, grid, tmp_path / "a")
    compute_metrics(config(out), store)
    assert not (out / "tables" / "baseline.csv").exists()
    baseline = TextBaseline(0.75, 40, 100, 100, "tfidf")
    log_scores(store, grid, tmp_path / "a", baseline=baseline.as_metadata())
    later = synthetic_grid(seeds=2, examples=40, dataset="imdb", slices=False, seed=9)  # a version's metadata stays
    log_scores(store, later, tmp_path / "a", baseline=baseline.as_metadata())
    compute_metrics(config(out), store)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["notes"][0].startswith(
        "TF-IDF with logistic regression, learned from the 100 training rows, is right"
    )
    rows = summary["beyond"]["baseline"]["rows"]
    assert [row["size"] for row in rows] == [size["name"] for size in summary["datasets"]["imdb"]["sizes"]]
    for row, size in zip(rows, summary["datasets"]["imdb"]["sizes"], strict=True):
        assert row["over_baseline"] == pytest.approx(100 * size["accuracy"]["value"] - 75)
    assert "Notes:" in (out / "tables" / "table1.md").read_text() and (out / "tables" / "baseline.md").is_file()
    compute_metrics(config(out, beyond=False), store)
    assert not (out / "tables" / "baseline.csv").exists()
