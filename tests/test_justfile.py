import shutil
import subprocess

import pytest

from tests.support import REPO

pytestmark = pytest.mark.skipif(shutil.which("just") is None, reason="just is not installed")


def just(*arguments):
    return subprocess.run(["just", *arguments], cwd=REPO, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("recipe", ["demo", "train", "infer", "metrics", "sweep", "status"])
def test_an_override_with_blanks_and_brackets_arrives_in_one_piece(recipe):
    given = ["dataset.classes={0: negative, 1: positive}", "seed=range(5)"]
    shown = just("--no-deps", "--set", "python", r"printf '%s\n'", recipe, *given)
    assert shown.splitlines()[-2:] == given


def test_every_recipe_has_a_line_of_help():
    shown = just("--list", "--unsorted").splitlines()[1:]
    assert all("#" in line for line in shown)
    names = {line.split()[0] for line in shown}
    wanted = "setup demo train infer metrics sweep status test test-slow lint fmt bench"
    assert names >= set(wanted.split())
