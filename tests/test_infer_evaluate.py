"""Evaluations: turns are shared alike, energy is read or said why not, promises stand beside what was measured."""

import json

import numpy as np
import pytest

from conf.errors import EdgewiseError
from infer.engine.engine import Answers
from infer.evaluate import energy
from infer.evaluate.energy import EnergyMeter
from infer.evaluate.measure import SWITCHER, Side, take_turns
from infer.evaluate.result import comparison_lines, evaluation, evaluation_page
from infer.evaluate.stage import answer_quality, evaluate
from infer.switcher.policy import Policy, Stage
from metrics.figures.policy import TimedSide, write_evaluation_figure
from tests.switchers import log_runs, made_switcher
from tracking.store import Store
from train.data.splits import Split
from train.stopping import Stop, Stopped


def policy_of(task="classification", deferred=0.5, loss=0.05):
    """A policy of two stages, with these limits promised."""
    common = {"model": "0" * 32, "parameters": 1}
    return Policy(
        dataset="d",
        task=task,
        labels=[["0", "a"], ["1", "b"]],
        template="{text}",
        max_input_length=40,
        max_target_length=None,
        decoding={},
        dtype="float32",
        stages=[
            Stage(size="small", seed=0, score="margin", threshold=0.0, flops_per_example=1.0, **common),
            Stage(size="large", seed=0, score=None, threshold=None, flops_per_example=10.0, **common),
        ],
        goal={},
        certificate={"deferred": {"at_most": deferred}, "loss": {"at_most": loss}},
        expected={"confidence": 0.95},
        over_seeds={},
        parts={},
        calibration=[],
        self_check=None,
        inputs={},
    )


class Recorder:
    """An engine that notes who is asked."""

    def __init__(self):
        self.policy, self.asked = policy_of(), []

    def answer_texts(self, texts):
        self.asked.append(SWITCHER)
        stage = np.array([0, 1, 1, 0], np.int8)
        return Answers(np.array(["a", "b", "b", "a"], dtype=object), stage, np.zeros(4))

    def run_stage(self, k, texts):
        self.asked.append(k)
        return np.array(["ab"[k]] * 4, dtype=object), np.zeros(4)


def test_every_side_takes_as_many_turns_and_each_round_starts_with_the_next(tmp_path):
    engine = Recorder()
    sides = take_turns(engine, ["x"] * 4, 3, EnergyMeter(False, tmp_path), Stop())
    assert [side.name for side in sides] == [SWITCHER, "small-s0", "large-s0"]
    assert engine.asked == [SWITCHER, 0, 1, SWITCHER, 0, 1, 0, 1, SWITCHER, 1, SWITCHER, 0]
    assert all(len(side.seconds) == 3 and side.joules == [None] * 3 for side in sides)
    assert sides[1].stage.tolist() == [0] * 4 and sides[2].prediction.tolist() == ["b"] * 4
    stop = Stop()
    stop.received = 15
    with pytest.raises(Stopped):
        take_turns(engine, ["x"] * 4, 1, EnergyMeter(False, tmp_path), stop)


def counters(folder, microjoules):
    """Writes RAPL's files of two packages with a range of 1,000 µJ."""
    for package, value in enumerate(microjoules):
        zone = folder / f"intel-rapl:{package}"
        zone.mkdir(exist_ok=True)
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text("1000\n")


def test_processors_energy_is_summed_and_a_counter_may_start_again(tmp_path):
    counters(tmp_path, (100, 900))
    meter = EnergyMeter(False, tmp_path)
    assert meter.source.startswith("RAPL")
    first = meter.joules()
    counters(tmp_path, (300, 50))  # 200 more, and 150 over the end of the range
    assert meter.joules() - first == pytest.approx(350e-6)


def test_no_energy_says_why(tmp_path, monkeypatch):
    assert EnergyMeter(False, tmp_path).joules() is None and "no RAPL" in EnergyMeter(False, tmp_path).source

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(energy.ctypes, "CDLL", missing)
    assert EnergyMeter(True).joules() is None and "no NVML" in EnergyMeter(True).source


def result_of(policy, joules=None, clusters=None):
    """What is said of a switcher that passes on half, is right in 3 of 4, and takes half the larger model's time."""
    sides = [
        Side(SWITCHER, np.array([]), np.array([0, 1, 1, 0], np.int8), [0.2, 0.4, 0.3], [joules] * 3),
        Side("small-s0", np.array([]), np.zeros(4, np.int8), [0.1] * 3, [joules] * 3),
        Side("large-s0", np.array([]), np.ones(4, np.int8), [0.6] * 3, [joules] * 3),
    ]
    right = [np.array([[1], [1], [1], [0]], bool), np.array([[1], [0], [0], [0]], bool), np.ones((4, 1), bool)]
    facts = {"examples": 4, "dataset": "d", "split": "test", "rounds": 3, "device": "1 × cpu", "energy": "no RAPL"}
    return evaluation(policy, sides, right, facts, clusters)


def test_examples_in_clusters_have_intervals_of_clusters():
    alone, together = result_of(policy_of()), result_of(policy_of(), clusters=np.array([0, 0, 1, 1]))
    for own, other in zip(alone["sides"], together["sides"], strict=True):
        assert own["quality"]["value"] == other["quality"]["value"]
    assert together["sides"][0]["quality"]["low"] == 0.5 and together["sides"][0]["quality"]["high"] == 1
    right_on_all = together["sides"][2]["quality"]  # two clusters prove less than four examples
    assert right_on_all["low"] < alone["sides"][2]["quality"]["low"] and right_on_all["high"] == 1


def test_promises_stand_beside_what_was_measured():
    found = result_of(policy_of())
    switcher, small, large = found["sides"]
    assert switcher["ms_per_example"] == {"median": 75.0, "least": 50.0, "most": 100.0}
    assert found["speedup"] == pytest.approx(2.0)
    assert switcher["flops_per_example"] == 0.5 * 1 + 0.5 * 11
    assert (small["flops_per_example"], large["flops_per_example"]) == (1.0, 10.0)
    assert switcher["deferred"]["value"] == 0.5 and small["deferred"] is None
    assert found["promise"]["deferred"] == {"at_most": 0.5, "measured": 0.5, "kept": True}
    assert found["promise"]["loss"] == {"at_most": 0.05, "measured": 0.25, "kept": False}
    lines = comparison_lines(found)
    assert "2.00 times as fast" in lines[0] and lines[1].endswith(": kept") and "not kept" in lines[2]
    page = evaluation_page(found, "evaluation-d", "e.svg")
    assert "| switcher | 75.00 (" in page and "No energy was measured: no RAPL." in page
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    with_joules = result_of(policy_of(loss=None), joules=8.0)
    assert with_joules["sides"][0]["joules_per_example"]["median"] == 2.0
    assert "no promise of the loss" in comparison_lines(with_joules)[2]
    assert "No energy" not in evaluation_page(with_joules, "e", "e.svg")


def test_the_picture_is_the_same_for_the_same_numbers(tmp_path):
    sides = [TimedSide(row["side"], row["ms_per_example"], row["quality"]) for row in result_of(policy_of())["sides"]]
    for stem in ("one", "two"):
        write_evaluation_figure(sides, "accuracy", tmp_path / stem)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def split_of(targets, golds=None):
    ids = [str(i) for i in range(len(targets))]
    return Split("d", "test", ids, ids, targets, {}, "f", golds=golds)


def test_answers_are_judged_as_scoring_judges_them():
    given, places = np.array(["b", "a"], dtype=object), np.array([0, 2])
    assert answer_quality("classification", given, split_of(["b", "x", "b"]), places, "13a").tolist() == [
        [True],
        [False],
    ]
    golds = [["B", "x"], ["y"], ["an apple", "A."]]
    assert answer_quality("span_qa", given, split_of(["B", "y", "an apple"], golds), places, "13a").all()
    assert answer_quality("translation", given, split_of(["b", "x", "a"]), places, "13a").shape == (2, 10)


def test_another_data_set_is_refused_before_any_model_is_loaded(tmp_path, compose):
    store = Store(tmp_path / "runs")
    log_runs(store, tmp_path, examples=400, seeds=1)
    (tmp_path / "test.csv").write_text("text,label\nx,0\ny,1\n")
    (tmp_path / "train.csv").write_text("text,label\nx,0\ny,1\n")
    common = [
        "dataset=text_classification",
        "dataset.name=synthetic",
        f"dataset.path={tmp_path}",
        "dataset.classes={0: a, 1: b}",
        f"tracking.root={store.root}",
        "switcher.goal=budget",
        "switcher.budget=0.5",
    ]
    config = compose(*common)
    config.switcher.ref = made_switcher(store, config)[0].ref
    with pytest.raises(EdgewiseError, match=r"dataset\.template=\{text\} of dataset synthetic.*say: "):
        evaluate(config, store)
