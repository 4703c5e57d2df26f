"""Which cells of a grid share a job."""

import subprocess
import sys

import pytest

from conf.errors import EdgewiseError
from sweeps.seeds import consecutive_seeds, overrides_of_jobs, split_seed
from tests.support import REPO


def cells(sizes, seeds):
    return [[f"size={size}", f"seed={seed}", "train.steps=4"] for size in sizes for seed in seeds]


def job(size, first, count):
    return [f"size={size}", "train.steps=4", f"seed={first}", f"mesh.seed={count}"]


@pytest.mark.parametrize(
    ("seeds", "n", "wanted"),
    [
        (range(4), 2, [(0, 2), (2, 2)]),
        (range(5), 2, [(0, 2), (2, 2), (4, 1)]),
        ([0, 1, 2, 5, 6], 2, [(0, 2), (2, 1), (5, 2)]),
        ([6, 0, 5], 8, [(0, 1), (5, 2)]),
        (range(7), 4, [(0, 4), (4, 2), (6, 1)]),
        ([0, 1, 2, 4, 5, 6, 7], 4, [(0, 2), (2, 1), (4, 4)]),
        (range(11), 6, [(0, 6), (6, 3), (9, 2)]),
        (range(9), 5, [(0, 5), (5, 1), (6, 1), (7, 1), (8, 1)]),
    ],
)
def test_consecutive_seeds_of_a_cell_are_one_job(seeds, n, wanted):
    assert overrides_of_jobs(cells(["a", "b"], seeds), n) == [job(size, *one) for size in ("a", "b") for one in wanted]


@pytest.mark.parametrize("n", range(1, 13))
def test_every_job_fits_where_a_full_one_does(n):
    """A job's seeds have equal groups of devices: its length divides their number where `n` does."""
    for count in range(1, 30):
        jobs = consecutive_seeds(range(count), n)
        assert [seed for job in jobs for seed in job] == list(range(count))
        assert all(n % len(job) == 0 for job in jobs)


def test_a_seed_given_twice_is_a_job_of_its_own():
    assert consecutive_seeds([0, 0, 1], 2) == [[0], [0, 1]]  # the grid refuses it


def test_seeds_that_are_swept_before_other_keys_find_together():
    turned = [cell for seed in range(2) for size in ("a", "b") for cell in cells([size], [seed])]
    assert overrides_of_jobs(turned, 2) == [job("a", 0, 2), job("b", 0, 2)]


def test_without_it_the_cells_are_the_jobs():
    assert overrides_of_jobs(cells(["a"], [3, 1]), 1) == cells(["a"], [3, 1])
    assert overrides_of_jobs([["size=a"], ["size=b"]], 2) == [
        ["size=a"],
        ["size=b"],
    ]  # no seed is given: it is the config's


def sweeps(root, *overrides):
    command = [sys.executable, "-m", "sweeps", *overrides, f"tracking.root={root}"]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


def test_the_grid_still_lists_each_seed_as_a_cell(tmp_path):
    result = sweeps(tmp_path, "sweep=paper", "sweeps.seeds_per_job=5", "sweeps.list=true")
    assert result.returncode == 0 and "240 cells" in result.stdout, result.stderr


def test_mesh_seed_in_a_grid_is_refused(tmp_path):
    result = sweeps(tmp_path, "-m", "seed=range(4)", "mesh.seed=2")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "mesh.seed=2 in a grid: expected 1" in result.stderr and "sweeps.seeds_per_job=2" in result.stderr


def test_the_seed_is_read_from_a_cell_s_overrides():
    assert split_seed(["size=a", "seed=3", "mesh.seed=1"]) == (("size=a", "mesh.seed=1"), 3)
    assert split_seed(["size=a"]) == (("size=a",), None)
    for value in ("a", "-1", "1.5", "", "²", "010", "2147483648"):
        with pytest.raises(EdgewiseError, match=rf"seed='?{value}'?: expected a whole number from 0"):
            split_seed([f"seed={value}"])
