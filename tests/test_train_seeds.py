"""Several seeds in one process: each ends as its own separate run, stopped or not, whatever becomes of the others."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest

from conf.errors import EdgewiseError
from tests.support import REPO
from tests.toy_answers import TOY_CELL, translations
from tests.training import SMALL, config_in, score_here, train_here
from tracking.store import Store
from train.seeds import seeds_of, side_by_side
from train.sharding import device_groups
from train.stopping import Stopped

QUICK = (*SMALL, "train.steps=6", "train.eval_every=0")


def start(name, root, devices, *overrides):
    # PJRT_NPROC: tests/eight_devices.py says why
    xla_flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    flags = {"XLA_FLAGS": xla_flags, "PJRT_NPROC": "64"}
    command = [sys.executable, "-m", name, *overrides, f"tracking.root={root}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPO, env=os.environ | flags, **pipes)


def finish(process):
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def wait_for_history(root, process):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if (root / "store.db").exists():
            store = Store(root)
            if any(store.history(run.id) for run in store.runs(job_type="train")):
                return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("no seed came as far as its first log")


def digests(root, *seeds):
    store = Store(root)
    names = [name for seed in seeds for name in (f"model-demo-nano-s{seed}", f"scores-demo-nano-s{seed}-test")]
    return {name: store.artifact(name).digest for name in names}


def test_seeds_in_one_job_are_those_of_separate_runs_and_one_that_fails_stops_no_other(compose, tmp_path):
    """By the grid: seeds 0 and 1 are a job, on a device each. Another process has seed 1 at first."""
    root, apart = tmp_path / "together", tmp_path / "apart"
    grid = ("-m", *QUICK, "seed=0,1", "sweeps.seeds_per_job=2", "sweeps.metrics=false")
    held = Store(root).start_run(train_id(config_in(compose, root, *QUICK[len(SMALL) :], "seed=1")), **ELSEWHERE)
    code, out, err = finish(start("sweeps", root, 2, *grid))
    assert code == 1 and "demo-nano-s1: " in err and "Traceback" not in err, err
    assert re.findall(r"(demo-nano-s\d): done", out) == ["demo-nano-s0"]
    held.finish("failed", "given up")

    code, out, err = finish(start("sweeps", root, 2, *grid))
    assert code == 0, err
    assert re.findall(r"demo-nano-s(\d): was done already", out) == ["0"] and "demo-nano-s1: done" in out
    store = Store(root)
    assert len(store.runs(job_type="train")) == len(store.runs(job_type="infer")) == 2
    assert {run.group for run in store.runs(job_type="infer")} == {store.runs(job_type="sweep")[0].group}

    for seed in (0, 1):
        config = config_in(compose, apart, *QUICK[len(SMALL) :], f"seed={seed}")
        train_here(config)
        score_here(config)
    assert digests(root, 0, 1) == digests(apart, 0, 1)
    ids = [{run.id for run in Store(folder).runs() if re.match("(train|infer)-", run.id)} for folder in (root, apart)]
    assert ids[0] == ids[1] and len(ids[0]) == 4


ELSEWHERE = {"job_type": "train", "config": {"dataset": {"name": "demo"}, "size": {"name": "nano"}, "seed": 1}}


def train_id(config):
    from train.identity import train_run_id

    return train_run_id(config)


@pytest.mark.slow
def test_a_signal_stops_all_seeds_and_the_same_commands_end_as_if_there_had_been_none(compose, tmp_path):
    root = tmp_path / "runs"
    given = (
        *SMALL,
        "train.steps=300",
        "train.batch_size=2",
        "train.log_every=2",
        "train.eval_every=0",
        "seed=4",
        "mesh.seed=2",
    )
    process = start("train", root, 2, *given)
    wait_for_history(root, process)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGTERM and "the same command goes on from there" in err, err
    states = {run.state: run.error for run in Store(root).runs(job_type="train")}
    assert int(re.search(r"after step (\d+) of 300", states["stopped"])[1]) < 300
    assert set(states) <= {"stopped", "finished"}  # the seed that started first may have been through

    code, out, err = finish(start("train", root, 2, *given))
    assert code == 0 and "logged model-demo-nano-s" in out, err
    code, out, err = finish(start("train", root, 2, *given))
    assert code == 0 and out.count("is trained already") == 2, err
    for seed in (4, 5):
        config = config_in(compose, tmp_path / "apart", *given[len(SMALL) : -2], f"seed={seed}")
        assert train_here(config).digest == Store(root).artifact(f"model-demo-nano-s{seed}").digest


@pytest.mark.slow
def test_three_seeds_that_write_answers_on_meshes_of_their_own(tmp_path):
    """Two devices each, parameters cut over both: what one seed's devices send each other reaches no other's."""

    for split, n, seed in (("train", 60, 0), ("test", 21, 1)):
        rows = "".join(json.dumps(row) + "\n" for row in translations(n, seed))
        (tmp_path / f"{split}.jsonl").write_text(rows)
    toy = ("dataset=translation", "dataset.name=toy", f"dataset.path={tmp_path}")
    cell = (*toy, *TOY_CELL, "mesh.data=1", "mesh.fsdp=2")
    for root, devices, own in (("together", 6, ("seed=3", "mesh.seed=3")), ("apart", 2, ("seed=5",))):
        for name in ("train", "infer"):
            code, _, err = finish(start(name, tmp_path / root, devices, *cell, *own))
            assert code == 0, err
    together, apart = Store(tmp_path / "together"), Store(tmp_path / "apart")
    assert len(together.runs(job_type="infer")) == 3
    for kind in ("model-toy-nano-s5", "scores-toy-nano-s5-test"):
        assert together.artifact(kind).digest == apart.artifact(kind).digest


@pytest.fixture
def two_groups(monkeypatch):
    """As if there were two devices; a process of tests has one."""
    monkeypatch.setattr("train.sharding.device_groups", lambda n: [jax.devices()] * n)


def test_each_seed_has_the_config_of_its_separate_run(compose):
    assert seeds_of(compose("seed=3", "mesh.seed=2")) == [compose("seed=3"), compose("seed=4")]


def test_a_seed_that_fails_is_said_at_once_and_stops_no_other(compose, two_groups, capsys):
    config, through = compose("seed=3", "mesh.seed=2"), []

    def work(cell, devices, stop):
        if cell.seed == 3:
            raise EdgewiseError("no good")
        while "no good" not in (said := capsys.readouterr().err):
            time.sleep(0.01)
        through.append((cell.seed, said))

    with pytest.raises(EdgewiseError, match="1 of 2 seeds failed: 3"):
        side_by_side(config, seeds_of(config), work)
    assert through == [(4, "error: demo-nano-s3: no good\n")]


def test_a_signal_reaches_the_seed_that_is_left(compose, two_groups):
    config, through = compose("seed=3", "mesh.seed=2"), []

    def work(cell, devices, stop):
        if cell.seed == 4:
            while through != [3]:
                time.sleep(0.01)
            time.sleep(0.05)  # the main thread waits for this one, and the signal doesn't cut its wait short
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            while not stop.received:
                time.sleep(0.01)
            stop.check()
        through.append(cell.seed)

    with pytest.raises(Stopped) as stopped:
        side_by_side(config, seeds_of(config), work)
    assert stopped.value.code == 128 + signal.SIGUSR1 and through == [3]


STUBBORN = r"""
import os, time, train.sharding
from conf.schema import Config, Mesh
from train.seeds import seeds_of, side_by_side

def work(cell, devices, stop):
    os.write(1, b"works\n")
    while not stop.received:
        time.sleep(0.01)
    os.write(1, b"heard it\n")
    time.sleep(1000)

train.sharding.device_groups = lambda n: [train.sharding.jax.devices()] * n
config = Config(mesh=Mesh(seed=2))
config.dataset.name = config.size.name = "some"
side_by_side(config, seeds_of(config), work)
"""


def test_a_second_ctrl_c_ends_the_process():
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], cwd=REPO, stdout=subprocess.PIPE, text=True)
    for line in ("works\n", "heard it\n"):
        assert [process.stdout.readline() for _ in range(2)] == [line] * 2
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT


def test_the_groups_are_disjoint_and_hold_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: list(range(8)))
    assert device_groups(2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert device_groups(8) == [[i] for i in range(8)]
    with pytest.raises(EdgewiseError, match="mesh.seed=3 does not fit 8 devices"):
        device_groups(3)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(EdgewiseError, match="mesh.seed=2 with several processes: expected 1; start a job for each"):
        device_groups(2)


@pytest.mark.parametrize("override", ["mesh.seed=0", "sweeps.seeds_per_job=0"])
def test_a_count_below_one_is_refused(compose, override):
    with pytest.raises(EdgewiseError, match=f"{override}: expected 1 or more"):
        compose(override)
