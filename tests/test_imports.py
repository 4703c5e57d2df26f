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
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


DOORS = {  # a command whose name is in a room and whose work is to the right of it: nothing may import it
    "conf/init/__main__.py",
}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_left_only(room):
    to_the_right = ROOMS[ROOMS.index(room) + 1 :] + ["tests"]
    for path in (REPO / room).rglob("*.py"):
        for name in imported(path):
            if path.relative_to(REPO).as_posix() in DOORS:
                continue
            assert name.split(".")[0] not in to_the_right, f"{path} imports {name}"


def test_nothing_imports_a_door():
    doors = {door.removesuffix(".py").replace("/", ".") for door in DOORS}
    doors |= {door.removesuffix(".__main__") for door in doors}
    for room in ROOMS:
        for path in (REPO / room).rglob("*.py"):
            assert not doors & set(imported(path)), f"{path} imports a command"


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


def modules(room):
    """Each module of a room by its name, with the modules of the room that it imports, wherever in it that stands."""
    paths = {".".join(path.relative_to(REPO).with_suffix("").parts): path for path in (REPO / room).rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found = {}
    for name, path in paths.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= parts & paths.keys()  # `from package import module`
                if parts - paths.keys():
                    found[name].add(node.module)
    return {name: imports & paths.keys() for name, imports in found.items()}


def cycles(graph):
    """The groups of modules of which each imports the others, by whatever way (Tarjan's algorithm)."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[-len(group) :]
            if len(group) > 1 or node in graph[node]:
                found.append(sorted(group))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_a_cycle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_imports_itself_by_way_of_others(room):
    assert cycles(modules(room)) == []


@pytest.mark.parametrize(
    "module",
    [
        "conf.app",
        "conf.init.__main__",
        "tracking.__main__",
        "metrics.__main__",
        "metrics.wandb_report",
        "sweeps.status",
        "train.__main__",
        "infer.__main__",
        "infer.switcher.stage",
        "infer.switcher.bundle",
        "infer.apply.stage",
        "infer.evaluate.stage",
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


def test_no_test_module_imports_another():
    for path in (REPO / "tests").rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            assert not (parts[0] == "tests" and parts[-1].startswith(("test_", "conftest"))), (
                f"{path} imports {name}: what both need goes into a fixture or a module that is no test"
            )


def test_no_module_is_a_bag_of_odds_and_ends():
    names = {path.stem for room in ROOMS for path in (REPO / room).rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}
