"""Sweeps by each of Hydra's launchers: real processes, a real Ray, a real Slurm; skipped where not installed."""

import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conf.app import CONF
from conf.errors import EdgewiseError
from sweeps.launchers import LAUNCHERS, register_launchers
from tests import slurm
from tests.support import REPO
from tests.training import SMALL
from tracking import is_alive
from tracking.store import Store

RECIPES = sorted(path.stem for path in Path(CONF, "hydra/launcher").glob("*.yaml"))
GRID = ("-m", *SMALL, "train.steps=4", "train.eval_every=0", "size=nano", "seed=range(2)", "metrics.resamples=20")


def needs(launcher):
    module, _, extra = LAUNCHERS[launcher]
    absent = (
        importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(module.rpartition(".")[0]) is None
    )
    return pytest.mark.skipif(
        absent, reason=f"no plugin: uv pip install --python .venv -r pyproject.toml --extra {extra}"
    )


needs_slurm = pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing()))


def sweep(folder, launcher, *overrides, environment=None):
    command = [sys.executable, "-m", "sweeps", *GRID, f"hydra/launcher={launcher}", *overrides]
    command += [f"tracking.root={folder / 'runs'}", f"metrics.out={folder / 'out'}"]
    return subprocess.Popen(
        command, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def check_swept(folder, process):
    """All cells are there, each trained once, in processes of their own; and the tables were made after the last."""
    cells = ("nano-s0", "nano-s1")
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err + out
    assert "is validated against ConfigStore" not in err + "".join(
        path.read_text() for path in folder.glob("runs/hydra/*/.submitit/*/*.err")
    )
    store = Store(folder / "runs")
    names = {artifact.name for artifact in store.artifacts()}
    assert {f"scores-demo-{cell}-test" for cell in cells} <= names
    made = store.artifact("metrics-demo")
    assert {f"scores-demo-{cell}-test" for cell in cells} == set(made.metadata["inputs"])
    assert (folder / "out/report/index.html").exists()
    trained = store.runs(job_type="train")
    [whole] = store.runs(job_type="sweep")
    assert len(trained) == len(cells) and whole.state == "finished"
    assert all(run.pid != whole.pid and run.group == whole.group for run in trained)
    return store


def check_no_op(folder, launcher, environment=None):
    before = {artifact.ref for artifact in Store(folder / "runs").artifacts()}
    process = sweep(folder, launcher, environment=environment)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert {artifact.ref for artifact in Store(folder / "runs").artifacts()} == before
    assert len(Store(folder / "runs").runs(job_type="train")) == 2


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_that_is_not_installed_says_how_to_get_it(launcher, monkeypatch):
    real = importlib.import_module

    def without_plugins(name, *rest):
        if name.startswith("hydra_plugins"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_plugins)
    register_launchers([])  # nobody asks for one
    extra = LAUNCHERS[launcher][2]
    with pytest.raises(EdgewiseError, match=rf"hydra/launcher={launcher}: .*--extra {extra}"):
        register_launchers(["-m", f"hydra/launcher={launcher}"])


def test_every_launcher_has_a_recipe_and_an_extra():
    import tomllib

    assert set(RECIPES) == set(LAUNCHERS)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, _, extra in LAUNCHERS.values()} <= set(extras)
    for name in RECIPES:
        text = Path(CONF, "hydra/launcher", f"{name}.yaml").read_text()
        assert f"hydra/launcher={name}" in text.splitlines()[0]
        assert yaml.safe_load(text)["defaults"] == [f"{name}_plugin", "_self_"]


@needs("joblib")
def test_joblib(tmp_path):
    check_swept(tmp_path, sweep(tmp_path, "joblib"))
    check_no_op(tmp_path, "joblib")


@needs("submitit_local")
@pytest.mark.slow
def test_submitit_local(tmp_path):
    check_swept(tmp_path, sweep(tmp_path, "submitit_local"))


def training_processes(folder):
    """The processes of the cells that train now, by seed."""
    store = Store(folder / "runs", create=False)
    return {run.config["seed"]: run.pid for run in store.runs(job_type="train", state="running")}


LONG = ("train.steps=600", "train.checkpoint_every=20")
OF_THIS_MACHINE = pytest.mark.parametrize(
    "launcher",
    [pytest.param(name, marks=[needs(name), pytest.mark.slow]) for name in ("joblib", "submitit_local")],
)


@OF_THIS_MACHINE
def test_a_cell_whose_process_is_killed_ends_no_other(tmp_path, launcher):
    process = sweep(tmp_path, launcher, *LONG, "seed=range(3)")
    wait(lambda: saved(tmp_path) and 0 in training_processes(tmp_path), process)
    os.kill(training_processes(tmp_path)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 1 and "Traceback" not in err
    assert "lost: job #0 (seed=0): its process" in err and "1 of 3 cells are not done" in err
    store = Store(tmp_path / "runs")
    assert [run.state for run in store.runs(job_type="sweep")] == ["failed"]
    done = {"scores-demo-nano-s1-test", "scores-demo-nano-s2-test"}
    assert {artifact.name for artifact in store.artifacts(type="scores")} == done
    assert set(store.artifact("metrics-demo").metadata["inputs"]) == done
    assert all(is_of_first_try(store, seed) for seed in (1, 2)), "none was cut off"


def is_of_first_try(store, seed):
    [run] = [run for run in store.runs(job_type="train") if run.config["seed"] == seed]
    return run.state == "finished" and not is_alive(run) and len(store.outputs(run.id)) == 1


@OF_THIS_MACHINE
def test_a_signal_to_the_sweep_stops_its_workers_when_they_have_saved(tmp_path, launcher):
    process = sweep(tmp_path, launcher, *LONG, "train.steps=100000")
    wait(lambda: saved(tmp_path) and len(training_processes(tmp_path)) == 2, process)
    process.terminate()
    _, err = process.communicate(timeout=500)
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in err
    store = Store(tmp_path / "runs")
    assert {run.state for run in store.runs() if run.job_type in ("sweep", "train")} == {"stopped"}
    assert all("is saved" in run.error for run in store.runs(job_type="train"))


@needs("ray")
@pytest.mark.slow
def test_ray(tmp_path):
    # workers give way to everything else by default
    check_swept(tmp_path, sweep(tmp_path, "ray", environment={**os.environ, "RAY_worker_niceness": "0"}))


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm.cluster(folder) as environment:
        yield environment


@needs("submitit_slurm")
@needs_slurm
@pytest.mark.slow
def test_slurm(tmp_path, cluster):
    check_swept(tmp_path, sweep(tmp_path, "submitit_slurm", "hydra.launcher.cpus_per_task=1", environment=cluster))


@needs("submitit_slurm")
@needs_slurm
@pytest.mark.slow
@pytest.mark.parametrize("preempted", ["by a signal", "by Slurm"])
def test_a_job_that_slurm_takes_the_machine_from_saves_waits_and_goes_on(tmp_path, cluster, preempted):
    given = (
        "train.steps=400",
        "train.checkpoint_every=20",
        "seed=0",
        "hydra.launcher.cpus_per_task=1",
        "sweeps.metrics=false",
    )
    process = sweep(tmp_path, "submitit_slurm", *given, environment=cluster)
    wait(lambda: saved(tmp_path), process)
    [job] = slurm.output(["squeue", "-h", "-o", "%A"], cluster).split()
    if preempted == "by a signal":  # as before a time limit, or where the partition warns with it
        subprocess.run(["scancel", "--signal=USR2", job], env=cluster, check=True)
    else:  # as for a job of a higher priority: SIGTERM, and back into the queue
        subprocess.run(["scontrol", "requeue", job], env=cluster, check=True)
    wait(lambda: " PENDING " in slurm.output(["squeue", "-h", "-o", " %T "], cluster), process)
    store = Store(tmp_path / "runs")
    [run] = store.runs(job_type="train")
    assert run.state == "stopped" and "is saved" in run.error
    stopped_at = int(re.search(r"after step (\d+) of 400", run.error)[1])
    assert max(saved(tmp_path)) == stopped_at < 400
    # Slurm lets a job wait two minutes before it starts again
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=cluster, check=True)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err + out
    assert "demo-nano-s0" in " ".join(artifact.name for artifact in store.artifacts(type="scores"))
    [run] = store.runs(job_type="train")
    assert run.state == "finished"
    steps = [point["step"] for point in store.history(run.id)]
    assert steps == sorted(set(steps)) and steps[-1] == 400


def saved(folder):
    return [int(path.name) for path in folder.glob("runs/checkpoints/*/*") if path.name.isdigit()]


def wait(condition, process):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
