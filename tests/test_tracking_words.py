"""Texts that read as numbers, NaN, infinities and empty mappings: at W&B and back as they were."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wandb_server import ENTITY
from tracking.__main__ import main
from tracking.interface import ArtifactDraft
from tracking.json_text import encode
from tracking.store import Store
from tracking.wandb.words import as_sent, as_shown, marks_of

WORDS = ["NaN", "Infinity", "-Infinity"]
TEXTS = st.sampled_from([*WORDS, "", "nan", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def without_empty(value):
    """What W&B keeps of a config: a mapping that no list leads to goes where it is empty."""
    if not isinstance(value, dict):
        return value
    kept = {key: without_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item != {}}


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_values_come_back_as_they_were_and_are_json_in_between(value):
    shown, marks = as_shown(value)
    shown, own = json.loads(json.dumps([without_empty(shown), marks.as_json()], allow_nan=False))
    back = as_sent(shown, marks_of(own))
    assert json.loads(encode(back, "x")) == json.loads(encode(value, "x"))  # NaN equals NaN there


def test_what_needs_no_marks_gets_none_and_what_has_none_is_read_as_ever():
    value = {"classes": ["negative", "positive"], "rate": 0.5, "nested": {"a": [1, None, {}]}}
    shown, marks = as_shown(value)
    assert shown == value and marks.as_json() == {}
    assert as_sent({"loss": "Infinity"}, marks_of({})) == {"loss": math.inf}


@pytest.mark.parametrize(
    "own", [None, "x", {"texts": 3}, {"texts": [[], ["b", 0], ["a", 9], ["a", "x"], [[]], 5]}, {"empty": [["a", "b"]]}]
)
def test_marks_that_fit_nothing_change_nothing(own):
    assert as_sent({"a": ["Infinity"]}, marks_of(own)) == {"a": [math.inf]}


def test_a_class_called_nan_is_delivered_and_pulled_as_a_text(wandb_server, tmp_path, capsys):
    values = {
        "classes": [*WORDS, "fine", math.inf],
        "named": {"NaN": "NaN", "none": {}},
        "empty": {"a": {}},
        "rows": [{}, {"a": {}}, []],
        "lowest": -math.inf,
    }
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / "runs")
    with store.start_run("labels", job_type="train", config=values) as run:
        run.log({"loss": math.inf}, 1)
        run.set_summary(values)
        run.log_artifact(ArtifactDraft("labels", "model", values, {"file": tmp_path / "file"}))
    place = ["--entity", ENTITY, "--project", "words"]
    assert main(["push", "--root", str(store.root), *place]) == 0, capsys.readouterr()
    assert main(["pull", "--root", str(tmp_path / "pulled"), *place]) == 0
    pulled = Store(tmp_path / "pulled")
    record = pulled.run("labels")
    assert record.config == values and record.summary == {**values, "loss": math.inf}
    assert pulled.artifact("labels").metadata == values
    assert pulled.history("labels") == [{"step": 1, "loss": math.inf}]
    for opened in (store, pulled):
        opened.close()
