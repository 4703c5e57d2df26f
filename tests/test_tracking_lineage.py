"""Lineage over the store, and over any other tracker."""

import itertools
import json

import pytest
from rich.console import Console

from tracking.interface import ArtifactDraft, NotFound
from tracking.lineage import as_json, as_tree, lineage
from tracking.store import Store


@pytest.fixture
def log(tmp_path):
    """Logs an artifact by a run that used others; returns its reference."""
    store = Store(tmp_path / "runs")
    number = itertools.count()

    def log(run_id: str, name: str | None, used: tuple = (), content: str | None = None, files: tuple = ("file",)):
        with store.start_run(run_id, job_type="train", config={}) as run:
            for ref in used:
                run.use_artifact(ref)
            if name is None:
                return None
            draft = ArtifactDraft(name, name.split("-")[0])
            source = tmp_path / f"source-{next(number)}"
            source.write_text(content or source.name)
            for file in files:
                draft.add_file(source, file)
            return run.log_artifact(draft).ref

    log.store = store
    yield log
    store.close()


@pytest.fixture
def sweep(log):
    """Two cells of one dataset, their scores, and the metrics made of them."""
    log("prepare", "data-imdb")
    for size in ("small", "base"):
        log(f"train-{size}", f"model-{size}", ("data-imdb",))
        log(f"infer-{size}", f"scores-{size}", (f"model-{size}", "data-imdb"))
    tables = ("tables/table1.csv", "tables/table2.csv", "summary.json")
    log("metrics", "metrics-imdb", ("scores-small", "scores-base"), files=tables)
    return log.store


def drawn(graph) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(as_tree(graph))
    console.file.close()
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_upstream_reaches_the_data_and_downstream_every_table(sweep):
    graph = as_json(lineage(sweep, "scores-small"))
    assert graph["artifact"] == "scores-small:v0"
    assert graph["upstream"] == ["model-small:v0", "data-imdb:v0"]
    assert graph["downstream"] == ["metrics-imdb:v0"]
    assert graph["artifacts"]["metrics-imdb:v0"]["files"] == ["summary.json", "tables/table1.csv", "tables/table2.csv"]
    assert set(graph["runs"]) == {"infer-small", "train-small", "prepare", "metrics"}
    edges = {(edge["kind"], edge["run"], edge["artifact"]) for edge in graph["edges"]}
    assert edges == {
        ("logged", "infer-small", "scores-small:v0"),
        ("used", "infer-small", "model-small:v0"),
        ("used", "infer-small", "data-imdb:v0"),
        ("logged", "train-small", "model-small:v0"),
        ("used", "train-small", "data-imdb:v0"),
        ("logged", "prepare", "data-imdb:v0"),
        ("used", "metrics", "scores-small:v0"),
        ("logged", "metrics", "metrics-imdb:v0"),
    }
    assert len(graph["edges"]) == len(edges)
    assert json.loads(json.dumps(graph, allow_nan=False)) == graph
    data = as_json(lineage(sweep, "data-imdb:v0"))
    assert data["upstream"] == [] and data["downstream"][-1] == "metrics-imdb:v0" and len(data["downstream"]) == 5
    metrics = as_json(lineage(sweep, sweep.artifact("metrics-imdb")))
    assert len(metrics["upstream"]) == 5 and metrics["downstream"] == []
    with pytest.raises(NotFound):
        lineage(sweep, "scores-large")


def test_the_tree(sweep):
    digest = {artifact.ref: artifact.digest[:12] for artifact in sweep.artifacts()}
    code = sweep.run("metrics").code_version
    version, _, commit = code.partition("+")
    code = f"{version}+{commit[:12]}" + "-dirty" * code.endswith("-dirty")
    assert (
        drawn(lineage(sweep, "scores-small"))
        == f"""\
scores-small:v0  scores  {digest["scores-small:v0"]}
├── upstream: where it came from
│   └── logged by run infer-small  train  finished  {code}
│       ├── used model-small:v0  model  {digest["model-small:v0"]}
│       │   └── logged by run train-small  train  finished  {code}
│       │       └── used data-imdb:v0  data  {digest["data-imdb:v0"]}
│       │           └── logged by run prepare  train  finished  {code}
│       └── used data-imdb:v0  data  {digest["data-imdb:v0"]}  (see above)
└── downstream: what was made of it
    └── used by run metrics  train  finished  {code}
        └── logged metrics-imdb:v0  metrics  {digest["metrics-imdb:v0"]}
            ├── tables/table1.csv
            └── tables/table2.csv"""
    )


def test_an_artifact_that_stands_alone(log):
    log("r", "data-imdb")
    text = drawn(lineage(log.store, "data-imdb"))
    assert "logged by run r" in text and text.endswith("└── nothing recorded")


def test_cycles_end(log):
    log("one", "a", content="a")
    log("two", "b", ("a",), content="b")
    log("three", "a", ("b",), content="a")  # the same content again: a:v0, now also made from b
    log("two", "b", ("b",), content="b")  # and a run that logs what it uses
    graph = as_json(lineage(log.store, "a"))
    assert graph["upstream"] == graph["downstream"] == ["b:v0"]
    assert len(graph["edges"]) == 6 and set(graph["runs"]) == {"one", "two", "three"}
    assert "(see above)" in drawn(lineage(log.store, "a"))


def test_a_chain_longer_than_the_call_stack(log):
    # On a tracker that is no store: lineage needs nothing but the interface.
    length = 3000

    class Chain:
        def artifact(self, ref):
            return Made(int(ref))

        def logged_by(self, artifact):
            return [Did(artifact.number)]

        def used_by(self, artifact):
            return [Did(artifact.number + 1)] if artifact.number + 1 < length else []

        def inputs(self, run_id):
            return [Made(int(run_id) - 1)] if int(run_id) else []

        def outputs(self, run_id):
            return [Made(int(run_id))]

    class Made:
        type, digest, aliases, files = "t", "d" * 32, [], {}

        def __init__(self, number):
            self.number, self.ref = number, f"a:v{number}"

    class Did:
        job_type, name, group, state, code_version, started, ended = "train", "n", None, "finished", "c", 0.0, 1.0

        def __init__(self, number):
            self.id = str(number)

    graph = lineage(Chain(), "0")
    assert len(as_json(graph)["downstream"]) == length - 1
    tree, depth = as_tree(graph), 0
    while tree.children:
        tree, depth = tree.children[-1], depth + 1
    assert depth == 2 * (length - 1) + 1
