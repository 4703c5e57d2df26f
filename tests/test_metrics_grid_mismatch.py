"""Runs that were trained or scored with different settings are told apart in the notes."""

import pytest

from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.grid.collect import collect_grids
from metrics.grid.mismatch import settings_notes
from tests.synthetic_scores import synthetic_grid


def training(seed, size, **train):
    return {
        "version": 1,
        "dataset": {"name": "synthetic", "template": "{text}"},
        "size": {"name": size, "d_model": len(size)},
        "optimizer": {"learning_rate": 0.001},
        "train": {"steps": 100, "batch_size": 32, **train},
        "seed": seed,
    }


@pytest.fixture
def grid():
    grid = synthetic_grid(seeds=3, examples=20)
    for one in grid:
        m = one.metadata
        m.config = {
            "training": training(m.seed, m.size),
            "scoring": {"model": m.model, "dtype": "float32"},
            "label_tokens": [2, 2],
        }
    return grid


def notes(grid):
    return settings_notes([one.metadata for one in grid])


def test_seed_size_and_model_are_no_settings(grid):
    assert notes(grid) == []


def test_files_from_elsewhere_have_nothing_to_say(grid):
    assert notes(synthetic_grid(seeds=2, examples=20)) == []
    grid[1].metadata.config = {}
    assert notes(grid) == []


def test_a_run_that_took_other_steps_is_named(grid):
    grid[1].metadata.config["training"]["train"]["steps"] = 200
    (note,) = notes(grid)
    assert note == (
        "The runs of small were trained or scored with different settings, and their means mix them: "
        "seed 1 has training.train.steps 200, not 100; all against seeds 0, 2."
    )


def test_the_first_few_keys_are_named(grid):
    train = grid[0].metadata.config["training"]
    train["train"] = {"steps": 1, "batch_size": 2, "dropout": 0.1}
    train["optimizer"] = {"learning_rate": 0.5}
    (note,) = notes(grid)
    assert "training.optimizer.learning_rate 0.5, not 0.001, training.train.batch_size 2, not 32" in note
    assert "training.train.dropout 0.1, not none and 1 more; all against seeds 1, 2" in note


def test_sizes_that_differ(grid):
    for one in grid:
        if one.metadata.size == "base":
            one.metadata.config["training"]["train"]["steps"] = 50
    (note,) = notes(grid)
    assert note == "base was trained or scored with other settings than small: it has training.train.steps 50, not 100."


def test_each_size_starts_from_a_checkpoint_of_its_own(grid):
    for one in grid:
        one.metadata.config["training"]["train"]["init"] = f"digest of {one.metadata.size}"
    assert notes(grid) == []
    grid[0].metadata.config["training"]["train"]["init"] = "another"  # of one size there is one
    (note,) = notes(grid)
    assert note.startswith("The runs of small") and "seed 0 has training.train.init" in note
    for one in grid:
        if one.metadata.size == "small":
            one.metadata.config["training"]["train"]["init"] = None
    (note,) = notes(grid)
    assert note.endswith('than small: it has training.train.init "a checkpoint", not null.')


def test_an_outside_architecture_is_no_setting_across_sizes(grid):
    for one in grid:
        one.metadata.config["training"] = {"d_model": len(one.metadata.size), "num_layers": 6}
    assert notes(grid) == []
    grid[0].metadata.config["training"]["num_layers"] = 8
    (note,) = notes(grid)
    assert "seed 0 has training.num_layers 8, not 6" in note


def test_scoring_and_signature_count(grid):
    grid[2].metadata.config["scoring"]["dtype"] = "bfloat16"
    grid[4].metadata.signature = "other"
    small, base = notes(grid)
    assert 'seed 2 has scoring.dtype "bfloat16", not "float32"' in small
    assert 'seed 1 has scores.signature "other", not "synthetic"' in base


def test_the_notes_reach_every_output(grid):
    grid[1].metadata.config["training"]["train"]["steps"] = 200
    (expected,) = notes(grid)
    (collected,) = collect_grids(grid[::-1])
    assert expected in analyse(collected, Metrics(resamples=0)).notes
