"""Imports point left only, and what merely looks at results starts without JAX."""

import ast
import subprocess
import sys

import pytest

from tests.support import REPO

ROOMS = ["conf", "tracking", "metrics", "train", "infer", "sweeps"]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_left_only(room):
    to_the_right = ROOMS[ROOMS.index(room) + 1 :] + ["tests"]
    for path in (REPO / room).rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in to_the_right, f"{path} imports {name}"


OWNERS = {
    "wandb": "tracking/wandb/",
    "wandb_workspaces": "metrics/wandb_report.py",
    "orbax": "train/checkpoint.py",
    "sqlite3": "tracking/database.py",
}


@pytest.mark.parametrize("package", OWNERS)
def test_a_dependency_has_one_owner(package):
    files = {
        str(path.relative_to(REPO))
        for room in ROOMS
        for path in (REPO / room).rglob("*.py")
        if any(name.split(".")[0] == package for name in imported(path))
    }
    assert files and all(file.startswith(OWNERS[package]) for file in files)


@pytest.mark.parametrize(
    "module",
    [
        "conf.app",
        "tracking.__main__",
        "metrics.__main__",
        "metrics.wandb_report",
        "sweeps.status",
        "train.__main__",
        "infer.__main__",
        "sweeps.__main__",
    ],
)
def test_a_command_starts_without_jax(module):
    code = (
        f"import sys, {module}; print([m for m in ('jax', 'flax', 'orbax', 'wandb', 'datasets') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_scoring_loads_no_tables_figures_or_report():
    code = "import sys, infer.scoring; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    rooms = ("analysis", "beyond", "figures", "output", "report", "tables")
    unneeded = {"matplotlib", "sklearn", *(f"metrics.{room}" for room in rooms)}
    assert "metrics.scores.preview" in loaded and not loaded & unneeded


def test_no_module_is_a_bag_of_odds_and_ends():
    names = {path.stem for room in ROOMS for path in (REPO / room).rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}
