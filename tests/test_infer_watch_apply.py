"""The watch beside infer.apply: what an alarm comes to, and that a kill changes nothing of it; without a model."""

import json

import numpy as np
import pytest

import infer.apply.stage as stage
from conf.schema import Config, Dataset, Size, Tracking
from infer.apply.__main__ import main
from infer.apply.stage import apply
from infer.engine.engine import Answers
from tests.switchers import budget_switcher

ROWS, CHUNK = 900, 100


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return budget_switcher(tmp_path_factory.mktemp("store"), budget=0.3, examples=3000)


@pytest.fixture
def config(store, tmp_path):
    """A function: alarmed or not, output's name -> the config that answers a file by the store's switcher."""

    def make(alarmed, output, **keys):
        rng = np.random.default_rng(0)
        numbers = rng.integers(900 if alarmed else 0, 1000, ROWS)
        source = tmp_path / f"in-{alarmed}.jsonl"
        source.write_text("".join(json.dumps({"text": str(number)}) + "\n" for number in numbers.tolist()))
        config = Config(
            dataset=Dataset(name="synthetic"), size=Size(name="none"), tracking=Tracking(root=str(store[0].root))
        )
        config.switcher.ref = store[1]
        config.apply.input, config.apply.output = str(source), str(tmp_path / output)
        config.apply.chunk_rows = CHUNK
        for key, value in keys.items():
            setattr(config.apply, key, value)
        config.apply.check()
        return config

    return make


class ScoreEngine:
    """Gives the text N the score at N thousandths of the calibration's, as if it were drawn from it."""

    def __init__(self, policy):
        self.policy = policy

    def answer(self, columns, advance):
        calibration = np.array(self.policy.calibration[0])
        places = (np.array([int(text) for text in columns["text"]]) * len(calibration)) // 1000
        scores = calibration[places]
        deferred = scores >= self.policy.stages[0].threshold
        return Answers(np.full(len(scores), "a", dtype=object), deferred.astype(np.int8), scores)


def start(found, config):
    return ScoreEngine(found.policy)


def test_an_alarm_is_printed_and_fails_where_it_is_to(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stage, "apply", lambda config: apply(config, start))
    calm = config(False, "calm.jsonl", fail_on_alarm=True)
    main(calm)
    assert "alarm:" not in capsys.readouterr().out
    main(config(True, "printed.jsonl"))
    printed = capsys.readouterr().out
    assert "alarm: deferral: after " in printed and "choose the switcher again" in printed
    failing = config(True, "failed.jsonl", fail_on_alarm=True)
    for _ in range(2):  # done, it says the same again
        with pytest.raises(SystemExit) as ended:
            main(failing)
        assert ended.value.code == 3 and "alarm: deferral: after " in capsys.readouterr().out
    assert (tmp_path / "failed.jsonl").read_bytes() == (tmp_path / "printed.jsonl").read_bytes()
    assert len((tmp_path / "failed.jsonl").read_text().splitlines()) == ROWS
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_an_alarm_outweighs_rows_without_an_answer(config, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "apply", lambda config: apply(config, start))
    failing = config(True, "out.jsonl", fail_on_alarm=True, bad_rows="keep")
    with (tmp_path / "in-True.jsonl").open("a") as source:
        source.write('{"text": null}\n')
    with pytest.raises(SystemExit) as ended:
        main(failing)
    assert ended.value.code == 3


class Cut(Exception):
    """Stands for a kill."""


def test_a_file_that_is_cut_off_ends_with_the_alarms_and_the_state_of_one_that_is_not(config, tmp_path, store):
    whole = apply(config(True, "whole.jsonl"), start)
    assert whole.alarms
    cut = config(True, "cut.jsonl")
    states = []
    for part in range(ROWS // CHUNK + 1):

        class Failing(ScoreEngine):
            """Is killed at its second chunk."""

            asked = 0

            def answer(self, columns, advance):
                self.asked += 1
                if self.asked == 2:
                    raise Cut
                return super().answer(columns, advance)

        try:
            counts = apply(cut, lambda found, config: Failing(found.policy))
        except Cut:
            notes = tmp_path / ".cut.jsonl.parts" / f"{part:08d}.json"
            states.append(json.loads(notes.read_text())["watch"]["count"])
        else:
            break
    assert states == [CHUNK * (part + 1) for part in range(ROWS // CHUNK - 1)]  # each row once
    assert counts.alarms == whole.alarms
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    summaries = [run.summary for run in store[0].runs(job_type="apply") if run.state == "finished"]
    assert all("alarms" in summary for summary in summaries)


def test_rows_that_are_alike_beside_each_other_are_no_alarm(config, tmp_path):
    """Sorted within chunks, the rows of a file come to the watch in a drawn order."""
    calm = config(False, "out.jsonl", chunk_rows=ROWS)
    source = tmp_path / "in-False.jsonl"
    rows = sorted(source.read_text().splitlines(), key=lambda row: int(json.loads(row)["text"]))
    source.write_text("\n".join(rows) + "\n")
    assert apply(calm, start).alarms == []
