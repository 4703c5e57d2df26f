"""Runs, references, aliases, edges and what a store refuses."""

import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Tracking
from conf.version import product_version
from tracking import is_alive, open_tracker
from tracking.interface import ArtifactDraft, NotFound, TrackingError
from tracking.process import code_version
from tracking.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    yield store
    store.close()


@pytest.fixture
def draft(tmp_path):
    """Makes a draft from file contents, each written to its own source file."""
    folder = tmp_path / "sources"
    folder.mkdir()

    def make(name: str, type: str = "model", metadata: dict | None = None, **contents: str | bytes) -> ArtifactDraft:
        draft = ArtifactDraft(name, type, metadata or {})
        for file, content in contents.items():
            source = folder / str(len(list(folder.iterdir())))
            source.write_bytes(content.encode() if isinstance(content, str) else content)
            draft.add_file(source, file)
        return draft

    return make


def start(store: Store, id: str = "r", **values):
    return store.start_run(id, **{"job_type": "train", "config": {}, **values})


# ---- runs


def test_a_run_is_kept_as_it_was_given(store):
    config = {"dataset": {"name": "imdb", "classes": {0: "negative"}}, "seed": 0, "limit": math.inf}
    before = time.time()
    with start(store, "cell-1", config=config, name="imdb small", group="sweep", tags=["a", "b"]) as run:
        record = store.run("cell-1")
        assert record.state == "running" and record.ended is None and is_alive(record)
        assert (record.host, record.pid) == (socket.gethostname(), os.getpid())
        run.set_summary({"best": {"step": 3}, "note": "ü"})
    record = store.run("cell-1")
    assert (record.id, record.job_type, record.name, record.group) == ("cell-1", "train", "imdb small", "sweep")
    assert record.tags == ["a", "b"] and record.state == "finished" and record.error is None
    # JSON's keys are strings
    assert record.config == {"dataset": {"name": "imdb", "classes": {"0": "negative"}}, "seed": 0, "limit": math.inf}
    assert record.summary == {"best": {"step": 3}, "note": "ü"}
    assert before <= record.started <= record.heartbeat <= record.ended <= time.time()
    assert not is_alive(record)


def test_what_escapes_a_run_fails_it_with_the_traceback(store):
    with pytest.raises(ZeroDivisionError), start(store):
        print(1 / 0)
    record = store.run("r")
    assert record.state == "failed" and "ZeroDivisionError" in record.error and "test_what_escapes" in record.error


def test_a_run_ends_once_and_takes_nothing_afterwards(store, draft):
    run = start(store)
    with pytest.raises(TrackingError, match="running"):
        run.finish("running")
    run.finish("stopped")
    run.finish("failed", "too late")
    assert (store.run("r").state, store.run("r").error) == ("stopped", None)
    for call in (
        lambda: run.log({"loss": 1.0}, 1),
        lambda: run.set_summary({}),
        lambda: run.log_artifact(draft("m", a="a")),
        lambda: run.use_artifact("m"),
    ):
        with pytest.raises(TrackingError, match="has ended"):
            call()


def test_runs_are_filtered_and_oldest_first(store):
    for number, (job_type, group) in enumerate([("train", "x"), ("infer", "x"), ("train", None)]):
        with start(store, f"r{number}", job_type=job_type, group=group):
            pass
    start(store, "r3").finish("failed")
    assert [run.id for run in store.runs()] == ["r0", "r1", "r2", "r3"]
    assert [run.id for run in store.runs(job_type="train")] == ["r0", "r2", "r3"]
    assert [run.id for run in store.runs(group="x", job_type="infer")] == ["r1"]
    assert [run.id for run in store.runs(state="failed")] == ["r3"]
    assert store.run("nothing") is None
    for ask in (store.history, store.inputs, store.outputs):
        with pytest.raises(NotFound, match="nothing"):
            ask("nothing")


def test_history_keeps_nan_infinities_and_numpy_and_is_one_after_a_resume(store):
    run = start(store)
    run.log({"loss": math.nan, "high": math.inf}, 2)
    run.log({"loss": np.float32(0.5), "low": -np.inf, "count": np.int64(7)}, np.int64(1))
    run.log({"loss": np.array(3.0)}, 3)
    run.finish("stopped")
    run = start(store)
    run.log({"loss": 4.0}, 3)
    run.log({"loss": 5.0}, 4)
    run.finish()
    first, second, *rest = store.history("r")
    assert first == {"step": 1, "loss": 0.5, "low": -math.inf, "count": 7}
    assert math.isnan(second.pop("loss")) and second == {"step": 2, "high": math.inf}
    assert rest == [{"step": 3, "loss": 4.0}, {"step": 4, "loss": 5.0}]
    assert store.run("r").summary == {"loss": 5.0, "high": math.inf, "low": -math.inf, "count": 7}


@pytest.mark.parametrize("value", ["0.5", None, np.zeros(2), [1.0], 1j])
def test_a_metric_is_one_number(store, value):
    run = start(store)
    with pytest.raises(TrackingError, match="loss"):
        run.log({"loss": value}, 0)
    assert store.history("r") == []


def test_step_is_no_metric_and_values_must_be_json(store):
    run = start(store)
    with pytest.raises(TrackingError, match="step"):
        run.log({"step": 1.0}, 0)
    with pytest.raises(TrackingError, match="summary of run r.*object"):
        run.set_summary({"x": object()})
    run.set_summary({"path": Path("a/b"), "array": np.arange(2.0), "nested": [{"x": np.float32("nan")}]})
    summary = store.run("r").summary
    assert summary["path"] == "a/b" and summary["array"] == [0.0, 1.0] and math.isnan(summary["nested"][0]["x"])


def test_a_resumed_run_keeps_its_past_and_takes_the_new_config(store, draft):
    with start(store, config={"a": 1}, name="n", group="g", tags=["t"]) as run:
        run.log({"loss": 1.0}, 1)
        run.log_artifact(draft("m", a="a"))
    run = start(store)
    run.finish("failed", "boom")
    old = store.run("r")
    start(store, config={"b": 2}, job_type="infer")
    new = store.run("r")
    assert (new.state, new.error, new.ended, new.started) == ("running", None, None, old.started)
    assert (new.config, new.job_type, new.name, new.group, new.tags) == ({"b": 2}, "infer", "n", "g", ["t"])
    assert new.summary == {"loss": 1.0} and new.heartbeat > old.heartbeat
    assert len(store.history("r")) == 1 and len(store.outputs("r")) == 1


def test_restart_forgets_history_summary_and_edges_of_that_run_alone(store, draft):
    with start(store, "other") as other:
        other.log({"loss": 9.0}, 1)
        other.log_artifact(draft("data", a="a"))
    with start(store) as run:
        run.log({"loss": 1.0}, 1)
        run.use_artifact("data")
        run.log_artifact(draft("m", b="b"))
    old = store.run("r")
    start(store, restart=True).finish()
    new = store.run("r")
    assert new.started > old.started and new.summary == {}
    assert store.history("r") == store.inputs("r") == store.outputs("r") == []
    assert store.artifact("m:v0").aliases == ["latest"]  # artifacts stay
    assert store.history("other") and store.outputs("other") and store.run("other").summary == {"loss": 9.0}


@pytest.mark.parametrize("id", ["", "a/b", "a b", "a:b", "x" * 129, "a?"])
def test_a_run_id_is_one_that_wandb_takes(store, id):
    with pytest.raises(TrackingError, match="run id"):
        start(store, id)


HOLD = """
import sys, time
from tracking.store import Store
Store(sys.argv[1]).start_run("r", job_type="train", config={"by": "child"})
print("started", flush=True)
time.sleep(60)
"""


def test_a_run_that_another_living_process_runs_is_refused_until_that_process_dies(store):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.root], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "started\n"
        assert is_alive(store.run("r"))
        with store.database.write() as connection:  # as if the clock had been set forward since
            connection.execute("UPDATE runs SET heartbeat = heartbeat - 36000")
        assert is_alive(store.run("r"))
        with pytest.raises(TrackingError, match=f"process {child.pid} on {socket.gethostname()}.*stop that process"):
            start(store, restart=True)
        assert store.run("r").config == {"by": "child"}
    finally:
        child.kill()
    deadline = time.monotonic() + 10
    while is_alive(store.run("r")) and time.monotonic() < deadline:  # killed, and a zombie, for it is not reaped yet
        time.sleep(0.01)
    assert not is_alive(store.run("r")) and store.run("r").state == "running"
    start(store)
    assert store.run("r").pid == os.getpid()
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def test_a_run_on_another_host_is_refused_while_its_heartbeat_is_fresh(store):
    start(store)

    def claim(age: float) -> None:
        with sqlite3.connect(store.root / "store.db") as connection:
            values = ("elsewhere", 1, time.time() - age)
            connection.execute("UPDATE runs SET state = 'running', host = ?, pid = ?, heartbeat = ?", values)
        connection.close()

    claim(250)
    with pytest.raises(TrackingError, match="process 1 on elsewhere.*if elsewhere is gone, start again in (49|50) s"):
        start(store)
    claim(350)
    start(store)
    assert store.run("r").host == socket.gethostname()


# ---- artifacts


def test_the_digest_is_wandbs(store, draft):
    # Computed with wandb 0.31.0: wandb.Artifact("x", "t").add_file(…).digest
    run = start(store)
    assert run.log_artifact(ArtifactDraft("none", "t")).digest == "64e7c61456b10382e2f3b571ac24b659"
    one = draft("one", **{"a.txt": b"hello\n"})
    assert run.log_artifact(one).digest == "df2baf4982f9ccdd99de4a5a8b016e45"
    three = draft("three", **{"tables/é.bin": bytes(range(256)), "b": b"", "Z/a.txt": b"hello\n"})
    assert run.log_artifact(three).digest == "3a862fc13525ce54502bde2f7f54196d"


def test_a_version_is_its_content(store, draft):
    with start(store, "r1") as run:
        first = run.log_artifact(draft("m", metadata={"x": math.nan}, a="1"), aliases=["best"])
        second = run.log_artifact(draft("m", a="2"))
    assert (first.ref, second.ref) == ("m:v0", "m:v1")
    assert first.aliases == ["latest", "best"] and store.artifact("m:v0").aliases == ["best"]
    with start(store, "r2") as run:
        again = run.log_artifact(draft("m", metadata={"x": 2}, a="1"))
        elsewhere = run.log_artifact(draft("m2", a="1"))
    assert again.ref == "m:v0" and again.digest == first.digest == elsewhere.digest
    assert math.isnan(again.metadata["x"])
    assert [artifact.ref for artifact in store.artifacts()] == ["m:v0", "m:v1", "m2:v0"]
    assert store.artifact("m").ref == store.artifact("m:latest").ref == "m:v0"
    assert [run.id for run in store.logged_by(again)] == ["r1", "r2"]
    assert [run.id for run in store.logged_by(second)] == ["r1"]
    assert [artifact.ref for artifact in store.outputs("r2")] == ["m:v0", "m2:v0"]


def test_one_name_has_one_type(store, draft):
    run = start(store)
    run.log_artifact(draft("m", "model", a="1"))
    with pytest.raises(TrackingError, match="'model'.*'scores'"):
        run.log_artifact(draft("m", "scores", a="2"))
    assert len(store.artifacts()) == 1


def test_aliases_move_and_versions_names_are_reserved(store, draft):
    run = start(store)
    run.log_artifact(draft("m", a="1"), aliases=["best", "v1.0"])
    run.log_artifact(draft("m", a="2"), aliases="best")  # one alias, not four letters
    assert store.artifact("m:best").ref == "m:v1" and store.artifact("m:v1.0").ref == "m:v0"
    assert store.artifact("m:v1").aliases == ["latest", "best"]
    for alias in ("v0", "v17", "a:b", "a/b", "", "a b"):
        with pytest.raises(TrackingError, match="alias"):
            run.log_artifact(draft("m", a="3"), aliases=["ok", alias])
    assert len(store.artifacts()) == 2
    with pytest.raises(NotFound):
        store.artifact("m:ok")


def test_references(store, draft):
    run = start(store)
    made = [run.log_artifact(draft("data-imdb", "data", a=str(number))) for number in range(3)]
    twin = run.log_artifact(draft("data-copy", "data", a="0"))
    assert store.artifact("data-imdb:v2").digest == made[2].digest
    assert store.artifact(made[1].digest).ref == store.artifact(made[1].digest[:6].upper()).ref == "data-imdb:v1"
    with pytest.raises(TrackingError, match=r"data-copy:v0 .*data-imdb:v0"):
        store.artifact(twin.digest[:8])
    for ref, message in (
        ("data-imdb:v3", "versions v0 to v2 and aliases latest"),
        ("data-imdb:best", "aliases latest"),
        ("data-imbd", "did you mean data-imdb"),
        (made[1].digest[:5], "at least 6 hex digits"),
        ("00000000000000000000", "no digest starts so"),
        ("", "no artifact ''"),
        ("data-imdb:", "no artifact 'data-imdb:'"),
        ("nothing:v0", "no artifact 'nothing:v0'"),
    ):
        with pytest.raises(NotFound, match=message):
            store.artifact(ref)
    named = run.log_artifact(draft(made[1].digest[:6], "data", z="z"))
    assert store.artifact(made[1].digest[:6]).ref == named.ref  # a name goes first


def test_artifacts_by_glob_and_type(store, draft):
    run = start(store)
    for name, type in (("scores-imdb-small-s0-test", "scores"), ("scores-imdb-base-s0-test", "scores"), ("m", "model")):
        run.log_artifact(draft(name, type, a=name))
    run.log_artifact(draft("m", "model", a="second"))
    names = [artifact.name for artifact in store.artifacts("scores-imdb-*")]
    assert names == ["scores-imdb-base-s0-test", "scores-imdb-small-s0-test"]
    assert [artifact.ref for artifact in store.artifacts(type="model")] == ["m:v0", "m:v1"]
    assert store.artifacts("M") == store.artifacts("scores-*", type="model") == []


def test_versions_are_ordered_by_number(store, draft):
    run = start(store)
    for number in range(11):
        run.log_artifact(draft("m", a=str(number)))
    assert [artifact.version for artifact in store.artifacts("m")] == list(range(11))


def test_using_records_an_edge_once(store, draft, tmp_path):
    with start(store, "maker") as run:
        made = run.log_artifact(draft("m", a="1"))
    with start(store, "reader") as run:
        assert run.use_artifact("m").ref == run.use_artifact(made).ref == "m:v0"
        with pytest.raises(NotFound):
            run.use_artifact("n")
    assert [run.id for run in store.used_by(made)] == ["reader"]
    assert [artifact.ref for artifact in store.inputs("reader")] == ["m:v0"]
    other = Store(tmp_path / "other")
    with start(other) as run:
        foreign = run.log_artifact(draft("m", a="2"))
    with start(store, "mixed") as run, pytest.raises(TrackingError, match="another store"):
        run.use_artifact(foreign)
    assert store.inputs("mixed") == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b", "", ".", "C:x", "a//b", "./a", "a\nb", "\ud800"])
def test_file_names_stay_inside_the_artifact(store, tmp_path, name):
    source = tmp_path / "source"
    source.write_text("x")
    run = start(store)
    with pytest.raises(TrackingError, match="file name"):
        run.log_artifact(ArtifactDraft("m", "model", files={name: source}))
    assert store.artifacts() == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "ü", "x" * 129])
def test_artifact_names_are_wandbs(store, draft, name):
    with pytest.raises(TrackingError, match="artifact name"):
        start(store).log_artifact(ArtifactDraft(name, "model"))


def test_a_draft_that_cannot_be_kept_leaves_nothing(store, draft, tmp_path):
    run = start(store)
    bad = draft("m", a="1")
    bad.files["b"] = tmp_path / "missing"
    with pytest.raises(TrackingError, match="missing.*regular file"):
        run.log_artifact(bad)
    bad.files["b"] = tmp_path
    with pytest.raises(TrackingError, match="regular file"):
        run.log_artifact(bad)
    with pytest.raises(TrackingError, match="both as a file and as a directory"):
        run.log_artifact(draft("m", **{"a": "1", "a/b": "2"}))
    with pytest.raises(TrackingError, match="metadata of artifact m"):
        run.log_artifact(draft("m", metadata={"x": {1, 2}}, a="1"))
    with pytest.raises(TrackingError, match="type"):
        run.log_artifact(draft("m", "", a="1"))
    assert store.artifacts() == [] and store.outputs("r") == [] and not list((store.root / "tmp").iterdir())


def test_a_run_records_the_products_version_and_the_commit(store):
    with start(store):
        pass
    assert store.run("r").code_version == f"{product_version()}+{code_version()}"


def test_a_second_store_on_the_same_root_sees_it_all(store, draft):
    with start(store) as run:
        run.log_artifact(draft("m", a="1"))
    again = Store(store.root)
    assert again.artifact("m").file("a").read_text() == "1"
    again.close()


def test_a_forked_child_writes_through_a_connection_of_its_own(store):
    run = start(store)
    run.log({"loss": 0.0}, 0)
    with store.database.read() as inherited:
        pass
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run.log({"loss": 1.0}, 1)
            with store.database.read() as own:
                status = int(own is inherited)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    run.log({"loss": 2.0}, 2)
    assert [point["step"] for point in store.history("r")] == [0, 1, 2]


# ---- opening


def test_open_tracker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = open_tracker(Tracking(root="some/runs"))
    assert isinstance(tracker, Store) and (tmp_path / "some/runs/store.db").is_file()


def test_a_root_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for root in ("/dev/null/x", tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(EdgewiseError, match="cannot keep runs in .*tracking.root=DIR"):
            Store(root)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_db_that_is_no_store_is_refused_and_left_as_it_is(tmp_path):
    text, database, newer, folder = (tmp_path / name for name in ("text", "database", "newer", "folder"))
    text.mkdir(), database.mkdir()
    (text / "store.db").write_text("my notes, not a database at all\n" * 10)
    with sqlite3.connect(database / "store.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    Store(newer).close()
    with sqlite3.connect(newer / "store.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    (folder / "store.db").mkdir(parents=True)
    for root, message in (
        (text, "not a database"),
        (database, "not an Edgewise store"),
        (newer, "schema version 99.*update the checkout"),
    ):
        before = {path: path.read_bytes() for path in root.glob("store*")}
        for create in (True, False):
            with pytest.raises(EdgewiseError, match=message):
                Store(root, create=create)
        assert {path: path.read_bytes() for path in root.glob("store*")} == before
    with pytest.raises(EdgewiseError, match="not a writable file"):
        Store(folder)


def test_opening_to_read_makes_nothing(tmp_path):
    with pytest.raises(EdgewiseError, match="no store at .*nothing"):
        Store(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()


def test_an_empty_store_db_counts_as_a_store_still_to_be_made(tmp_path):
    (tmp_path / "store.db").touch()  # what a kill right after SQLite opened the file leaves
    with pytest.raises(EdgewiseError, match="empty"):
        Store(tmp_path, create=False)
    assert (tmp_path / "store.db").stat().st_size == 0
    assert Store(tmp_path).runs() == []
