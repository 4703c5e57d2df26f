"""One contract, two backends. What one process writes, another sees: at W&B, one with an empty store of its own.

The W&B side is the real SDK, online, against the loopback server; it is asked through W&B's public API.
"""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPO
from tests.wandb_server import ENTITY
from tracking.interface import ArtifactDraft, NotFound, Tracker, TrackingError
from tracking.store import Store

PROJECT = "contract"


class Backend:
    """`writer` and, after `seen()`, what another machine reads."""

    writer: Tracker

    def __init__(self, folder: Path, server=None) -> None:
        self.folder, self.server, self._count = folder, server, itertools.count()
        if server is None:
            self.writer = Store(folder / "runs")
        else:
            self.writer = self._at_wandb("runs")
            self._reader = self._at_wandb("elsewhere")

    def _at_wandb(self, root: str) -> Tracker:
        from tracking.wandb.project import WandbProject
        from tracking.wandb.tracker import WandbTracker

        return WandbTracker(self.folder / root, WandbProject.chosen(ENTITY, PROJECT))

    def seen(self) -> Tracker:
        if self.server is None:
            return Store(self.folder / "runs")
        assert not self.writer.flush(), "W&B has not confirmed all of it"
        return self._reader

    def draft(self, name: str, type: str = "model", metadata: dict | None = None, **files: str) -> ArtifactDraft:
        draft = ArtifactDraft(name, type, metadata or {})
        for file, content in (files or {"content": name}).items():
            path = self.folder / f"source-{next(self._count)}"
            path.write_text(content)
            draft.add_file(path, file)
        return draft


@pytest.fixture(scope="module", params=["local", "wandb"])
def backend(request, tmp_path_factory):
    server = request.getfixturevalue("wandb_server") if request.param == "wandb" else None
    backend = Backend(tmp_path_factory.mktemp(request.param), server)
    yield backend
    backend.writer.close()


def test_a_run_is_seen_as_it_was_given(backend):
    config = {"train": {"steps": 600, "rate": 0.1, "notes": None}, "classes": [["0", "negative"]], "seed": 0}
    with backend.writer.start_run(
        "given", job_type="train", config=config, name="train demo", group="sweep-a", tags=["demo", "nano"]
    ) as run:
        run.set_summary({"parameters": 12_345, "nested": {"a": [1, 2.5]}, "name": "x"})
    record = backend.seen().run("given")
    assert (record.id, record.job_type, record.name, record.group) == ("given", "train", "train demo", "sweep-a")
    assert (record.state, record.tags, record.config) == ("finished", ["demo", "nano"], config)
    assert record.summary == {"parameters": 12_345, "nested": {"a": [1, 2.5]}, "name": "x"}
    here = backend.writer.run("given")
    assert record.code_version == here.code_version and record.started == pytest.approx(here.started, abs=1e-3)
    assert backend.seen().run("never-there") is None


def test_metrics_come_back_step_by_step_and_the_last_are_the_summary(backend):
    points = [{"step": 10 * n, "loss": 1 / (n + 1), "rate": 0.5} for n in range(30)]
    with backend.writer.start_run("metrics", job_type="train", config={}) as run:
        for point in points:
            run.log({"loss": point["loss"], "rate": point["rate"]}, point["step"])
        run.log({"loss": float("nan")}, 300)
        run.log({"loss": float("inf"), "accuracy": 0.75}, 310)
    seen = backend.seen()
    history = seen.history("metrics")
    assert history[:-2] == points
    assert history[-2]["step"] == 300 and history[-2]["loss"] != history[-2]["loss"]
    assert history[-1] == {"step": 310, "loss": float("inf"), "accuracy": 0.75}
    assert seen.run("metrics").summary == {"loss": float("inf"), "rate": 0.5, "accuracy": 0.75}


def test_how_a_run_ended_is_seen(backend):
    with pytest.raises(RuntimeError), backend.writer.start_run("fails", job_type="train", config={}):
        raise RuntimeError("no such luck")
    backend.writer.start_run("stops", job_type="train", config={}).finish("stopped", "stopped by signal 15")
    seen = backend.seen()
    assert seen.run("fails").state == "failed" and "no such luck" in seen.run("fails").error
    assert (seen.run("stops").state, seen.run("stops").error) == ("stopped", "stopped by signal 15")
    assert seen.run("stops").ended == pytest.approx(backend.writer.run("stops").ended, abs=1e-3)


def test_an_artifact_is_logged_used_and_downloaded(backend, tmp_path):
    metadata = {"size": "small", "seed": 0, "nested": {"a": [1, None]}}
    draft = backend.draft("whole", metadata=metadata, **{"weights": "abc", "tables/table1.csv": "a,b\n1,2\n"})
    with backend.writer.start_run("logs-whole", job_type="train", config={}) as run:
        logged = run.log_artifact(draft, aliases=["best"])
    seen = backend.seen()
    artifact = seen.artifact("whole:latest")
    assert (artifact.ref, artifact.type, artifact.metadata) == ("whole:v0", "model", metadata)
    assert artifact.digest == logged.digest and artifact.files == logged.files
    assert set(artifact.aliases) == {"latest", "best"}
    assert artifact.file("weights").read_text() == "abc"
    assert seen.artifact("whole:best").download(tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out/tables/table1.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(NotFound, match="weights"):
        artifact.file("nothing")


def test_a_run_elsewhere_uses_what_was_logged_here(backend):
    """A metrics job on another machine: its store is empty, W&B has the scores."""
    with backend.writer.start_run("logs-scores", job_type="infer", config={}) as run:
        logged = run.log_artifact(backend.draft("scores-x-s0-test", "scores", {"accuracy": 0.5}, scores="1 2 3"))
    elsewhere = backend.seen()
    with elsewhere.start_run("uses-scores", job_type="metrics", config={}) as run:
        used = run.use_artifact("scores-x-s0-test:latest")
        assert used.digest == logged.digest and used.metadata == {"accuracy": 0.5}
        assert used.file("scores").read_text() == "1 2 3"
        run.log_artifact(backend.draft("metrics-x", "metrics", {"inputs": {used.name: used.digest}}))
    if backend.server is not None:
        assert not elsewhere.flush()
    assert [artifact.digest for artifact in backend.writer.inputs("uses-scores")] == [logged.digest]
    assert [run.id for run in backend.writer.used_by(logged)] == ["uses-scores"]
    assert [run.id for run in elsewhere.logged_by(used)] == ["logs-scores"]
    assert backend.writer.artifact("metrics-x").metadata["inputs"] == {"scores-x-s0-test": logged.digest}


def test_versions_count_up_and_content_that_is_there_is_no_new_one(backend):
    for number, content in enumerate(["one", "two", "one", "three"]):
        with backend.writer.start_run(f"version-{number}", job_type="train", config={}) as run:
            run.log_artifact(backend.draft("versions", content=content))
    seen = backend.seen()
    versions = seen.artifacts("versions")
    assert [(a.version, a.file("content").read_text()) for a in versions] == [(0, "one"), (1, "two"), (2, "three")]
    assert [a.aliases for a in versions] == [[], [], ["latest"]]
    assert {run.id for run in seen.logged_by(versions[0])} == {"version-0", "version-2"}
    assert [a.ref for a in seen.outputs("version-2")] == ["versions:v0"]


def test_logging_old_content_again_moves_latest_to_it(backend):
    for number, content in enumerate(["old", "new", "old"]):
        with backend.writer.start_run(f"moves-{number}", job_type="train", config={}) as run:
            run.log_artifact(backend.draft("moves", content=content), aliases=[f"a{number}"])
    seen = backend.seen()
    assert seen.artifact("moves").ref == "moves:v0"
    assert {a.ref: set(a.aliases) for a in seen.artifacts("moves")} == {
        "moves:v0": {"latest", "a0", "a2"},
        "moves:v1": {"a1"},
    }


def test_references_by_alias_version_and_digest(backend):
    with backend.writer.start_run("refs", job_type="train", config={}) as run:
        first = run.log_artifact(backend.draft("refs", content="first"))
        second = run.log_artifact(backend.draft("refs", content="second"), aliases=["prod"])
    seen = backend.seen()
    for ref, expected in {
        "refs:v0": first, "refs:v1": second, "refs": second, "refs:latest": second, "refs:prod": second,
        first.digest: first, first.digest[:12]: first,
    }.items():  # fmt: skip
        assert seen.artifact(ref).digest == expected.digest, ref
    for missing in ("refs:v2", "refs:nobody", "nothing", "ffffffffffff"):
        with pytest.raises(NotFound, match=missing):
            seen.artifact(missing)


def test_one_name_has_one_type(backend):
    with backend.writer.start_run("types", job_type="train", config={}) as run:
        run.log_artifact(backend.draft("types", "model"))
        with pytest.raises(TrackingError, match="types has type 'model', and 'scores' was given"):
            run.log_artifact(backend.draft("types", "scores"))
    assert backend.seen().artifact("types").type == "model"


def test_edges_lead_both_ways(backend):
    with backend.writer.start_run("edge-data", job_type="data", config={}) as run:
        data = run.log_artifact(backend.draft("edge-data", "data"))
    models = []
    for size in ("small", "base"):
        with backend.writer.start_run(f"edge-{size}", job_type="train", config={}) as run:
            run.use_artifact(data)
            run.use_artifact(data)  # is one edge
            models.append(run.log_artifact(backend.draft(f"edge-model-{size}")))
    seen = backend.seen()
    assert {run.id for run in seen.used_by(seen.artifact("edge-data"))} == {"edge-small", "edge-base"}
    assert [run.id for run in seen.logged_by(data)] == ["edge-data"]
    assert [a.digest for a in seen.inputs("edge-base")] == [data.digest]
    assert [a.digest for a in seen.outputs("edge-base")] == [models[1].digest]
    assert seen.used_by(models[0]) == []


def test_runs_are_found_by_filter(backend):
    for number, (job, group) in enumerate([("train", "f"), ("train", "g"), ("infer", "f")]):
        backend.writer.start_run(f"filter-{number}", job_type=job, group=group, config={}).finish(
            "failed" if number == 1 else "finished"
        )
    seen = backend.seen()
    assert [run.id for run in seen.runs(group="f")] == ["filter-0", "filter-2"]
    assert [run.id for run in seen.runs(group="f", job_type="infer")] == ["filter-2"]
    assert "filter-1" in [run.id for run in seen.runs(state="failed", job_type="train")]
    assert seen.runs(group="f", state="failed") == []


def test_artifacts_are_found_by_name_and_type(backend):
    with backend.writer.start_run("globs", job_type="train", config={}) as run:
        for name, type in (("g-imdb-a", "scores"), ("g-imdb-b", "scores"), ("g-sst-a", "scores"), ("g-m", "model")):
            run.log_artifact(backend.draft(name, type))
    seen = backend.seen()
    assert [a.name for a in seen.artifacts("g-imdb-*")] == ["g-imdb-a", "g-imdb-b"]
    assert [a.name for a in seen.artifacts("g-*", type="model")] == ["g-m"]
    assert seen.artifacts("g-*", type="nothing") == [] and seen.artifacts("nothing-*") == []


def test_a_resumed_run_goes_on_as_one(backend):
    run = backend.writer.start_run("resumed", job_type="train", config={"lr": 1}, name="first", tags=["demo"])
    for step in range(0, 50, 10):
        run.log({"loss": 1.0 / (step + 1)}, step)
    run.set_summary({"kept": 1})
    run.finish("stopped", "stopped by a signal")
    assert backend.seen().run("resumed").state == "stopped"
    run = backend.writer.start_run("resumed", job_type="train", config={"lr": 1})
    for step in range(30, 80, 10):  # from its last checkpoint, which is older than its last point
        run.log({"loss": 1.0 / (step + 1)}, step)
    run.log_artifact(backend.draft("resumed-model"))
    run.finish()
    seen = backend.seen()
    record = seen.run("resumed")
    assert (record.state, record.name, record.tags, record.error) == ("finished", "first", ["demo"], None)
    assert record.summary == {"loss": 1 / 71, "kept": 1}
    assert seen.history("resumed") == [{"step": step, "loss": 1.0 / (step + 1)} for step in range(0, 80, 10)]
    assert [a.name for a in seen.outputs("resumed")] == ["resumed-model"]


def test_a_restarted_run_forgets_what_it_was(backend):
    with backend.writer.start_run("data-for-restart", job_type="data", config={}) as run:
        data = run.log_artifact(backend.draft("data-for-restart", "data"))
    for attempt in (1, 2, 3):
        run = backend.writer.start_run("restarted", job_type="train", config={"n": attempt}, restart=attempt > 1)
        if attempt == 1:
            run.use_artifact(data)
        for step in range(attempt):
            run.log({f"loss{attempt}": 0.5}, step)
        run.finish("failed" if attempt == 1 else "finished")
        backend.seen()
    seen = backend.seen()
    assert seen.history("restarted") == [{"step": step, "loss3": 0.5} for step in range(3)]
    assert (seen.run("restarted").config, seen.run("restarted").state) == ({"n": 3}, "finished")
    assert seen.inputs("restarted") == [] and seen.used_by(data) == []
    assert [run.id for run in seen.runs() if run.id.startswith("restarted")] == ["restarted"]


def test_what_there_is_to_look_at_is_kept(backend, tmp_path):
    import base64

    png = tmp_path / "figure.png"
    png.write_bytes(
        base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
    )
    page = tmp_path / "report.html"
    page.write_text("<h1>Report</h1>")
    with backend.writer.start_run("media", job_type="metrics", config={}) as run:
        run.log_table("tables/table1", ["dataset", "mean"], [["imdb", 0.5], ["sst2", None]])
        run.log_lines("curves/margin", [0, 0.5, 1], {"a-b": [0.8, 0.9, 0.85]}, title="Switcher", x_name="deferred")
        run.log_image("figures/fig1", png)
        run.log_html("report", page)
        for columns, rows in ((["a"], [[1, 2]]), (["a"], [[1]] * 10_001)):
            with pytest.raises(TrackingError, match="table bad"):
                run.log_table("bad", columns, rows)
        with pytest.raises(TrackingError, match="line 'y' has 1 values for 2 points"):
            run.log_lines("bad", [0, 1], {"y": [1.0]}, title="", x_name="x")
    backend.seen()
    kept = {item.key: item.kind for item in Store(backend.folder / "runs").media("media")}
    assert kept == {
        "tables/table1": "table", "curves/margin": "lines", "figures/fig1": "image", "report": "html"
    }  # fmt: skip
    if backend.server is not None:
        summary = backend.server.project(PROJECT).runs["media"].summary
        assert {
            key: value["_type"] for key, value in summary.items() if isinstance(value, dict) and "_type" in value
        } == {
            "tables/table1": "table-file",
            "curves/margin_table": "table-file",
            "figures/fig1": "image-file",
            "report": "html-file",
        }
        assert backend.seen().run("media").summary == {}


WRITER = """
import sys
from pathlib import Path
from conf.schema import Tracking
from tracking import open_tracker
from tracking.interface import ArtifactDraft
backend, root, entity, project, me = sys.argv[1:]
tracker = open_tracker(Tracking(backend=backend, root=root, entity=entity, project=project))
with tracker.start_run(f"process-{me}", job_type="train", config={"me": me}) as run:
    for number in range(4):
        run.log({"loss": number}, number)
        for name, content in (("p-shared", f"shared {number}"), (f"p-own-{me}", f"{me} {number}")):
            path = Path(root) / f"source-{me}-{name}-{number}"
            path.write_text(content)
            run.log_artifact(ArtifactDraft(name, "model", files={"content": path}))
tracker.close()
"""


def test_two_processes_at_once(backend):
    command = [sys.executable, "-c", WRITER, "wandb" if backend.server else "local", str(backend.folder / "runs")]
    children = [
        subprocess.Popen([*command, ENTITY, PROJECT, me], cwd=REPO, stderr=subprocess.PIPE, text=True) for me in "ab"
    ]
    errors = [child.communicate(timeout=120)[1] for child in children]
    assert [(child.returncode, error) for child, error in zip(children, errors, strict=True)] == [(0, "")] * 2
    seen = backend.seen()
    assert {a.file("content").read_text() for a in seen.artifacts("p-shared")} == {f"shared {n}" for n in range(4)}
    for artifact in seen.artifacts("p-shared"):
        assert {run.id for run in seen.logged_by(artifact)} == {"process-a", "process-b"}
    for me in "ab":
        assert seen.history(f"process-{me}") == [{"step": n, "loss": n} for n in range(4)]
        assert len(seen.artifacts(f"p-own-{me}")) == 4 and len(seen.outputs(f"process-{me}")) == 8
    assert sum("latest" in artifact.aliases for artifact in seen.artifacts("p-shared")) == 1


def test_an_alias_is_moved_and_moved_back(backend):
    with backend.writer.start_run("aliases", job_type="train", config={}) as run:
        first = run.log_artifact(backend.draft("aliases", content="first"))
        second = run.log_artifact(backend.draft("aliases", content="second"))
    backend.seen()
    assert backend.writer.make_latest(first)
    backend.writer.move_alias(second, "best")
    for reader in (backend.writer, backend.seen()):
        assert {a.ref: a.aliases for a in reader.artifacts("aliases")} == {
            "aliases:v0": ["latest"],
            "aliases:v1": ["best"],
        }
        assert reader.artifact("aliases").digest == first.digest
        assert reader.artifact("aliases:best").digest == second.digest
    assert not backend.writer.make_latest(first)
    assert backend.writer.make_latest(second) and backend.seen().artifact("aliases").digest == second.digest
    for bad in ("v1", "a b", ""):
        with pytest.raises(TrackingError, match="alias"):
            backend.writer.move_alias(first, bad)


def test_latest_that_another_machine_took_is_taken_back(backend):
    with backend.writer.start_run("taken-1", job_type="train", config={}) as run:
        first = run.log_artifact(backend.draft("taken", content="first"))
    elsewhere = backend.seen()
    with elsewhere.start_run("taken-2", job_type="train", config={}) as run:
        second = run.log_artifact(backend.draft("taken", content="second"))
    if backend.server is not None:
        assert not elsewhere.flush()
    assert backend.writer.artifact("taken").digest == second.digest
    backend.writer.move_alias(first, "best")  # takes no other alias with it
    for reader in (backend.writer, elsewhere):
        assert reader.artifact("taken").digest == second.digest
    assert backend.writer.make_latest(first)
    for reader in (backend.writer, elsewhere):
        assert reader.artifact("taken").digest == reader.artifact("taken:best").digest == first.digest
