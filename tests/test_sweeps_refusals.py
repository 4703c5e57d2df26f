"""Keys that a sweep would not heed, or that would have its datasets overwrite each other, are refused."""

import subprocess
import sys

import pytest

from conf.errors import EdgewiseError
from sweeps.refusals import check_alone, check_grid
from tests.support import REPO


def test_the_tables_of_two_datasets_need_two_folders(compose):
    def grid(*overrides):
        return [compose(f"dataset={name}", "size=nano", *overrides) for name in ("demo", "imdb", "demo")]

    with pytest.raises(EdgewiseError, match=r"metrics\.out=a/out for the datasets demo and imdb: .*dataset\.name"):
        check_grid(grid("metrics.out=a/out")[:2])
    with pytest.raises(EdgewiseError, match="more than once"):  # which comes after
        check_grid(grid("metrics.out=a/${dataset.name}"))
    for enough in ([], ["metrics.out=a/${dataset.name}"], ["metrics.out=a/out", "sweeps.metrics=false"]):
        check_grid(grid(*enough)[:2])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("infer.checkpoint=google/t5-small", "`python -m infer … infer.checkpoint=google/t5-small` scores"),
        ("metrics.scores=a.parquet", "`python -m metrics 'metrics.scores=a.parquet' metrics.out=DIR`"),
        ("sweeps.seeds_per_job=4", "sweeps.seeds_per_job=4 without -m: expected a grid.*mesh.seed=4"),
    ],
)
def test_what_a_cell_alone_would_not_heed_is_refused(compose, override, said):
    check_alone(compose(config_name="sweeps"))
    with pytest.raises(EdgewiseError, match=said):
        check_alone(compose(override, config_name="sweeps"))


def sweeps(root, *overrides):
    command = [sys.executable, "-m", "sweeps", *overrides, f"tracking.root={root}"]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


def test_a_folder_for_each_dataset_is_given_as_the_message_says(tmp_path):
    given = ["-m", "dataset=demo,imdb", "size=nano", "sweeps.list=true"]
    result = sweeps(tmp_path / "runs", *given, f"metrics.out={tmp_path}/out")
    assert result.returncode == 1
    instead = result.stderr.partition("give '")[2].partition("'")[0]
    result = sweeps(tmp_path / "runs", *given, instead)
    assert result.returncode == 0 and "imdb" in result.stdout, result.stderr


def test_a_cell_alone_is_listed_too(tmp_path):
    result = sweeps(tmp_path / "runs", "size=nano", "seed=3", "mesh.seed=2", "sweeps.list=true")
    assert result.returncode == 0, result.stderr
    assert "2 cells" in result.stdout and "nano" in result.stdout and "3 4" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_a_command_without_a_grid_refuses_what_only_a_grid_does(tmp_path):
    result = sweeps(tmp_path / "runs", "size=nano", "sweeps.seeds_per_job=4")
    assert result.returncode == 1 and "error: sweeps.seeds_per_job=4 without -m" in result.stderr
    assert not (tmp_path / "runs").exists()
