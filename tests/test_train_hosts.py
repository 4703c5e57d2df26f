"""Two processes of four CPU devices each train one cell together: what one process of eight trains, killed or not."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conf.errors import EdgewiseError
from tests.slurm import free_port
from tests.support import REPO
from tests.training import SMALL
from tracking.store import Store

GIVEN = (*SMALL, "size.d_model=16", "train.batch_size=16", "mesh.data=2", "mesh.fsdp=4")


def start(name, root, devices, *overrides):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PJRT_NPROC": "64"}
    command = [sys.executable, "-m", name, *GIVEN, f"tracking.root={root}", *overrides]
    return subprocess.Popen(
        command, cwd=REPO, env=os.environ | flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_two(name, root, *overrides):
    address = f"hosts.coordinator=127.0.0.1:{free_port()}"
    return [start(name, root, 4, address, "hosts.processes=2", f"hosts.process={i}", *overrides) for i in range(2)]


def ends(processes):
    return [(process.communicate(timeout=500), process.returncode) for process in processes]


def parameters(artifact):
    from safetensors.numpy import load_file

    return load_file(artifact.file("model.safetensors"))


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    """The model, history and scores of one process with eight devices."""
    root = tmp_path_factory.mktemp("one") / "runs"
    for name in ("train", "infer"):
        [((_, err), code)] = ends([start(name, root, 8)])
        assert code == 0, err
    return same(root)


def same(root):
    from metrics.scores import read_scores

    store = Store(root)
    [run] = store.runs(job_type="train")
    assert run.state == "finished"
    scores = read_scores(store.artifact("scores-demo-nano-s0-test").file("scores.parquet"))
    return parameters(store.artifact("model-demo-nano-s0")), store.history(run.id), scores.class_log_likelihoods


def check_same(found, wanted):
    for name, array in wanted[0].items():  # float32 sums in another order, over 30 steps
        np.testing.assert_allclose(found[0][name], array, rtol=1e-3, atol=1e-4, err_msg=name)
    assert [point["step"] for point in found[1]] == [point["step"] for point in wanted[1]]
    losses = [[point["loss"] for point in history] for history in (found[1], wanted[1])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    np.testing.assert_allclose(found[2], wanted[2], rtol=1e-3, atol=1e-3)


@pytest.mark.slow  # a minute on two cores; its devices in one process: test_train_sharding
def test_two_processes_train_and_score_what_one_does(by_one, tmp_path):
    root = tmp_path / "runs"
    for name in ("train", "infer"):
        (out, code), (silent, other) = ends(start_two(name, root))
        assert (code, other) == (0, 0), out[1] + silent[1]
        assert "logged" in out[0] and "logged" not in silent[0]  # the first process speaks
    check_same(same(root), by_one)
    store = Store(root)
    assert len(store.artifacts(type="model")) == len(store.artifacts(type="data")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_is_killed_and_the_job_goes_on(by_one, tmp_path, killed):
    root = tmp_path / "runs"
    overrides = ("train.checkpoint_every=5", "train.steps=30")
    processes = start_two("train", root, *overrides)
    wait_for_step(root, processes, 5)
    processes[killed].send_signal(signal.SIGKILL)
    processes[killed].wait()
    try:
        processes[1 - killed].wait(timeout=150)  # JAX's coordinator notices, and ends the job
    except subprocess.TimeoutExpired:
        processes[1 - killed].kill()
    ends(processes)
    assert Store(root).artifacts(type="model") == []
    for name in ("train", "infer"):
        for (_, err), code in ends(start_two(name, root, *overrides)):
            assert code == 0, err
    check_same(same(root), by_one)
    again = start_two("train", root, *overrides)
    assert all(code == 0 and "is trained already" in out for (out, _), code in ends(again))


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_the_same_step(tmp_path):
    root = tmp_path / "runs"
    processes = start_two("train", root, "train.steps=100000", "train.log_every=5", "train.eval_every=0")
    wait_for_history(root, processes)
    processes[1].send_signal(signal.SIGTERM)
    (first, code), (second, other) = ends(processes)
    assert code == other == 128 + signal.SIGTERM, first[1] + second[1]
    assert "is saved" in first[1] and "is saved" not in second[1]
    [run] = Store(root).runs(job_type="train")
    assert run.state == "stopped"


def wait_for_step(root, processes, step):
    wait_until(lambda: any(int(p.name) >= step for p in root.glob("checkpoints/*/*") if p.name.isdigit()), processes)


def wait_for_history(root, processes):
    def logged():
        if not (root / "store.db").exists():
            return False
        store = Store(root)
        return any(store.history(run.id) for run in store.runs(job_type="train"))

    wait_until(logged, processes)


def wait_until(condition, processes):
    deadline = time.monotonic() + 300
    while not condition():
        assert all(process.poll() is None for process in processes), ends(processes)
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["hosts.coordinator=localhost:1"], "hosts.processes=None"),
        (["hosts.auto=true", "hosts.processes=2"], "hosts.auto=True"),
        (["hosts.coordinator=h:1", "hosts.processes=2", "hosts.process=2"], "hosts.process=2"),
        (["hosts.timeout=0"], "hosts.timeout=0"),
    ],
)
def test_hosts_that_make_no_sense_are_refused(compose, overrides, said):
    with pytest.raises(EdgewiseError, match=said):
        compose(*overrides)


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:{port}", "nothing answered there in 1 s (Connection refused)"), ("nowhere", "expected HOST:PORT")],
)
def test_a_process_that_waits_in_vain_says_so(tmp_path, address, said):
    given = f"hosts.coordinator={address.format(port=free_port())}"
    process = start("train", tmp_path / "runs", 4, given, "hosts.processes=2", "hosts.process=1", "hosts.timeout=1")
    [((out, err), code)] = ends([process])
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {given}: {said}. Expected as many processes as hosts.processes says")
    assert Store(tmp_path / "runs").runs() == []


def test_hosts_make_no_other_cell(compose, tmp_path):
    from train.identity import train_run_id

    one = compose(*SMALL, f"tracking.root={tmp_path}")
    many = compose(*SMALL, f"tracking.root={tmp_path}", "hosts.auto=true")
    assert many.hosts.auto and not one.hosts.auto
    assert train_run_id(one) == train_run_id(many)
    other = compose(*SMALL, f"tracking.root={tmp_path}", "train.steps=31")
    assert train_run_id(other) != train_run_id(one)
