"""The delivery record: nothing is delivered that was not confirmed, and what changes afterwards is pending again."""

import pytest

from tracking.delivery import Ledger
from tracking.interface import ArtifactDraft
from tracking.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    (tmp_path / "file").write_text("content")
    with store.start_run("train-x", job_type="train", config={"a": 1}) as run:
        run.log({"loss": 0.5}, 0)
        model = run.log_artifact(ArtifactDraft("model-x", "model", files={"file": tmp_path / "file"}))
    with store.start_run("infer-x", job_type="infer", config={}) as run:
        run.use_artifact(model)
    return store


def confirm_all(store, ledger):
    for record in store.runs():
        ledger.confirm_run(record.id, record.id, ledger.stamp(record.id))
        for kind, artifact in store.edges(record.id):
            ledger.confirm_edge(kind, record.id, artifact)
    for artifact in store.versions():
        ledger.confirm_artifact(artifact, artifact.version, artifact.aliases)


def test_everything_is_pending_until_it_is_confirmed_piece_by_piece(store):
    ledger = Ledger(store, "place")
    pending = ledger.pending()
    assert pending.runs == ["train-x", "infer-x"] and pending.artifacts == ["model-x:v0"]
    assert pending.edges == [("logged", "train-x", "model-x:v0"), ("used", "infer-x", "model-x:v0")]
    assert (str(pending), pending.bytes) == ("2 runs, 1 artifact, 2 edges", len("content"))
    assert ledger.pending(["infer-x"]).artifacts == []
    ledger.begin_run("train-x", "train-x")  # sent, not shown
    assert ledger.pending().runs == ["train-x", "infer-x"]
    confirm_all(store, ledger)
    assert not ledger.pending() and str(ledger.pending()) == "nothing"


def test_places_do_not_vouch_for_each_other(store):
    confirm_all(store, Ledger(store, "here"))
    assert Ledger(store, "there").pending().runs == ["train-x", "infer-x"]


@pytest.mark.parametrize("change", ["points", "summary", "state", "media"])
def test_a_run_that_changed_since_is_pending_again(store, change):
    ledger = Ledger(store, "place")
    confirm_all(store, ledger)
    run = store.start_run("train-x", job_type="train", config={"a": 1})
    if change == "points":
        run.log({"loss": 0.4}, 1)
    elif change == "summary":
        run.set_summary({"more": 1})
    elif change == "media":
        run.log_table("t", ["a"], [[1]])
    run.finish("failed" if change == "state" else "finished")
    assert ledger.pending().runs == ["train-x"]
    assert not ledger.pending().artifacts


def test_an_alias_that_was_given_since_is_pending(store, tmp_path):
    ledger = Ledger(store, "place")
    confirm_all(store, ledger)
    with store.start_run("more", job_type="train", config={}) as run:
        run.log_artifact(ArtifactDraft("model-x", "model", files={"file": tmp_path / "file"}), aliases=["best"])
    assert ledger.pending(["more"]).artifacts == ["model-x:v0"]
    assert ledger.unconfirmed_aliases(store.artifact("model-x")) == {"best"}


def test_a_restart_makes_what_was_sent_stale(store):
    ledger = Ledger(store, "place")
    confirm_all(store, ledger)
    store.start_run("train-x", job_type="train", config={}, restart=True).finish()
    ledger.restart_run("train-x")
    assert ledger.remote("train-x") == ("train-x", True)
    assert ledger.pending().runs == ["train-x"]
    ledger.begin_run("train-x", "train-x-again1")
    assert ledger.remote("train-x") == ("train-x-again1", False)


def test_forgetting_keeps_under_which_id_a_run_was_sent(store):
    ledger = Ledger(store, "place")
    confirm_all(store, ledger)
    ledger.forget()
    assert len(ledger.pending().runs) == 2 and ledger.remote("train-x") == ("train-x", False)


def test_a_store_from_before_the_record_gets_one(store, tmp_path):
    with store.database.write() as connection:
        for table in ("media", "delivered_runs", "delivered_artifacts", "delivered_edges"):
            connection.execute(f"DROP TABLE {table}")
    store.close()
    old = Store(tmp_path / "runs", create=False)
    assert old.media("train-x") == []  # read as it is
    assert len(Ledger(old, "place").pending().runs) == 2
