import shutil
import subprocess

import pytest

from tests.longest import LONGEST
from tests.support import REPO

pytestmark = pytest.mark.skipif(shutil.which("just") is None, reason="just is not installed")


def just(*arguments):
    return subprocess.run(["just", *arguments], cwd=REPO, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("recipe", ["demo", "train", "infer", "metrics", "sweep", "status"])
def test_an_override_with_blanks_and_brackets_arrives_in_one_piece(recipe):
    given = ["dataset.classes={0: negative, 1: positive}", "seed=range(5)"]
    shown = just("--no-deps", "--set", "python", r"printf '%s\n'", recipe, *given)
    assert shown.splitlines()[-2:] == given


def test_every_recipe_has_a_group_and_a_line_of_help_that_fits_a_screen():
    _, *groups = just("--list", "--unsorted").split("    [")
    assert [group.split("]")[0] for group in groups] == ["use", "work on it", "measure"]
    recipes = [line for group in groups for line in group.splitlines()[1:] if line.strip()]
    assert all("# " in line and len(line) <= 120 for line in recipes)
    names = {line.split()[0] for line in recipes}
    wanted = "setup demo train infer metrics sweep status test test-slow lint fmt docs lock bench"
    assert names >= set(wanted.split())


def test_the_longest_files_begin():
    assert "--no-loadscope-reorder" in just("--show", "test").split()
    assert {name for name in LONGEST if not (REPO / "tests" / name).exists()} == set()


def test_both_locks_are_made_by_one_recipe_and_name_no_host():
    made = [word for word in just("--show", "lock").split() if word.endswith(".lock")]
    assert made == ["requirements.lock", "requirements-docs.lock"]
    for lock in made:
        text = (REPO / lock).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text and "--index-url" not in text and "--find-links" not in text
