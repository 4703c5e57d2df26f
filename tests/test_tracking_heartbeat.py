"""A run's signs of life: given while it logs nothing, and only as long as it is this process's run and goes on."""

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from tests.support import REPO
from tests.wandb_server.http import wait_until
from tracking import heartbeat
from tracking.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "_PATIENCE", 0.01)
    store = Store(tmp_path / "runs")
    yield store
    store.close()


def start(store: Store, id: str = "r"):
    return store.start_run(id, job_type="train", config={})


def beats(id: str = "r") -> bool:
    return any(thread.name == f"heartbeat of {id}" for thread in threading.enumerate())


def wait_for_a_sign_of_life(store: Store) -> None:
    before = time.time()
    wait_until(lambda: store.run("r").heartbeat > before, 30)


def test_a_run_that_logs_nothing_gives_signs_of_life_until_its_end(store):
    run = start(store)
    wait_for_a_sign_of_life(store)
    run.finish()
    assert not beats()
    record = store.run("r")
    assert record.state == "finished" and record.heartbeat == record.ended


def test_a_run_of_the_wandb_tracker_gives_them_too(store, monkeypatch):
    from tracking.wandb import tracker as wandb_tracker
    from tracking.wandb.project import WandbProject

    class Silent:
        def __getattr__(self, name):
            return lambda *given: None

    monkeypatch.setattr(wandb_tracker, "_delivery", lambda tracker: Silent())
    tracker = wandb_tracker.WandbTracker(store.root, WandbProject())
    with start(tracker):
        wait_for_a_sign_of_life(store)
    assert not beats()
    tracker.close()


def test_what_is_busy_or_fails_is_tried_again_and_holds_up_nobody(store, monkeypatch, capsys):
    run, busy = start(store), sqlite3.connect(store.root / "store.db", isolation_level=None, timeout=60)
    busy.execute("BEGIN IMMEDIATE")
    failed = threading.Event()
    beat = store.database.write

    def watched(**given):
        if threading.current_thread() is not threading.main_thread():
            failed.set()
        return beat(**given)

    monkeypatch.setattr(store.database, "write", watched)
    assert failed.wait(30)
    busy.execute("ROLLBACK")
    busy.close()
    wait_for_a_sign_of_life(store)
    assert store.database.pragma("busy_timeout") == 60_000  # the run's own writes wait as long as ever
    run.log({"loss": 1.0}, 1)
    run.finish()
    assert capsys.readouterr() == ("", "")


def test_a_run_that_another_host_has_taken_over_gets_no_more_of_this_process(store):
    run = start(store)
    with store.database.write() as connection:
        connection.execute("UPDATE runs SET host = 'elsewhere', heartbeat = 5")
    wait_until(lambda: not beats(), 30)
    assert store.run("r").heartbeat == 5
    del run


def test_they_end_with_the_run_object_and_with_the_store(store):
    start(store)  # and nobody holds it
    gc.collect()
    wait_until(lambda: not beats(), 30)
    run = start(store, "s")
    assert beats("s")
    store.close()
    wait_until(lambda: not beats("s"), 30)
    del run


def test_a_forked_child_ends_its_copy_of_a_run_without_the_thread(store):
    run = start(store)
    child = os.fork()
    if child == 0:
        try:
            run.finish("stopped")
        finally:
            os._exit(0 if run._finished and not beats() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.run("r").state == "stopped"


def test_a_fork_inside_a_transaction_waits_for_no_sign_of_life_that_waits_for_the_transaction(store, monkeypatch):
    run, writes = start(store), store.database.write
    waiting = threading.Event()

    def watched(**given):
        waiting.set()
        return writes(**given)

    with store.database.read():
        monkeypatch.setattr(store.database, "write", watched)
        assert waiting.wait(30)
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait_for_a_sign_of_life(store)
    run.finish()


LEFT = """
import sys
from tracking import heartbeat
from tracking.store import Store
heartbeat.BEAT = 0.001
run = Store(sys.argv[1]).start_run("r", job_type="train", config={})
print("through")
"""


def test_they_keep_no_process_from_its_end(tmp_path):
    command = [sys.executable, "-c", LEFT, str(tmp_path / "runs")]
    ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "through\n", "")
