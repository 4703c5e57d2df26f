"""Mistyped keys, choices and types: each is one line that names what was given and what may have been meant."""

import dataclasses
import subprocess
import sys

import pytest

from conf.errors import EdgewiseError
from conf.known_keys import check_known, keys_of
from conf.schema import Config, Train
from tests.support import REPO


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.stepz=10", r"^train\.stepz=10: there is no key train\.stepz; did you mean train\.steps\?$"),
        ("+train.stepz=10", r"^\+train\.stepz=10: there is no key train\.stepz; did you mean train\.steps\?$"),
        ("++dataset.recipe.stepz=1", r"did you mean dataset\.recipe\.steps\?$"),
        ("stepz=3", r"there is no key stepz; did you mean .*train\.steps"),
        ("split=validation", r"did you mean infer\.split or metrics\.split or switcher\.split\?$"),
        ("xyzzy=1", r"^xyzzy=1: there is no key xyzzy; conf/sections/ describes"),
        ("train.steps=1e3", r"^train\.steps=1e3: expected a whole number$"),
        ("optimizer.b1=x", r"^optimizer\.b1=x: expected a number$"),
        ("force=perhaps", r"^force=perhaps: expected true or false$"),
        ("size=huge", r"^size=huge: there is no conf/size/huge\.yaml; there are 3b, auto, base, large"),
        ("dataset=dmo", r"there is no conf/dataset/dmo\.yaml; did you mean dataset=demo\? There are"),
        ("size=1", r"^size=1: expected the name of a config, one of 3b"),
        ("size=null", r"^size=null: expected the name"),
        ("size=", r"^size=: expected the name"),
        ("size=nano,micro", r"^size=nano,micro: several values make a grid, which needs -m: python -m sweeps -m"),
        ("seed=range(3)", r"several values make a grid"),
    ],
)
def test_what_is_not_there_is_named_with_what_may_be_meant(argument, message):
    with pytest.raises(EdgewiseError, match=message):
        check_known(["tracking.root=/nowhere", argument])


def test_what_is_there_is_left_to_hydra(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("name: mine\n")
    check_known(["-m", "size=nano,micro", "seed=range(3)", "dataset=glob(*)", "train.steps=10,20", "+a@b=c", "~sweep"])
    check_known(["sweep=null", "experiment=[study_imdb, study_reviews]", "train.steps=${dataset.recipe.steps}"])
    check_known(
        [f"hydra.searchpath=[file://{tmp_path}]", "dataset=mine", "hydra.verbose=true", "hydra/launcher=joblib"]
    )
    check_known(["dataset=elsewhere", "--config-dir", str(tmp_path)])
    check_known(["-cn", "mine", "dataset=elsewhere"])
    check_known(["+dataset.classes.a=b", "train.unroll=true", "infer.batch_tokens=null", "seed=3"])


def test_every_leaf_of_the_config_is_a_key():
    keys = list(keys_of(Config))
    assert len(keys) == len(set(keys)) and {"seed", "dataset.recipe.steps", "train.steps"} <= set(keys)
    assert {f"train.{field.name}" for field in dataclasses.fields(Train)} <= set(keys)


def test_a_command_says_it_in_one_line():
    command = [sys.executable, "-m", "metrics", "+metrics.splitt=x"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: +metrics.splitt=x: there is no key metrics.splitt; did you mean metrics.split?\n"
