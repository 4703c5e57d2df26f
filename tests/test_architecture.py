"""docs/architecture.md is true: what it names is there, and every module is found from it."""

import ast
import re

from tests.support import REPO

TEXT = (REPO / "docs" / "architecture.md").read_text()
ROOMS = ["conf", "tracking", "metrics", "train", "infer", "sweeps"]
NAMED = set(re.findall(rf"`((?:{'|'.join([*ROOMS, 'tests', 'bench', 'docs'])})/[^`\s]*)`", TEXT))


def names_in(path):
    for node in ast.walk(ast.parse((REPO / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_every_path_that_it_names_exists():
    assert len(NAMED) > 50
    for name in NAMED:
        assert (REPO / name).is_dir() if name.endswith("/") else (REPO / name).is_file(), name


def test_every_module_is_named_or_is_in_a_folder_that_is_named():
    for room in ROOMS:
        for path in (REPO / room).rglob("*.py"):
            own = path.relative_to(REPO).as_posix()
            folders = {f"{parent.as_posix()}/" for parent in path.relative_to(REPO).parents} - {f"{room}/"}
            assert path.name == "__init__.py" or own in NAMED or NAMED & folders or path.name == "__main__.py", own


def test_what_is_to_be_changed_is_where_the_table_says():
    rows = re.findall(r"^\| *([^|]*?) *\| (`[^|]+`) \| ([^|]+) \|$", TEXT, flags=re.M)
    subjects = {subject for subject, *_ in rows if subject}
    assert subjects >= {"a new score", "a new dataset", "a new table", "another tracker", "another attention"}
    for _, where, what in rows:
        files = [name for name in re.findall(r"`([^`]+)`", where + what) if name.endswith(".py")]
        defined = {name for file in files for name in names_in(file)}
        for name in re.findall(r"`([A-Za-z_]+)`", what):
            if not files:
                continue
            assert name in defined, f"{name} is in none of {', '.join(files)}"


def test_its_links_lead_somewhere():
    for link in re.findall(r"\]\(([\w.]+\.md)\)", TEXT):
        assert (REPO / "docs" / link).is_file(), link
