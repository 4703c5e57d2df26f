"""Which step's model is kept, when training ends early, and that a training that was cut off decides the same."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Mesh, Train
from tests.training import config_in, train_here
from tracking.store import Store
from train.identity import train_run_id, training_identity
from train.loop import train
from train.model_selection import ModelSelection
from train.pretrained.find import resolved
from train.sharding import make_mesh
from train.step import TrainState
from train.validation import check_validation, evaluation_rows, evaluation_split

RESTLESS = "optimizer.learning_rate=0.5"  # its evaluations rise and fall within 30 steps
BEST = (RESTLESS, "train.keep=best", "train.eval_every=4", "train.checkpoint_every=7")


def state_of(step):
    return TrainState(jnp.int32(step), {"w": jnp.full(2, float(step))}, {})


def selection_of(**settings):
    return ModelSelection(Train(eval_every=1, **settings), make_mesh(Mesh()))


def evaluated(accuracy, loss):
    return {"validation_loss": loss} | ({} if accuracy is None else {"validation_accuracy": accuracy})


@pytest.mark.parametrize(
    ("evaluations", "kept"),
    [
        ([(0.5, 1.0), (0.6, 2.0), (0.6, 2.5)], 2),
        ([(0.6, 2.0), (0.6, 1.0), (0.5, 0.1)], 2),  # of equal accuracies the lower loss
        ([(0.6, 1.0), (0.6, 1.0)], 1),  # of equals the earlier one
        ([(None, 3.0), (None, 2.0), (None, math.nan), (None, 2.5)], 2),  # without labels the loss
    ],
)
def test_the_best_evaluation_is_kept(evaluations, kept):
    selection = selection_of(keep="best")
    for step, values in enumerate(evaluations, 1):
        selection.consider(evaluated(*values), step, state_of(step).params)
    last = state_of(len(evaluations))
    assert selection.kept_step(last) == selection.step == kept
    assert float(selection.kept_params(last)["w"][0]) == kept
    assert selection.evaluations_since == len(evaluations) - kept


def test_patience_counts_evaluations_since_the_best_and_keeps_the_last_unless_told():
    selection = selection_of(patience=2)
    exhausted = []
    for step, accuracy in enumerate((0.5, 0.4, 0.6, 0.6, 0.3), 1):
        selection.consider(evaluated(accuracy, 1.0), step, state_of(step).params)
        exhausted.append(selection.is_exhausted)
    assert exhausted == [False, False, False, False, True]
    assert selection.kept_step(state_of(5)) == 5 and selection.step == 3


@pytest.mark.parametrize("settings", [{"keep": "best"}, {"patience": 3}, {"keep": "best", "patience": 3}])
def test_what_is_saved_restores_the_selection(settings):
    first = selection_of(**settings)
    assert set(first.to_save(state_of(1))) == set(first.abstract(state_of(1))), "the same tree before any evaluation"
    for step, accuracy in enumerate((0.1, 1 / 3, 0.2), 1):
        first.consider(evaluated(accuracy, 1.0), step, state_of(step).params)
    second = selection_of(**settings)
    state = second.restored(first.to_save(state_of(3)))
    assert int(state.step) == 3
    for selection in (first, second):
        assert not selection.consider(evaluated(1 / 3, 1.0), 4, state_of(4).params), "equal to what was saved"
        assert (selection.step, selection.evaluations_since) == (2, 2)
        assert selection.kept_step(state_of(4)) == (2 if "keep" in settings else 4)


def test_without_a_choice_a_checkpoint_holds_the_state_alone():
    selection, state = selection_of(), state_of(1)
    assert not selection.consider(evaluated(0.5, 1.0), 1, state.params)
    assert selection.to_save(state) is state and selection.restored(state) is state
    assert selection.kept_params(state) is state.params


class FailingTracker(Store):
    """Fails a run when it logs a step from `last` on, as a kill would: no checkpoint is saved then."""

    last = 10**9

    def start_run(self, *arguments, **choices):
        run = super().start_run(*arguments, **choices)
        log = run.log

        def failing_log(values, step):
            if step >= self.last:
                raise RuntimeError("cut off")
            log(values, step)

        run.log = failing_log
        return run


def test_a_training_that_was_cut_off_keeps_the_same_best_step(compose, tmp_path):
    whole = config_in(compose, tmp_path / "whole", *BEST)
    model = train_here(whole)
    summary = Store(whole.tracking.root).run(train_run_id(whole)).summary
    assert summary["last_step"] == 30 and 0 < summary["kept_step"] < 30, "the last step is not the best here"

    cut = dataclasses.replace(whole, tracking=dataclasses.replace(whole.tracking, root=str(tmp_path / "cut")))
    tracker = FailingTracker(cut.tracking.root)
    for tracker.last in (10, 24):  # the checkpoints of steps 7 and 21 are behind it: the best may be on either side
        with pytest.raises(RuntimeError, match="cut off"):
            train(resolved(cut), tracker)
    tracker.last = 10**9
    assert train(resolved(cut), tracker).digest == model.digest
    assert tracker.run(train_run_id(cut)).summary["kept_step"] == summary["kept_step"]


def test_patience_ends_a_training_early_and_so_it_does_when_it_goes_on(compose, tmp_path, capsys):
    patient = ("train.eval_every=2", "train.patience=2", "train.checkpoint_every=4")
    config = config_in(compose, tmp_path / "runs", RESTLESS, *patient)
    model = train_here(config)
    store, run_id = Store(config.tracking.root), train_run_id(config)
    last = store.run(run_id).summary["last_step"]
    history = store.history(run_id)
    assert last < 30 and history[-1]["step"] == last
    ranks = [(p["validation_accuracy"], -p["validation_loss"]) for p in history if "validation_accuracy" in p]
    assert max(ranks) == ranks[-3], "the best is two evaluations before the end"
    said = capsys.readouterr().err
    assert f"ended at step {last} of 30, 2 evaluations after the best (step {last - 4})" in said
    assert f"step 2 of 30: loss {history[0]['loss']:.4f}" in said and "validation accuracy" in said
    with store.start_run(run_id, job_type="train", config={}, restart=True):
        pass  # forgets the model, as if it had been cut off before it was logged
    assert train_here(config).digest == model.digest
    assert store.history(run_id) == [], "no further step was taken"


def test_evaluations_are_evenly_spread_over_the_split():
    assert evaluation_rows(10, 4).tolist() == [0, 2, 5, 7]
    assert evaluation_rows(3, 256).tolist() == [0, 1, 2]
    for count, most in ((1000, 256), (257, 256), (50_000, 7)):
        rows = evaluation_rows(count, most)
        assert len(np.unique(rows)) == most and rows.max() < count


def test_the_validation_split_is_evaluated_where_there_is_one():
    assert evaluation_split(["train", "validation", "test"], "test") == "validation"
    assert evaluation_split(["train", "test"], "test") == "test"


@pytest.mark.parametrize(("setting", "given"), [("keep=best", "train.keep=best"), ("patience=3", "train.patience=3")])
def test_choosing_without_a_validation_split_is_refused(compose, tmp_path, setting, given):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        rows = "".join(f"{'good' if i % 2 else 'bad'} {split} {i},{i % 2}\n" for i in range(40))
        (folder / f"{split}.csv").write_text(f"text,label\n{rows}")
    config = config_in(
        compose,
        tmp_path / "runs",
        "dataset=text_classification",
        f"dataset.path={folder}",
        "dataset.name=mine",
        'dataset.classes={0: "no", 1: "yes"}',
        f"train.{setting}",
    )
    with pytest.raises(EdgewiseError, match=rf"{given}: dataset=mine has no validation split .*validation\.csv"):
        train_here(config)
    check_validation(Train(eval_every=1), "mine", ["train", "test"])


@pytest.mark.parametrize("setting", ["train.keep=best", "train.patience=1"])
def test_choosing_without_evaluations_is_refused(compose, setting):
    with pytest.raises(EdgewiseError, match=r"train\.eval_every=0: .*give train\.eval_every=N"):
        compose("dataset=demo", setting)


def test_a_choice_is_part_of_the_cell_and_no_choice_leaves_it_as_it_was(compose):
    default = compose("dataset=demo", "size=nano")
    assert train_run_id(default) == "train-demo-nano-s0-8f96fc839338"
    assert (
        train_run_id(compose("dataset=demo", "size=nano", "train.eval_every=10")) == "train-demo-nano-s0-8f96fc839338"
    )
    assert not {"keep", "patience"} & set(training_identity(default)["train"])
    chosen = ("train.keep=best", "train.eval_every=10")
    others = (
        chosen,
        ("train.patience=2", "train.eval_every=10"),
        (*chosen, "train.patience=2"),
        ("train.keep=best", "train.eval_every=5"),  # decides between which steps is chosen
        (*chosen, "train.eval_examples=20"),
    )
    ids = {train_run_id(compose("dataset=demo", "size=nano", *overrides)) for overrides in others}
    assert len(ids) == len(others) and train_run_id(default) not in ids
