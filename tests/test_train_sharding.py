import json
import os
import subprocess
import sys

import pytest

from conf.errors import EdgewiseError
from conf.schema import Mesh
from tests.support import REPO
from tests.training import SMALL, config_in, train_here
from tracking.store import Store
from train.sharding import make_mesh

QUICK = ("train.steps=8", "train.log_every=1")


@pytest.fixture
def losses_of_one(compose, tmp_path):
    """A function: the losses of a training on this process's one device."""

    def losses_of_one(*overrides):
        root = tmp_path / "one"
        train_here(config_in(compose, root, *QUICK, *overrides))
        return logged_losses(root)

    return losses_of_one


def losses(root, devices, *overrides):
    """The losses of a training on so many devices, in a process of its own."""
    # PJRT_NPROC: tests/eight_devices.py says why
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PJRT_NPROC": "64"}
    environment = os.environ | flags
    command = [sys.executable, "-m", "train", *SMALL, *QUICK, f"tracking.root={root}"]
    subprocess.run([*command, *overrides], cwd=REPO, env=environment, check=True, capture_output=True)
    return logged_losses(root)


def logged_losses(root):
    store = Store(root)
    [run] = store.runs(job_type="train")
    return [point["loss"] for point in store.history(run.id)]


@pytest.mark.slow  # its meshes: tests/eight_devices.py; by the command: three devices, below
def test_eight_devices_train_what_one_trains(losses_of_one, tmp_path):
    one = losses_of_one()
    eight = losses(tmp_path / "eight", 8, "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2")
    assert eight == pytest.approx(one, rel=1e-4)  # float32 sums in another order, over 8 steps


@pytest.fixture(scope="module")
def on_eight():
    """What tests/eight_devices.py found."""
    command = [sys.executable, "-m", "tests.eight_devices"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "full rematerialization" not in result.stderr  # XLA's warning of a layout that it can't get to
    return json.loads(result.stdout)


FLOAT32 = 1e-5  # sums in another order, over a few steps; 1e-7 was seen


@pytest.mark.parametrize("mesh", ["data", "fsdp", "tensor", "all"])
def test_each_kind_of_mesh_trains_what_one_device_trains(on_eight, mesh):
    for optimizer, found in on_eight["meshes"].items():
        if mesh in found:
            assert found[mesh]["losses"] == pytest.approx(found["one"]["losses"], rel=FLOAT32), optimizer
            assert found[mesh]["difference"] < FLOAT32, optimizer
    assert mesh in on_eight["meshes"]["adafactor"]


def test_the_state_is_born_sharded(on_eight):
    found = on_eight["meshes"]["adafactor"]
    assert found["one"]["wi"] == found["data"]["wi"] == [2, 32, 64]
    assert found["fsdp"]["wi"] == [2, 32 // 8, 64]
    assert found["tensor"]["wi"] == [2, 32, 64 // 4]
    assert found["all"]["wi"] == [2, 32 // 2, 64 // 2]
    # norms, relative biases and Adafactor's row and column statistics are small where a model is not as small as this
    assert found["fsdp"]["held"] < 0.25 and found["data"]["held"] == 1.0
    assert on_eight["meshes"]["adamw"]["all"]["held"] < 0.3  # the moments are laid out like their parameters


@pytest.mark.parametrize("mesh", ["one", "tensor", "all"])
def test_a_checkpoint_of_one_mesh_goes_on_on_another(on_eight, mesh):
    found = on_eight["checkpoints"][mesh]
    assert found["restored"] == 0.0
    assert found["difference"] < FLOAT32


def test_fsdp_moves_parameters_and_not_activations(on_eight):
    """They are gathered forward and backward, and their gradients are summed: three times their bytes, and the sums of
    the optimizer. A layout that cuts activations along d_model sums an array of them for every product."""
    found = on_eight["traffic"]
    assert found["open_loops"] == []
    assert 2 * found["parameters"] < found["moved"] < 4 * found["parameters"]


def test_no_loop_of_several_cpus_holds_a_collective(on_eight):
    """Two of them wait for each other where XLA's CPU backend lets a loop's collectives and others run in any order."""
    assert on_eight["traffic"]["in_loops"] == []


@pytest.mark.parametrize("mesh", [Mesh(data=3), Mesh(data=-1, fsdp=-1), Mesh(data=0), Mesh(data=1, fsdp=2)])
def test_a_mesh_that_does_not_fit_is_refused(mesh):
    with pytest.raises(EdgewiseError, match="mesh data="):
        make_mesh(mesh)


@pytest.mark.parametrize("batch_size", [pytest.param(8, marks=pytest.mark.slow), 2])
def test_a_batch_that_three_devices_can_t_share_equally_trains_what_one_trains(losses_of_one, tmp_path, batch_size):
    """Rows are filled up with empty ones: eight examples, or fewer than there are devices."""
    given = f"train.batch_size={batch_size}"
    one = losses_of_one(given)
    assert losses(tmp_path / "three", 3, given) == pytest.approx(one, rel=1e-4)  # as on eight devices, above


def test_the_model_records_nothing_of_the_mesh(compose, tmp_path):
    model = train_here(config_in(compose, tmp_path / "runs", "train.steps=2"))
    assert "mesh" not in json.dumps(model.metadata)
