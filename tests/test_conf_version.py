"""Every command says which version of the product it is."""

import subprocess
import sys
import tomllib

import pytest

from conf.version import product_version
from tests.support import REPO


def test_the_version_is_the_projects():
    assert product_version() == tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("command", ["tracking", "train", "infer", "metrics", "sweeps"])
def test_a_command_prints_the_version(command):
    done = subprocess.run([sys.executable, "-m", command, "--version"], cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edgewise {product_version()}\n", "")
