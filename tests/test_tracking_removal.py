"""Versions are removed where nothing was made from them, whole or not at all, and lineage stays sound."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from tests.support import REPO
from tests.wandb_server import ENTITY
from tracking.__main__ import main
from tracking.delivery import Ledger
from tracking.interface import ArtifactDraft, NotFound, TrackingError
from tracking.lineage import lineage
from tracking.removal import remove, remove_unused
from tracking.store import Store
from tracking.upkeep import collect, verify
from tracking.wandb.project import WandbProject
from tracking.wandb.server import Server

DAY = 86_400.0


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    yield store
    store.close()


@pytest.fixture
def log(store, tmp_path):
    """A function that logs a version in a run of its own, which uses others first; returns the version."""

    def log(name, content, *uses, aliases=(), state="finished", run_id=None):
        run = store.start_run(run_id or f"run-{name}-{content}", job_type="train", config={})
        for used in uses:
            run.use_artifact(used)
        (tmp_path / "source").write_text(content)
        logged = run.log_artifact(ArtifactDraft(name, "model", {}, {"content": tmp_path / "source"}), aliases)
        if state != "running":
            run.finish(state)
        return logged

    return log


@pytest.fixture
def call(store, capsys):
    """A function that calls the command; returns status, output and errors."""

    def call(*arguments):
        status = main([*map(str, arguments), "--root", str(store.root)])
        return status, *capsys.readouterr()

    return call


def age(store, days, name="%"):
    """Makes all versions and runs that were there before this call so many days older."""
    with store.database.write() as connection:
        connection.execute("UPDATE versions SET created = created - ? WHERE name LIKE ?", (days * DAY, name))
        connection.execute("UPDATE runs SET ended = ended - ?, heartbeat = heartbeat - ?", (days * DAY, days * DAY))


def refs(store, name="*"):
    return [artifact.ref for artifact in store.versions(name)]


def test_a_version_goes_with_its_content_and_its_number_is_never_given_again(store, log):
    first, second = log("x", "shared"), log("x", "second")
    log("y", "shared")
    result = remove(store, ["x:v1"])
    assert (result.versions, result.bytes, result.latest, result.aliases) == (["x:v1"], 6, {"x": "x:v0"}, [])
    assert not store.blobs.holds(second.files["content"])
    assert store.artifact("x").digest == first.digest and store.outputs("run-x-second") == []
    with pytest.raises(NotFound, match=r"x has versions v0 and aliases latest; removed were v1 \(20"):
        store.artifact("x:v1")
    assert log("x", "third").ref == "x:v2" and log("x", "second", run_id="again").ref == "x:v3"
    assert remove(store, ["x:v0"]).bytes == 0 and store.artifact("y").file("content").read_text() == "shared"
    assert not verify(store).problems and collect(store, 0.0).blobs == 0


def test_where_latest_goes_and_which_aliases_are_gone(store, log):
    for number in range(4):
        log("x", str(number), aliases=[f"a{number}"])
    assert remove(store, ["x:v1"]).latest == {}
    assert remove(store, ["x:v3"]).latest == {"x": "x:v2"}
    store.move_alias(store.artifact("x:v0"), "latest")
    result = remove(store, ["x"])
    assert (result.versions, result.latest, result.aliases) == (["x:v0"], {"x": "x:v2"}, ["x:a0"])
    result = remove(store, ["x"])
    assert (result.versions, result.latest, result.aliases) == (["x:v2"], {}, ["x:a2", "x:latest"])
    assert refs(store) == []
    with pytest.raises(NotFound, match="removed were v0 .*, v1 .*, v2 .*, v3 "):
        store.artifact("x")
    with store.start_run("other", job_type="train", config={}) as run:  # the name is free for another type
        assert run.log_artifact(ArtifactDraft("x", "data")).ref == "x:v4"


def test_what_something_was_made_from_stays(store, log, call):
    data = log("data", "rows")
    log("model", "weights", data)
    log("scores", "numbers", "model:v0")
    before = refs(store)
    status, output, error = call("rm", "data")
    assert (status, output) == (1, "")
    assert error.startswith("error: data:v0 can't be removed: model:v0 was made from it by run run-model-weights; ")
    assert call("rm", "scores", "data")[0] == 1 and refs(store) == before  # all or none
    assert store.artifact("scores").file("content").read_text() == "numbers"
    status, output, _ = call("rm", "scores", "model", "data:v0", "--json")
    assert status == 0 and json.loads(output) == {
        "versions": ["scores:v0", "model:v0", "data:v0"],
        "bytes": 18,
        "latest": {},
        "aliases": ["scores:latest", "model:latest", "data:latest"],
        "users": ["run-scores-numbers", "run-model-weights"],
    }
    assert refs(store) == [] and not verify(store).problems


def test_what_a_run_uses_that_may_go_on_stays(store, log):
    log("x", "1")
    with store.start_run("reads", job_type="evaluate", config={}) as run:
        run.use_artifact("x")
        with pytest.raises(TrackingError, match=r"run reads \(running\) uses it and may go on"):
            remove(store, ["x"])
        run.finish("stopped")
        with pytest.raises(TrackingError, match=r"run reads \(stopped\) uses it and may go on"):
            remove(store, ["x"])
    log("y", "1", state="running")
    with pytest.raises(TrackingError, match="run run-y-1, which logged it, goes on"):
        remove(store, ["y"])


def test_a_run_that_failed_and_made_nothing_keeps_no_version(store, log):
    log("x", "1")
    log("x", "2")
    run = store.start_run("metrics", job_type="metrics", config={})
    run.use_artifact("x:v1")
    run.finish("failed", "they do not fit")
    result = remove(store, ["x:v1"])
    assert (result.versions, result.users) == (["x:v1"], ["metrics"])
    assert store.inputs("metrics") == [] and not verify(store).problems


def test_content_that_a_run_both_uses_and_logs_is_refused_for_no_other_s_sake(store, log):
    log("x", "same")
    log("x", "same", "x:v0", run_id="again", state="failed")
    assert remove(store, ["x"]).versions == ["x:v0"]
    assert refs(store) == [] and not verify(store).problems


def test_gc_takes_old_versions_that_nothing_uses_and_nobody_named(store, log, call):
    old = log("x", "old")
    log("x", "used")
    log("model", "weights", "x:v1")
    log("x", "named", aliases=["best"])
    log("x", "again")
    log("x", "newest")
    log("lone", "latest-of-its-name")
    age(store, 40)
    log("x", "again", run_id="logs-it-again")
    log("x", "young")
    log("x", "youngest")
    before = refs(store)
    status, output, _ = call("gc", "--older-than", "30d", "--dry-run")
    assert status == 0 and output.splitlines()[:3] == [
        "would remove x:v0",
        "would remove x:v4",
        "would remove 2 versions that nothing uses: 9 B",
    ]
    assert refs(store) == before and store.blobs.holds(old.files["content"])
    status, output, _ = call("gc", "--older-than", "30d", "--json")
    assert json.loads(output) == {
        "temporary": 0,
        "blobs": 0,
        "bytes": 0,
        "versions": ["x:v0", "x:v4"],
        "version_bytes": 9,
    }
    assert refs(store) == [ref for ref in before if ref not in ("x:v0", "x:v4")]
    assert not store.blobs.holds(old.files["content"]) and not verify(store).problems
    assert remove_unused(store, 30 * DAY).versions == []
    assert [a.aliases for a in store.versions("x")] == [[], ["best"], [], [], ["latest"]]


def test_gc_leaves_what_a_living_run_logs(store, log):
    log("x", "1", run_id="living", state="running")
    log("x", "2")
    for dry_run in (True, False):  # older than no time at all
        assert remove_unused(store, 0.0, dry_run=dry_run).versions == []
    store.start_run("living", job_type="train", config={}).finish()
    assert remove_unused(store, 0.0).versions == ["x:v0"]


def test_a_dry_run_removes_no_stray_either(store, log, call):
    log("x", "1")
    stray = store.root / "tmp/stray"
    stray.write_text("12345")
    lost = store.blobs.path(store.blobs.put({"x": store.root / "tmp/stray"})["x"].md5)
    hours_ago = time.time() - 2 * 3600
    os.utime(lost, (hours_ago, hours_ago))
    expected = {"temporary": 1, "blobs": 1, "bytes": 10}
    assert json.loads(call("gc", "--dry-run", "--json")[1]) == expected and stray.exists() and lost.exists()
    assert json.loads(call("gc", "--json")[1]) == expected and not stray.exists() and not lost.exists()


@pytest.mark.parametrize("age_text", ["30", "d", "-1d", "1y", "1.5d"])
def test_an_age_without_a_unit_is_refused(age_text, capsys):
    with pytest.raises(SystemExit):
        main(["gc", "--older-than", age_text])
    assert "such as 30d" in capsys.readouterr().err or age_text == "-1d"


def test_an_alias_is_moved(store, log, call):
    log("x", "1")
    log("x", "2")
    assert call("alias", "x:v0", "latest") == (0, "x:latest is x:v0 now, which was x:v1\n", "")
    assert call("alias", "x", "best") == (0, "x:best is x:v0 now\n", "")
    status, output, _ = call("alias", "x:v1", "best", "--json")
    assert json.loads(output) == {"artifact": "x:v1", "alias": "best", "former": "x:v0"}
    assert {a.ref: a.aliases for a in store.versions()} == {"x:v0": ["latest"], "x:v1": ["best"]}
    for bad in ("v1", store.artifact("x").digest, store.artifact("x").digest[:12], "a b", "a:b"):
        status, output, error = call("alias", "x:v1", bad)
        assert (status, output) == (1, "") and error.startswith(f"error: alias {bad!r}: ")
    assert call("alias", "x:v7", "best")[0] == 1
    assert not verify(store).problems


def test_what_is_removed_is_no_longer_what_w_and_b_has(store, log):
    first = log("x", "1")
    log("x", "2")
    ledger = Ledger(store, "project")
    ledger.confirm_artifact(first, 5, ["latest"])
    ledger.confirm_edge("logged", "run-x-1", first)
    remove(store, ["x:v0"])
    assert ledger.version(first) is None and not ledger.has_edge("logged", "run-x-1", first)
    assert "x:v0" not in ledger.pending().artifacts


def test_a_version_that_is_brought_back_has_its_number(store, log, tmp_path):
    first = log("x", "1")
    log("x", "2")
    remove(store, ["x:v0"])
    (tmp_path / "back").write_text("1")
    assert store.adopt_artifact(first, {"content": tmp_path / "back"}, []).ref == "x:v0"
    remove(store, ["x:v0"])
    (tmp_path / "back").write_text("other")
    other = log("other", "other")
    other.name, other.version = "x", 0
    assert store.adopt_artifact(other, {"content": tmp_path / "back"}, []).ref == "x:v2"


def test_a_kill_leaves_the_version_whole_or_only_its_content(store, log):
    """Killed within the transaction, all is as it was; killed after it, `gc` has something to collect."""
    log("x", "1")
    log("x", "2")
    script = (
        "import os, sys\n"
        "import tracking.removal as removal\n"
        "from tracking.store import Store\n"
        "setattr(removal, sys.argv[2], lambda *given, **named: os.kill(os.getpid(), 9))\n"
        "removal.remove(Store(sys.argv[1]), ['x:v0'])\n"
    )
    for function, left, blobs in (("delete_version", ["x:v0", "x:v1"], 0), ("remove_unnamed", ["x:v1"], 1)):
        child = subprocess.run([sys.executable, "-c", script, str(store.root), function], cwd=REPO, check=False)
        assert child.returncode == -9
        assert refs(store) == left and not verify(store).problems
        assert collect(store, 0.0).blobs == blobs


def test_a_use_and_a_removal_at_once(store, log):
    """Either the run used it and it stays, or it is gone and the run was told; on both sides, for each version."""
    count = 30
    for number in range(count):
        log(f"x{number}", str(number))
    removed, used = [], []

    def use():
        own = Store(store.root)
        for number in range(count):
            try:
                with own.start_run(f"uses-{number}", job_type="infer", config={}) as run:
                    run.use_artifact(f"x{number}:v0")
                    run.log_artifact(ArtifactDraft(f"made-{number}", "model"))
                used.append(number)
            except NotFound:
                pass
        own.close()

    def take():
        own = Store(store.root)
        for number in range(count):
            try:
                remove(own, [f"x{number}:v0"])
                removed.append(number)
            except TrackingError:
                pass
        own.close()

    threads = [threading.Thread(target=use), threading.Thread(target=take)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(removed + used) == list(range(count))
    assert {*refs(store, "x*")} == {f"x{number}:v0" for number in used}
    for number in used:
        assert lineage(store, f"x{number}").downstream.reached == [f"made-{number}:v0"]
        assert [a.ref for a in store.inputs(f"uses-{number}")] == [f"x{number}:v0"]
    assert not verify(store).problems


def test_two_removals_and_a_writer_of_the_same_content_at_once(store, log, tmp_path):
    errors = []

    def write(me):
        own = Store(store.root)
        source = tmp_path / f"source-{me}"
        try:
            for number in range(15):
                source.write_text(str(number))
                with own.start_run(f"writes-{me}-{number}", job_type="t", config={}) as run:
                    logged = run.log_artifact(ArtifactDraft(f"x{number}", "model", {}, {"content": source}))
                with suppress(TrackingError):  # the other has removed it, or writes it now
                    remove(own, [logged.ref])
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is to fail by it
            errors.append(error)
        own.close()

    threads = [threading.Thread(target=write, args=(me,)) for me in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and not verify(store).problems


def test_an_alias_is_moved_at_wandb_too_or_pushed_later(wandb_server, store, log, call):
    first, second = log("x", "1"), log("x", "2")
    place = ("--entity", ENTITY, "--project", "aliases")
    assert call("push", *place)[0] == 0
    there = Server(WandbProject.chosen(ENTITY, "aliases"))
    assert there.artifact("x").digest == second.digest
    status, output, _ = call("alias", "x:v0", "latest", "--backend", "wandb", *place)
    assert (status, output) == (0, "x:latest is x:v0 now, which was x:v1\n")
    assert there.artifact("x").digest == first.digest
    status, output, _ = call("show", "run-x-1", "--json", "--backend", "wandb", *place)
    assert status == 0 and json.loads(output)["outputs"][0]["digest"] == first.digest
    wandb_server.fail("", status=400)  # which the SDK doesn't try again: 500 takes it 15 s
    status, output, error = call("alias", "x:v1", "latest", "--backend", "wandb", *place)
    assert status == 1 and "python -m tracking push" in error
    assert store.artifact("x").digest == second.digest
    wandb_server.revive()
    assert there.artifact("x").digest == first.digest
    assert call("alias", "x:v1", "best")[0] == 0  # in the store alone
    assert Ledger(store, WandbProject.chosen(ENTITY, "aliases").key).pending().artifacts == ["x:v1"]
    assert call("push", *place)[0] == 0
    assert there.artifact("x").digest == there.artifact("x:best").digest == second.digest
    assert call("rm", "x:v0", "--backend", "wandb")[0] == 1
    assert call("rm", "x:v0")[0] == 0 and there.artifact("x:v0").digest == first.digest
    assert call("pull", *place)[0] == 0 and store.artifact("x:v0").digest == first.digest
    assert not verify(store).problems
