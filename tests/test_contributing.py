"""The recipes of CONTRIBUTING.md, followed: a copy of the checkout gets a recipe's patches and does what they add."""

import csv
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import REPO
from tests.synthetic_scores import synthetic_grid, write_grid

ROOMS = ["conf", "tracking", "metrics", "train", "infer", "sweeps"]
TEXT = (REPO / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TEXT, flags=re.S | re.M))


@pytest.fixture
def checkout(tmp_path):
    """A function: titles of recipes -> a copy of the checkout with their patches."""

    def patched(*titles):
        copy = tmp_path / "checkout"
        for name in [*ROOMS, "tests"]:
            shutil.copytree(REPO / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPO / "pyproject.toml", copy)
        for title in titles:
            patches = re.findall(r"^```diff\n(.*?)^```", RECIPES[title], flags=re.S | re.M)
            assert patches, f"{title} has no patch"
            for patch in patches:  # one a file; lines may have moved since it was written
                command = ["git", "apply", "--recount", "--unidiff-zero", "-"]
                result = subprocess.run(command, cwd=copy, input=patch, capture_output=True, text=True)
                assert result.returncode == 0, f"{title}: a patch no longer fits the code: {result.stderr}"
        return copy

    return patched


def run(checkout, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def table(folder, name):
    with open(folder / "tables" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_recipe_that_is_promised_is_there():
    assert list(RECIPES) == ["Add a dataset", "Add a size", "Add a score", "Add a table", "Add a tracker"]


def test_a_dataset_and_a_size(checkout, tmp_path):
    copy = checkout("Add a dataset", "Add a size")
    shop = tmp_path / "shop"
    shop.mkdir()
    for split, rows in (("train", 64), ("test", 8)):
        lines = [f"{'good' if n % 2 else 'bad'} parcel {n},{'p' if n % 2 else 'c'}" for n in range(rows)]
        (shop / f"{split}.csv").write_text("\n".join(["review,kind", *lines]) + "\n")
    cell = ("dataset=shop_reviews", f"dataset.path={shop}", "size=pico", "seed=0", "tokenizer.vocabulary_size=64")
    run(copy, "train", *cell, "train.steps=2", "train.batch_size=8")
    assert "model-shop_reviews-pico-s0" in run(copy, "tracking", "ls")


def test_a_score(checkout, tmp_path):
    copy = checkout("Add a score")
    for classes in (2, 3):
        write_grid(synthetic_grid(seeds=2, examples=200, classes=classes, slices=False), tmp_path / f"scores{classes}")
        out = tmp_path / f"out{classes}"
        scores = f"metrics.scores={tmp_path}/scores{classes}/*.parquet"
        run(copy, "metrics", scores, f"metrics.out={out}", "metrics.resamples=20")
        gain = {row["score"]: float(row["mean"]) for row in table(out, "table3")}
        assert "1 - p₁" in (out / "tables" / "table3.md").read_text()
        if classes == 2:  # both order the examples alike
            assert gain["confidence"] == pytest.approx(gain["margin"], abs=1e-12)
        else:
            assert gain["confidence"] != gain["margin"]


def test_a_table(checkout, tmp_path):
    copy = checkout("Add a table")
    runs = synthetic_grid(seeds=2, examples=200, classes=3, slices=False)
    write_grid(runs, tmp_path / "scores")
    out = tmp_path / "out"
    run(copy, "metrics", f"metrics.scores={tmp_path}/scores/*.parquet", f"metrics.out={out}", "metrics.resamples=20")
    [row] = table(out, "both_wrong")
    small, large = ([one.correct for one in runs if one.metadata.size == row[size]] for size in ("small", "large"))
    shares = [(~a & ~b).mean() for a in small for b in large]
    assert float(row["both_wrong"]) == pytest.approx(100 * sum(shares) / len(shares), abs=1e-9)
    assert "Examples that both models get wrong" in (out / "report" / "index.html").read_text()
    assert "both_wrong" in (out / "summary.json").read_text()


def test_a_tracker(checkout):
    copy = checkout("Add a tracker")
    assert "backend: journal" in run(copy, "train", "dataset=demo", "size=nano", "tracking=journal", "--cfg", "job")
    code = (
        "from conf.schema import Tracking; from tracking import open_tracker\n"
        "config = Tracking(backend='journal', root='runs'); config.check()\n"
        "open_tracker(config).start_run('first', job_type='train', config={}).finish()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True)
    assert (copy / "runs" / "journal.txt").read_text() == "first\n"
    run(copy, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_tracking_contract.py", "-k", "journal")
