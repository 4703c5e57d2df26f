import json
import os
import subprocess
import sys

import pytest

from conf.errors import SwitchyardError
from conf.schema import Mesh
from tests.conftest import REPO
from tests.test_train_loop import SMALL, config_in, train_here
from tracking.store import Store
from train.sharding import make_mesh


def losses(root, devices, *overrides):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "train", *SMALL, "train.steps=8", "train.log_every=1", f"tracking.root={root}"]
    subprocess.run([*command, *overrides], cwd=REPO, env=environment, check=True, capture_output=True)
    store = Store(root)
    [run] = store.runs(job_type="train")
    return [point["loss"] for point in store.history(run.id)]


def test_eight_devices_train_what_one_trains(tmp_path):
    one = losses(tmp_path / "one", 1)
    eight = losses(tmp_path / "eight", 8, "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2")
    assert eight == pytest.approx(one, rel=1e-4)  # float32 sums in another order, over 8 steps


@pytest.mark.parametrize("mesh", [Mesh(data=3), Mesh(data=-1, fsdp=-1), Mesh(data=0), Mesh(data=1, fsdp=2)])
def test_a_mesh_that_does_not_fit_is_refused(mesh):
    with pytest.raises(SwitchyardError, match="mesh data="):
        make_mesh(mesh)


def test_a_batch_that_can_t_be_shared_is_refused(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    command = [sys.executable, "-m", "train", *SMALL, f"tracking.root={tmp_path / 'runs'}"]
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "train.batch_size=8" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_model_records_nothing_of_the_mesh(compose, tmp_path):
    model = train_here(config_in(compose, tmp_path / "runs", "train.steps=2"))
    assert "mesh" not in json.dumps(model.metadata)
