"""W&B is slow, broken or gone: the job goes on, keeps it all and says what was not delivered; a push delivers it."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.support import REPO
from tests.wandb_server import ENTITY
from tests.wandb_server.http import wait_until
from tracking.__main__ import main
from tracking.delivery import Ledger
from tracking.store import Store
from tracking.wandb.project import WandbProject

STEPS = 8

# One cell: it trains, logs a model, and scores by it. It stops halfway until it is told on its standard input to go on.
JOB = """
import sys
from pathlib import Path
from conf.schema import Tracking
from tracking import open_tracker
from tracking.interface import ArtifactDraft
root, project = sys.argv[1:]
tracker = open_tracker(Tracking(backend="wandb", root=root, project=project))
file = Path(root) / "content"
with tracker.start_run("train-x", job_type="train", config={"seed": 0}, group="sweep-x", tags=["demo"]) as run:
    for step in range(8):
        run.log({"loss": 1 / (step + 1)}, step)
        if step == 4:
            print("halfway", flush=True)
            sys.stdin.readline()
    file.write_text(f"weights of {project}")
    model = run.log_artifact(ArtifactDraft("model-x", "model", files={"weights": file}))
with tracker.start_run("infer-x", job_type="infer", config={"seed": 0}, group="sweep-x") as run:
    [found] = tracker.artifacts("model-*")  # W&B is asked for those of other machines, if it answers
    assert found.digest == model.digest
    run.use_artifact(found)
    run.set_summary({"accuracy": 0.5})
    file.write_text(f"scores of {project}")
    run.log_artifact(ArtifactDraft("scores-x-test", "scores", files={"scores.parquet": file}))
print("through", flush=True)
"""


def everything(server, **how):
    server.fail("", **how)


# name -> (before the job starts, when it is halfway)
CASES = {
    "slow": (lambda server: everything(server, delay=600), None),
    "answers 500": (lambda server: everything(server, status=500), None),
    "answers 429": (lambda server: everything(server, status=429), None),
    "breaks the connection": (lambda server: everything(server, status=0), None),
    "never comes": (lambda server: server.die(), None),
    "dies mid-run": (None, lambda server: server.die()),
    "loses the stream mid-run": (None, lambda server: server.fail("file_stream", status=500)),
    "refuses uploads": (lambda server: server.fail("PUT /storage/md5", status=500), None),
    "dies before a commit": (lambda server: server.fail("CommitArtifact", status=0, then=server.die), None),
}


@pytest.fixture
def server(wandb_server):
    yield wandb_server
    wandb_server.revive()


# Of what has a near twin: "answers 500", and of a server that stops "dies before a commit".
SLOW = ("dies mid-run", "breaks the connection", "loses the stream mid-run", "refuses uploads", "answers 429")
# Nothing comes of waiting for a server that gives no answer.
SILENT = ("slow", "answers 500", "answers 429", "breaks the connection", "never comes")


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in CASES])
def test_nothing_is_lost_and_the_job_says_how_to_deliver_it(server, case, tmp_path, monkeypatch, capsys):
    before, halfway = CASES[case]
    project, root = case.replace(" ", "-"), tmp_path / "runs"
    environment = {**os.environ, "EDGEWISE_WANDB_PATIENCE": "2" if case in SILENT else "6" if before else "10"}
    environment["WANDB_ENTITY"] = ENTITY
    if before:
        before(server)
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, str(root), project],
        cwd=REPO, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert job.stdout.readline() == "halfway\n"
    if halfway:
        wait_until(lambda: project in server.state.projects and server.project(project).runs["train-x"].history, 120)
        halfway(server)
    output, said = job.communicate("\n", timeout=120)
    assert (job.returncode, output) == (0, "through\n"), said

    # everything is kept, and nothing counts as delivered that the server did not confirm
    store, place = Store(root), WandbProject.chosen(ENTITY, project)
    assert {run.id: run.state for run in store.runs()} == {"train-x": "finished", "infer-x": "finished"}
    assert [point["step"] for point in store.history("train-x")] == list(range(STEPS))
    ledger = Ledger(store, place.key)
    pending = ledger.pending()
    assert "infer-x" in pending.runs or "train-x" in pending.runs
    held = {a.digest for a in server.state.artifacts.values() if a.state == "COMMITTED"}
    for artifact in store.versions():
        assert ledger.version(artifact) is None or artifact.digest in held
    # and it is said, with the command
    assert f"not delivered to W&B ({place}): {pending}; " in said and f"Everything is kept in {root}" in said
    command = shlex.split(next(line for line in said.splitlines() if line.startswith("  python")))
    assert command[:4] == ["python", "-m", "tracking", "push"]

    server.revive()
    assert main(command[3:]) == 0, capsys.readouterr()
    assert not ledger.pending()
    runs = server.project(project).runs
    assert {name: run.state for name, run in runs.items()} == {"train-x": "finished", "infer-x": "finished"}
    assert [point["_step"] for point in runs["train-x"].history] == list(range(STEPS))
    assert [a.digest for a in runs["train-x"].outputs] == [store.artifact("model-x").digest]
    assert [a.digest for a in runs["infer-x"].inputs] == [store.artifact("model-x").digest]
    assert [a.digest for a in runs["infer-x"].outputs] == [store.artifact("scores-x-test").digest]
    assert runs["infer-x"].summary["accuracy"] == 0.5
    server.requests.clear()
    assert main(command[3:]) == 0  # there is nothing left to send
    assert "UpsertBucket" not in server.requests
    store.close()


def test_without_an_api_key_the_job_goes_on_and_says_what_is_missing(server, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("WANDB_API_KEY", "WANDB_SERVICE")}
    job = subprocess.run(
        [sys.executable, "-c", JOB, str(tmp_path / "runs"), "keyless"],
        cwd=REPO, env=environment | {"HOME": str(tmp_path)}, input="\n", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (job.returncode, job.stdout) == (0, "halfway\nthrough\n")
    assert "not delivered to W&B" in job.stderr and "set WANDB_API_KEY" in job.stderr
    assert {run.state for run in Store(tmp_path / "runs").runs()} == {"finished"}


def test_a_job_that_is_killed_has_its_points_sent(server, tmp_path, monkeypatch):
    """The courier outlives its job: it sends what was kept, and the run is no longer shown as running."""
    monkeypatch.setenv("WANDB_ENTITY", ENTITY)
    root = tmp_path / "runs"
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, str(root), "killed"],
        cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert job.stdout.readline() == "halfway\n"
    job.kill()
    job.communicate()
    wait_until(
        lambda: (
            "killed" in server.state.projects
            and server.project("killed").runs["train-x"].state == "failed"
            and len(server.project("killed").runs["train-x"].history) == 5
        ),
        90,
    )
    # the same command again goes on with the same run
    job = subprocess.run(
        [sys.executable, "-c", JOB, str(root), "killed"],
        cwd=REPO, input="\n", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (job.returncode, job.stderr) == (0, "")
    run = server.project("killed").runs["train-x"]
    assert run.state == "finished" and [point["_step"] for point in run.history] == list(range(STEPS))
