"""Two machines with a store each and one W&B project: one run is not run by both."""

import time

import pytest

from tests.wandb_server import ENTITY
from tests.wandb_server.http import wait_until
from tracking.interface import TrackingError
from tracking.wandb.project import WandbProject
from tracking.wandb.tracker import WandbTracker


def start(tracker: WandbTracker, **choices):
    return tracker.start_run("train-x", job_type="train", config={"seed": 0}, **choices)


def test_a_run_that_another_machine_runs_is_refused_until_its_end_or_its_silence(wandb_server, tmp_path):
    place = WandbProject.chosen(ENTITY, "two-machines")
    here, elsewhere, third = (WandbTracker(tmp_path / name, place) for name in ("here", "elsewhere", "third"))
    run = start(here)
    wait_until(
        lambda: (
            "two-machines" in wandb_server.state.projects
            and "train-x" in (runs := wandb_server.project("two-machines").runs)
            and "store" in runs["train-x"].summary.get("edgewise", {})
        ),
        90,
    )
    for tracker in (elsewhere, third):
        with pytest.raises(TrackingError, match="train-x is being run now on another machine.*wait for its end"):
            start(tracker)
        assert tracker.store.run("train-x") is None
    start(here)  # its own, as ever
    shown = wandb_server.project("two-machines").runs["train-x"]
    shown.heartbeat = time.time() - 400  # a machine that is gone; nothing is sent meanwhile
    start(elsewhere).finish("stopped")
    start(third, restart=True).finish()  # afresh: another run at W&B
    run.finish()
    assert {tracker.store.run("train-x").state for tracker in (here, third)} == {"finished"}
    for tracker in (here, elsewhere, third):
        tracker.close()
