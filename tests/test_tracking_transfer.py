"""An embedded store pushed to W&B and pulled back; lineage and queries say the same on both sides."""

import itertools
import json
import os
import re
import socket
from pathlib import Path

import pytest

from tests.support import REPO
from tests.wandb_server import ENTITY
from tracking.__main__ import main
from tracking.interface import ArtifactDraft
from tracking.lineage import as_json, lineage
from tracking.query import Query, find_artifacts, find_runs
from tracking.store import Store
from tracking.wandb.project import WandbProject
from tracking.wandb.server import Server
from tracking.wandb.tracker import WandbTracker

PROJECT = "transfer"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


def make_store(folder: Path, prefix: str = "") -> Store:
    """Data, two sizes × two seeds, their scores, the metrics made of them; what runs say has paths and a key in it."""
    store, count = Store(folder / "runs"), itertools.count()

    def draft(name: str, type: str, metadata: dict, *files: str) -> ArtifactDraft:
        artifact = ArtifactDraft(name, type, metadata)
        for file in files or ("content",):
            path = folder / f"source-{next(count)}"
            path.write_text(f"{prefix}{name} {file}")
            artifact.add_file(path, file)
        return artifact

    with store.start_run("data-demo-0", job_type="data", config={"dataset": "demo", "source": "abc"}) as run:
        data = run.log_artifact(draft("data-demo", "data", {"dataset": "demo"}))
    scores = []
    for size, seed in itertools.product(("nano", "micro"), (0, 1)):
        cell = {"dataset": {"name": "demo"}, "size": {"name": size}, "seed": seed, "train": {"steps": 600 + seed}}
        cell["notes"] = f"from {folder}/somewhere by {os.environ['WANDB_API_KEY']}"
        name, tags = f"demo-{size}-s{seed}", ["demo", size]
        with store.start_run(f"train-{name}", job_type="train", config=cell, group="g", tags=tags) as run:
            run.use_artifact(data)
            for step in range(0, 40, 10):
                run.log({"loss": 1 / (step + 1)}, step)
            model = run.log_artifact(draft(f"model-{name}", "model", {"cell": cell, "parameters": 10}))
        config = {"dataset": {"name": "demo"}, "model": model.digest}
        with store.start_run(f"infer-{name}", job_type="infer", config=config, group="g", tags=tags) as run:
            run.use_artifact(model)
            run.use_artifact(data)
            about = {"dataset": "demo", "size": size, "seed": seed, "accuracy": 0.5}
            scores.append(run.log_artifact(draft(f"scores-{name}-test", "scores", about, "scores.parquet")))
    (folder / "figure.png").write_bytes(PNG)
    with store.start_run("metrics-demo-0", job_type="metrics", config={"dataset": {"name": "demo"}}) as run:
        for artifact in scores:
            run.use_artifact(artifact)
        metadata = {"dataset": "demo", "inputs": {artifact.name: artifact.digest for artifact in scores}}
        run.log_artifact(draft("metrics-demo", "metrics", metadata, "tables/table1.csv", "summary.json"))
        run.log_table("inputs", ["name", "digest"], [[artifact.name, artifact.digest] for artifact in scores])
        run.log_image("figures/fig1", folder / "figure.png")
    with store.start_run("train-failed", job_type="train", config={"dataset": {"name": "demo"}}, restart=True) as run:
        run.finish("failed", f'Traceback:\n  File "{REPO}/train/loop.py", line 1\nOSError: {folder}/rows.csv is gone')
    return store


@pytest.fixture(scope="module")
def pushed(wandb_server, tmp_path_factory):
    """The store after `python -m tracking push`, with the flags that name the place."""
    store = make_store(tmp_path_factory.mktemp("pushed"))
    place = ["--root", str(store.root), "--entity", ENTITY, "--project", PROJECT]
    assert main(["push", *place]) == 0
    return store, place


def edges(reader, ref: str) -> set:
    return {(edge["kind"], edge["run"], edge["artifact"]) for edge in as_json(lineage(reader, ref))["edges"]}


def test_a_push_gives_the_same_digests_versions_and_edges(pushed, wandb_server):
    store, _ = pushed
    project = wandb_server.project(PROJECT)
    held = {(c.name, v.version): v for c in project.collections.values() for v in c.versions if c.type != "run_table"}
    assert {key: version.digest for key, version in held.items()} == {
        (a.name, a.version): a.digest for a in store.versions()
    }
    for record in store.runs():
        run = project.runs[record.id]
        assert [a.digest for a in run.inputs] == [a.digest for a in store.inputs(record.id)]
        assert [a.digest for a in run.outputs if a.collection.type != "run_table"] == [
            a.digest for a in store.outputs(record.id)
        ]
        assert (run.group, run.job_type, run.tags) == (record.group, record.job_type, record.tags)
    for artifact in store.versions():
        assert held[artifact.name, artifact.version].files == {n: file.md5 for n, file in artifact.files.items()}
        assert held[artifact.name, artifact.version].aliases == ["latest"]


def test_lineage_is_the_same_on_both_backends(pushed, capsys):
    store, place = pushed
    server = Server(WandbProject.chosen(ENTITY, PROJECT), remember=True)
    for ref in ("scores-demo-micro-s1-test", "data-demo", "metrics-demo:v0"):
        here, there = as_json(lineage(store, ref)), as_json(lineage(server, ref))
        assert edges(server, ref) == edges(store, ref)
        assert set(there["upstream"]) == set(here["upstream"]) and set(there["downstream"]) == set(here["downstream"])
        assert there["artifacts"] == here["artifacts"]
        assert {r: (v["job_type"], v["state"], v["group"], v["code_version"]) for r, v in there["runs"].items()} == {
            r: (v["job_type"], v["state"], v["group"], v["code_version"]) for r, v in here["runs"].items()
        }
    capsys.readouterr()
    assert main(["lineage", "data-demo", *place, "--backend", "wandb"]) == 0
    drawn = capsys.readouterr().out
    assert "tables/table1.csv" in drawn and "run train-demo-nano-s0" in drawn
    digest = store.artifact("data-demo").digest
    assert main(["lineage", digest[:10], *place, "--backend", "wandb", "--json"]) == 0
    assert "metrics-demo:v0" in json.loads(capsys.readouterr().out)["downstream"]


@pytest.mark.parametrize("backend", ["local", "wandb"])
def test_queries_find_by_what_things_are_about(pushed, backend):
    store, _ = pushed
    reader = store if backend == "local" else Server(WandbProject.chosen(ENTITY, PROJECT), remember=True)

    def artifacts(**asked) -> list[str]:
        return [found.artifact.name for found in find_artifacts(reader, Query(**asked))]

    def runs(**asked) -> list[str]:
        return sorted(found.record.id for found in find_runs(reader, Query(**asked)))

    nano = ["model-demo-nano-s0", "model-demo-nano-s1", "scores-demo-nano-s0-test", "scores-demo-nano-s1-test"]
    assert artifacts(dataset="demo", size="nano") == nano
    assert artifacts(type="scores", seed=1) == ["scores-demo-micro-s1-test", "scores-demo-nano-s1-test"]
    assert artifacts(dataset="other") == []
    # a config value of a run upstream: scores have that of the model's training
    assert artifacts(type="scores", size="micro", values={"train.steps": "601"}) == ["scores-demo-micro-s1-test"]
    assert artifacts(type="metrics", values={"train.steps": "600"}) == ["metrics-demo"]
    assert artifacts(type="scores", values={"train.steps": "7"}) == []
    assert runs(state="failed") == ["train-failed"]
    assert runs(job_type="train", values={"train.steps": "600"}) == ["train-demo-micro-s0", "train-demo-nano-s0"]
    assert runs(uses="scores-demo-nano-s0-test", dataset="demo") == ["metrics-demo-0"]
    assert artifacts(uses=store.artifact("model-demo-nano-s0").digest) == ["scores-demo-nano-s0-test"]


@pytest.mark.parametrize("backend", ["local", "wandb"])
def test_a_metric_table_names_the_scores_that_it_consumed_and_the_query_proves_it(
    pushed, backend, capsys, wandb_server
):
    store, place = pushed
    capsys.readouterr()
    assert main(["query", "--type", "metrics", "--json", *place, "--backend", backend]) == 0
    [found] = json.loads(capsys.readouterr().out)["artifacts"]
    assert main(["show", "metrics-demo", "--json", *place, "--backend", backend]) == 0
    named = json.loads(capsys.readouterr().out)["metadata"]["inputs"]
    assert named == {made["artifact"].partition(":")[0]: made["digest"] for made in found["made_from"]}
    assert set(named.values()) == {artifact.digest for artifact in store.artifacts("scores-*")}
    # and the table that W&B shows names the same
    run = wandb_server.project(PROJECT).runs["metrics-demo-0"]
    shown = json.loads(run.files[run.summary["inputs"]["path"]])
    assert dict(shown["data"]) == named


def test_nothing_of_this_machine_is_sent(pushed, wandb_server):
    """Every byte that the server received: request lines, headers and bodies."""
    store, _ = pushed
    received = b"\n".join(wandb_server.received)
    assert b"train-demo-nano-s0" in received  # it is the right haystack
    forbidden = {
        str(REPO),
        str(Path.home()),
        str(store.root),
        str(store.root.parent),
        socket.gethostname(),
        os.getcwd(),
    }
    for text in forbidden:
        found = re.search(
            rb"\b" + re.escape(text.encode()) + rb"\b", received
        )  # a short host name may be in a random id
        assert found is None, f"{text}: {received[max(0, found.start() - 300) : found.end() + 60]!r}"
    for artifact in wandb_server.state.artifacts.values():
        for entry in json.loads(artifact.manifest or b'{"contents": {}}')["contents"].values():
            assert not os.path.isabs(entry["local_path"]) and ".." not in entry["local_path"], entry
    key = os.environ["WANDB_API_KEY"].encode()
    bodies = b"\n".join(part.split(b"\n\n", 1)[-1] for part in wandb_server.received)
    assert key not in bodies
    config = wandb_server.project(PROJECT).runs["train-demo-nano-s0"].config
    assert config["notes"]["value"] == "from …/somewhere by [secret]"
    assert (
        wandb_server.project(PROJECT).runs["train-failed"].summary["edgewise"]["error"] == "OSError: …/rows.csv is gone"
    )


def test_a_second_push_sends_nothing_and_again_sends_what_is_gone(pushed, wandb_server, capsys):
    _, place = pushed
    wandb_server.requests.clear()
    assert main(["push", *place]) == 0
    assert "no runs sent just now" in capsys.readouterr().out
    assert not [what for what in wandb_server.requests if what in ("UpsertBucket", "CreateArtifact", "UseArtifact")]
    project = wandb_server.project(PROJECT)
    project.runs["metrics-demo-0"].inputs.pop().used_by.clear()
    lost = project.collections.pop("metrics-demo").versions[0]
    project.runs["metrics-demo-0"].outputs.remove(lost)
    assert main(["push", *place, "--again", "--json"]) == 0
    assert "metrics-demo-0" in json.loads(capsys.readouterr().out)["delivered"]
    assert len(project.runs["metrics-demo-0"].inputs) == 4
    assert [version.digest for version in project.collections["metrics-demo"].versions] == [lost.digest]


def test_a_push_says_where_it_sends_texts_of_examples(tmp_path, capsys, wandb_server):
    store = Store(tmp_path / "runs")
    (tmp_path / "rows").write_text("a text")
    for name, columns in (("with", ["text"]), ("without", [])):
        with store.start_run(f"infer-{name}", job_type="infer", config={}) as run:
            metadata = {"optional_columns": columns}
            run.log_artifact(ArtifactDraft(f"scores-{name}", "scores", metadata, {"rows": tmp_path / "rows"}))
    assert main(["push", "--root", str(store.root), "--entity", ENTITY, "--project", "texts"]) == 0
    assert "texts of examples are sent too: 1 artifact of scores" in capsys.readouterr().err


def test_a_push_of_one_artifact_brings_all_upstream_of_it_and_no_more(pushed, wandb_server):
    store, place = pushed
    assert main(["push", "scores-demo-nano-s1-test", *place, "--project", "part"]) == 0
    assert set(wandb_server.project("part").runs) == {"data-demo-0", "train-demo-nano-s1", "infer-demo-nano-s1"}
    assert edges(Server(WandbProject.chosen(ENTITY, "part")), "scores-demo-nano-s1-test") == {
        edge for edge in edges(store, "scores-demo-nano-s1-test") if edge[1] != "metrics-demo-0"
    }
    assert main(["push", "nothing", *place]) == 1


def test_a_pull_brings_the_store_back(pushed, tmp_path, capsys, wandb_server):
    store, _ = pushed
    place = ["--root", str(tmp_path / "runs"), "--entity", ENTITY, "--project", PROJECT]
    assert main(["pull", "scores-demo-nano-s0-test", *place]) == 0
    with_upstream = Store(tmp_path / "runs")
    assert {a.name for a in with_upstream.artifacts()} == {
        "data-demo", "model-demo-nano-s0", "scores-demo-nano-s0-test"
    }  # fmt: skip
    assert main(["pull", *place]) == 0
    pulled = Store(tmp_path / "runs")
    assert {(a.ref, a.digest, *a.aliases) for a in pulled.artifacts()} == {
        (a.ref, a.digest, *a.aliases) for a in store.artifacts()
    }
    for ref in ("data-demo", "metrics-demo"):
        assert edges(pulled, ref) == edges(store, ref)
    for record in store.runs():
        there = pulled.run(record.id)
        for key in ("job_type", "name", "group", "state", "summary", "tags", "code_version"):
            assert getattr(there, key) == getattr(record, key), key
        assert pulled.history(record.id) == store.history(record.id)
    assert pulled.artifact("model-demo-nano-s0").file("content").read_text() == "model-demo-nano-s0 content"
    # what came from there need not be sent back
    wandb_server.requests.clear()
    assert main(["push", *place]) == 0
    assert "UpsertBucket" not in wandb_server.requests
    capsys.readouterr()
    assert main(["pull", *place]) == 0
    assert capsys.readouterr().out.startswith("0 runs and 0 artifact versions")


def spoiled(server, store, name, do):
    """Runs `do` while W&B holds another content of an artifact's only file."""
    md5 = store.blobs.path(next(iter(store.artifact(name).files.values())).md5).name
    whole = server.state.blobs[md5]
    server.state.blobs[md5] = whole[:-1] + b"?"
    try:
        return do()
    finally:
        server.state.blobs[md5] = whole


def test_one_damaged_artifact_does_not_keep_back_the_rest_of_a_pull(pushed, tmp_path, capsys, wandb_server):
    store, _ = pushed
    place = ["--root", str(tmp_path / "runs"), "--entity", ENTITY, "--project", PROJECT]
    assert spoiled(wandb_server, store, "model-demo-nano-s0", lambda: main(["pull", *place])) == 1
    said = capsys.readouterr()
    assert "not brought: model-demo-nano-s0:v0: " in said.out and "model-demo-nano-s0:v0: not brought" in said.err
    pulled = Store(tmp_path / "runs")
    names = {artifact.name for artifact in store.artifacts()}
    assert {artifact.name for artifact in pulled.artifacts()} == names - {"model-demo-nano-s0"}
    assert [record.id for record in pulled.runs()] == [record.id for record in store.runs()]
    assert not list(pulled.blobs.scratch.iterdir())
    assert main(["pull", *place]) == 0  # whole again: what is missing comes
    assert {artifact.name for artifact in pulled.artifacts()} == names
    assert edges(pulled, "metrics-demo") == edges(store, "metrics-demo")


def test_a_push_again_repairs_what_is_damaged_at_wandb(tmp_path, capsys, wandb_server):
    store = make_store(tmp_path, "repaired ")
    place = ["--root", str(store.root), "--entity", ENTITY, "--project", "repair"]
    wanted = ["scores-demo-nano-s1-test"]
    assert main(["push", *wanted, *place]) == 0
    md5 = store.blobs.path(store.artifact("model-demo-nano-s1").files["content"].md5).name
    wandb_server.state.blobs[md5] = b"damaged"
    assert main(["push", *wanted, *place]) == 0  # by the record, all is there
    assert wandb_server.state.blobs[md5] == b"damaged"
    assert main(["push", *wanted, *place, "--again"]) == 0
    assert wandb_server.state.blobs[md5] == b"repaired model-demo-nano-s1 content"
    [version] = wandb_server.project("repair").collections["model-demo-nano-s1"].versions
    assert version.digest == store.artifact("model-demo-nano-s1").digest and version.aliases == ["latest"]
    there = Server(WandbProject.chosen(ENTITY, "repair"))
    assert {(kind, run) for kind, run, _ in edges(there, wanted[0])} == {
        (kind, run) for kind, run, _ in edges(store, wanted[0]) if run != "metrics-demo-0"
    }
    assert main(["pull", "--root", str(tmp_path / "pulled"), *place[2:]]) == 0
    assert Store(tmp_path / "pulled").artifact(wanted[0]).digest == store.artifact(wanted[0]).digest


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/secret", "file:///etc/passwd", "s3://bucket/key"])
def test_an_artifact_that_refers_elsewhere_is_refused_before_any_use(pushed, tmp_path, capsys, wandb_server, address):
    _, place = pushed
    [version] = wandb_server.project(PROJECT).collections["metrics-demo"].versions
    whole, manifest = version.manifest, json.loads(version.manifest)
    manifest["contents"]["summary.json"] |= {"ref": address}
    version.manifest = json.dumps(manifest).encode()
    try:
        for command in (
            ["get", "metrics-demo", str(tmp_path / "out"), "--backend", "wandb"],
            ["ls", "--backend", "wandb"],
        ):
            assert main([*command, *place]) == (1 if command[0] == "get" else 0)
        said = capsys.readouterr().err
        assert f"its entry 'summary.json' refers to {address}, and references are not followed" in said
        assert not (tmp_path / "out").exists()
        other = ["--root", str(tmp_path / "runs"), *place[2:]]
        assert main(["pull", *other]) == 1 and "not brought: metrics-demo:v0: " in capsys.readouterr().out
        assert len(Store(tmp_path / "runs").versions()) == 9
    finally:
        version.manifest = whole


def test_two_machines_with_one_sweep_have_a_run_each_in_one_group(tmp_path, capsys, wandb_server):
    stores = []
    for machine in ("one", "two"):
        store = Store(tmp_path / machine)
        config = {"cells": [machine]}
        with store.start_run("sweep-night", job_type="sweep", name="night", group="night", config=config) as run:
            run.set_summary({"done": 1})
        place = ["--root", str(store.root), "--entity", ENTITY, "--project", "machines"]
        assert main(["push", *place]) == 0
        stores.append((store, place))
    runs = wandb_server.project("machines").runs
    assert len(runs) == 2 and all(re.fullmatch("sweep-night-[0-9a-f]{8}", name) for name in runs)
    assert {run.group for run in runs.values()} == {"night"}
    assert sorted(run.config["cells"]["value"] for run in runs.values()) == [["one"], ["two"]]
    for store, place in stores:  # what is this machine's own does not come back, the other's does
        assert main(["pull", *place]) == 0
        assert len(store.runs()) == 2 and store.run("sweep-night").config == {"cells": [store.root.name]}
        wandb_server.requests.clear()
        assert main(["push", *place]) == 0 and "UpsertBucket" not in wandb_server.requests
    store, place = stores[0]
    with store.start_run("sweep-night", job_type="sweep", group="night", config={"cells": []}, restart=True):
        pass
    tracker = WandbTracker(store.root, WandbProject.chosen(ENTITY, "machines"))
    tracker.ledger.restart_run("sweep-night")
    assert len(tracker.runs(job_type="sweep")) == 2
    tracker.close()
    assert main(["push", *place]) == 0 and len(runs) == 3
    assert sum("edgewise:superseded" in run.tags for run in runs.values()) == 1


def test_commands_that_mend_the_store_are_not_for_wandb(pushed, capsys):
    _, place = pushed
    for command in (["verify"], ["gc"]):
        assert main([*command, *place, "--backend", "wandb"]) == 1
        assert "leave out --backend wandb" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--runs"], ["ls", "model-*", "--json"], ["query", "seed=1"]])
def test_the_commands_print_from_wandb(pushed, arguments, capsys):
    _, place = pushed
    capsys.readouterr()
    assert main([*arguments, *place, "--backend", "wandb"]) == 0
    printed = capsys.readouterr().out
    assert "demo-nano-s1" in printed
