"""A grid takes all of Hydra's sweep syntax, and what it can't run is refused before memory or time goes."""

import subprocess
import sys

import pytest
from hydra import initialize_config_dir

from conf.app import CONF
from conf.errors import EdgewiseError
from sweeps.overrides import MOST_CELLS, overrides_of_cells
from tests.support import REPO


@pytest.fixture
def cells():
    with initialize_config_dir(CONF, version_base="1.3"):
        yield lambda *arguments: overrides_of_cells(arguments)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("size=glob(n*)", ["nano"]),
        ("size=glob([n*,mi*])", ["micro", "mini", "nano"]),
        ("size=glob(*,exclude=[v*,w*,3b,auto,large,base,small,tiny])", ["micro", "mini", "nano"]),
        ("size=nano,micro", ["nano", "micro"]),
        ("size=choice(nano,micro)", ["nano", "micro"]),
        ("size=sort(nano,micro)", ["micro", "nano"]),
        ("seed=range(3)", ["0", "1", "2"]),
        ("seed=range(5,0,-2)", ["5", "3", "1"]),
        ("seed=shuffle(range(1))", ["0"]),
        ("train.z_loss=range(0,0.5,0.2)", ["0.0", "0.2", "0.4"]),
        ("seed=7", ["7"]),
    ],
)
def test_what_hydra_can_sweep(cells, argument, values):
    key = argument.partition("=")[0]
    assert cells(argument) == [[f"{key}={value}"] for value in values]


def test_the_order_is_that_of_hydras_sweeper(cells):
    """The last key runs fastest, and the last override of a key is the one that counts."""
    grid = cells("seed=range(9)", "size=glob(n*)", "seed=0,1")
    assert grid == [["seed=0", "size=nano"], ["seed=1", "size=nano"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["size=interval(0,1)"], r"size=interval\(0,1\): an interval is for .*write size=A,B,C"),
        (["seed=range(0)"], r"seed=range\(0\): holds no value"),
        (["seed=range(3,1)"], "holds no value"),
        (["size=glob(x*)"], r"size=glob\(x\*\): holds no value"),
        (["seed=range(0,1,0)"], "a step other than 0"),
        (["seed=range(1e9)"], "1,000,000,000 cells, expected at most 100,000"),
        (["seed=range(1e400)"], "expected finite numbers"),
        (["seed=range(100000000000000000000000)"], "100,000,000,000,000,000,000,000 cells"),
        (["seed=range(1000)", "size=nano,micro", "train.steps=range(1000)"], "2,000,000 cells"),
    ],
)
def test_what_no_grid_can_hold(cells, arguments, said):
    with pytest.raises(EdgewiseError, match=said):
        cells(*arguments)


def test_a_grid_may_be_large(cells):
    assert len(cells(f"seed=range({MOST_CELLS})")) == MOST_CELLS


def sweeps(root, *overrides):
    command = [sys.executable, "-m", "sweeps", "-m", *overrides, f"tracking.root={root}"]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


def test_a_glob_on_the_command_line(tmp_path):
    result = sweeps(tmp_path / "runs", "size=glob([n*,mi*])", "sweeps.list=true")
    assert result.returncode == 0, result.stderr
    assert "3 cells" in result.stdout and "mini" in result.stdout


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=range(1e9)", "1,000,000,000 cells"),
        ("seed=2^63", "seed='2^63': expected a whole number"),
        ("seed=010,1", "seed='010': expected a whole number"),
        ("seed=0,0", "demo-nano-0 more than once"),
        ("mesh.seed=2", "mesh.seed=2 in a grid"),
        ("infer.checkpoint=/x", "infer.checkpoint=/x in a sweep: expected none"),
        ("metrics.scores=/x/*.parquet", "metrics.scores=/x/*.parquet in a sweep: expected none"),
    ],
)
def test_what_the_start_would_refuse_the_list_refuses(tmp_path, override, said):
    result = sweeps(tmp_path / "runs", override, "sweeps.list=true")
    assert result.returncode == 1 and result.stdout == ""
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
