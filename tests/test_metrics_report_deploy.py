"""The command that the report names: it deploys what the report recommends, and Hydra reads it."""

import shlex
from dataclasses import replace
from html import unescape

import pytest

from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.grid.collect import collect_grids
from metrics.report.overview import overview
from metrics.report.picture import recommended_share
from metrics.report.words import deploy_command
from tests.synthetic_scores import synthetic_grid


def analysed(sizes):
    (grid,) = collect_grids(synthetic_grid(sizes=sizes, examples=400))
    return analyse(grid, Metrics(resamples=40))


@pytest.fixture(scope="module")
def cheap():
    """An analysis whose smallest size costs little beside its largest."""
    return analysed({"small": (1, 1.0), "large": (100, 2.2)})


def overrides(command):
    """The command's overrides, without the dataset's name."""
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "infer.switcher", "dataset=synthetic"]
    return words[4:]


def test_the_command_certifies_the_loss_that_the_recommendation_allows(cheap, compose):
    command = deploy_command(cheap, cheap.widest, recommended_share(cheap, cheap.widest))
    assert overrides(command) == ["switcher.goal=certified", "switcher.epsilon=0.01", "switcher.delta=0.05"]
    settings = compose(*overrides(command)).switcher
    assert (settings.goal, settings.epsilon, settings.delta) == ("certified", 0.01, 0.05)
    page = unescape(overview([cheap], 0.95))
    assert f"<code>{command}</code>" in page and "certified on examples that chose nothing" in page
    assert "infer.switcher" not in overview([cheap], 0.95, models_stored=False)


def test_without_a_recommendation_no_command_is_named(cheap):
    shares = replace(cheap.widest.least_share["margin"], within_epsilon=1.0)
    nothing = replace(cheap, pairs=[replace(cheap.widest, least_share={"margin": shares})])
    assert "infer.switcher" not in overview([nothing], 0.95)


def test_the_command_of_a_translation_has_the_share_as_its_budget(cheap, compose):
    translation = replace(cheap, grid=replace(cheap.grid, task="translation", split="dev"))
    command = deploy_command(translation, cheap.widest, 0.31234)
    expected = ["switcher.goal=budget", "switcher.budget=0.313", "switcher.delta=0.05", "switcher.split=dev"]
    assert overrides(command) == expected
    assert compose(*expected).switcher.budget == 0.313


def test_the_command_names_the_pair_among_several_sizes(compose):
    analysis = analysed({"small": (10, 1.5), "base": (20, 1.6), "large": (30, 2.0)})
    command = deploy_command(analysis, analysis.widest, 0.3)
    assert "'switcher.sizes=[small,large]'" in command
    assert compose(*overrides(command)).switcher.sizes == ["small", "large"]
