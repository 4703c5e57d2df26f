import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conf.errors import EdgewiseError
from tests.support import REPO
from tests.training import SMALL, config_in, saved_steps, score_here, train_here, wait_for_checkpoint
from tracking.store import Store
from train.identity import train_run_id, trained_model, training_identity

LONGER = ("train.steps=300", "train.checkpoint_every=20")


@pytest.fixture(scope="module")
def uninterrupted(compose, tmp_path_factory):
    """The model, scores and history of 300 steps in one go, in this process; what is stopped is one of its own."""
    config = config_in(compose, tmp_path_factory.mktemp("whole") / "runs", *LONGER)
    model, scores = train_here(config), score_here(config)
    store = Store(config.tracking.root)
    [run] = store.runs(job_type="train")
    return model, scores, store.history(run.id)


def command(name, root, *overrides):
    arguments = [sys.executable, "-m", name, *SMALL, f"tracking.root={root}", *overrides]
    return subprocess.Popen(arguments, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def succeed(process):
    """Waits until a command has ended, which has to be well."""
    _, err = process.communicate()
    assert process.returncode == 0, err


def same_numbers(history):
    """What a resumed run has to repeat: everything but times."""
    return [{k: v for k, v in point.items() if "second" not in k} for point in history]


def test_a_run_logs_what_it_should(compose, tmp_path):
    config = config_in(compose, tmp_path / "runs")
    model = train_here(config)
    store = Store(config.tracking.root)
    record = store.run(train_run_id(config))
    assert record.state == "finished" and record.tags == ["demo", "nano"]
    assert record.summary["attention"].startswith("plain for 8 × 8") and record.summary["layers"] == "in a loop"
    history = store.history(record.id)
    assert [point["step"] for point in history] == [5, 10, 15, 20, 25, 30]
    wanted = {"loss", "z_loss", "token_accuracy", "gradient_norm", "learning_rate"}
    assert all(wanted | {"examples_per_second", "target_tokens_per_second"} <= set(point) for point in history)
    assert [point["step"] for point in history if "validation_accuracy" in point] == [10, 20, 30]
    assert model.name == "model-demo-nano-s0"
    assert set(model.files) == {"model.safetensors", "config.json", "spiece.model", "edgewise.json"}
    assert [a.name for a in store.inputs(record.id)] == ["data-demo"]
    assert trained_model(config, store).digest == model.digest


def test_seed_and_settings_make_another_cell_and_logging_does_not(compose, tmp_path):
    base = train_run_id(config_in(compose, tmp_path))
    same = (
        "train.log_every=1",
        "train.checkpoint_every=7",
        "tracking.root=elsewhere",
        "infer.batch_tokens=300",
        "mesh.fsdp=1",
    )
    for override in same:
        assert train_run_id(config_in(compose, tmp_path, override)) == base, override
    other = ("seed=1", "train.steps=31", "optimizer.learning_rate=0.5", "size.d_ff=9", "dataset.template='x {text}'")
    for override in (*other, "dataset.generator_seed=1", "tokenizer.vocabulary_size=100", "train.z_loss=0"):
        assert train_run_id(config_in(compose, tmp_path, override)) != base, override


@pytest.mark.parametrize("seconds", [0.0, pytest.param(0.15, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_and_ends_the_same(uninterrupted, compose, tmp_path, seconds):
    root = tmp_path / "runs"
    process = command("train", root, *LONGER)
    wait_for_checkpoint(root, process)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Store(root).artifacts(type="model") == []
    again = command("train", root, *LONGER)
    succeed(again)
    model, scores, history = uninterrupted
    store = Store(root)
    [resumed] = store.artifacts(type="model")
    assert resumed.digest == model.digest
    assert score_here(config_in(compose, root, *LONGER)).digest == scores.digest
    [run] = store.runs(job_type="train")
    assert run.state == "finished"
    tail = [p for p in same_numbers(store.history(run.id)) if p["step"] > 280]
    assert tail == [p for p in same_numbers(history) if p["step"] > 280]


def test_sigterm_saves_and_ends_cleanly(uninterrupted, compose, tmp_path):
    root = tmp_path / "runs"
    process = command("train", root, *LONGER)
    wait_for_checkpoint(root, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    if Store(root).artifacts(type="model"):
        pytest.skip("the run was through before the signal came")
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in stderr and "the same command goes on" in stderr
    [run] = Store(root).runs(job_type="train")
    assert run.state == "stopped"
    stopped_at = max(saved_steps(root))
    assert f"step {stopped_at} of 300" in stderr
    assert train_here(config_in(compose, root, *LONGER)).digest == uninterrupted[0].digest


def test_a_loss_that_is_not_finite_stops_the_run_with_its_step(compose, tmp_path):
    config = config_in(
        compose, tmp_path / "runs", "optimizer=adamw", "optimizer.learning_rate=1e30", "optimizer.warmup_steps=0"
    )
    with pytest.raises(EdgewiseError, match=r"step [1-9]\d*: loss is .*(nan|inf)"):
        train_here(config)
    store = Store(config.tracking.root)
    record = store.run(train_run_id(config))
    assert record.state == "failed" and "EdgewiseError" in record.error
    assert store.artifacts(type="model") == []
    assert not list((tmp_path / "runs").glob("checkpoints/*/[0-9]*"))


def test_the_last_checkpoints_and_the_final_one_are_kept(compose, tmp_path):
    config = config_in(compose, tmp_path / "runs", "train.checkpoint_every=7", "train.keep_checkpoints=2")
    train_here(config)
    assert saved_steps(tmp_path / "runs") == [28, 30]


def test_a_checkpoint_cut_short_is_named(compose, tmp_path):
    config = config_in(compose, tmp_path / "runs", "train.checkpoint_every=10")
    train_here(config)
    [folder] = tmp_path.glob("runs/checkpoints/*/30")
    data = [p for p in folder.rglob("*") if p.is_file() and "/d/" in str(p)]
    assert data
    for path in data:
        os.truncate(path, path.stat().st_size // 2)
    store = Store(config.tracking.root)
    with store.start_run(train_run_id(config), job_type="train", config={}, restart=True):
        pass  # forgets the model, so that training has to go on from the checkpoint
    with pytest.raises(EdgewiseError, match="checkpoint of step 30"):
        train_here(config)
    model = train_here(config_in(compose, tmp_path / "runs", "train.checkpoint_every=10", "force=true"))
    assert model.metadata["parameters"] > 0


def test_force_leaves_the_checkpoints_of_a_living_run_alone(compose, tmp_path, monkeypatch):
    config = config_in(compose, tmp_path / "runs", "train.checkpoint_every=10")
    train_here(config)
    forced = config_in(compose, tmp_path / "runs", "train.checkpoint_every=10", "force=true")

    def refuse(store, run_id, **_):
        raise EdgewiseError(f"run {run_id} is being run now")

    monkeypatch.setattr(Store, "start_run", refuse)
    with pytest.raises(EdgewiseError, match="is being run now"):
        train_here(forced)
    assert saved_steps(tmp_path / "runs") == [30]


def test_force_says_which_checkpoints_it_can_t_delete(compose, tmp_path, monkeypatch):
    config = config_in(compose, tmp_path / "runs")
    train_here(config)

    def refuse(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr("train.loop.shutil.rmtree", refuse)
    with pytest.raises(EdgewiseError, match=r"checkpoints in .*train-demo-nano-s0-.* can't be deleted .Permission"):
        train_here(config_in(compose, tmp_path / "runs", "force=true"))


def test_a_vocabulary_larger_than_the_model_s_is_refused(compose, tmp_path):
    config = config_in(compose, tmp_path / "runs", "size.vocabulary_size=100")
    with pytest.raises(EdgewiseError, match="128 pieces, but size.vocabulary_size=100"):
        train_here(config)


@pytest.mark.slow  # a second sweep is tested in test_sweeps_pipeline, force=true above
def test_no_op_and_force(compose, tmp_path):
    root = tmp_path / "runs"
    first = command("train", root)
    succeed(first)
    again = command("train", root)
    out, _ = again.communicate()
    assert again.returncode == 0 and "is trained already" in out
    forced = command("train", root, "force=true")
    out, _ = forced.communicate()
    assert forced.returncode == 0 and "logged model-demo-nano-s0:v0" in out  # the same content is the same version


def test_truncated_inputs_are_counted(compose, tmp_path):
    config = config_in(compose, tmp_path / "runs", "dataset.max_input_length=4", "train.steps=5")
    train_here(config)
    record = Store(config.tracking.root).run(train_run_id(config))
    assert record.summary["truncated_train_inputs"] == 200


def test_evaluation_is_of_the_validation_split(compose, tmp_path):
    from pathlib import Path

    from train.cell_data import load_cell_data

    data = load_cell_data(config_in(compose, tmp_path), Path(tmp_path))
    assert data.eval_split == "validation" and len(data.eval_truth) == 20
    assert data.record["splits"]["train"]["rows"] == 200 and data.record["splits"]["test"]["rows"] == 60
    assert set(np.unique(data.eval_truth)) <= {0, 1}


def test_stacks_of_different_depth_are_another_cell(compose, tmp_path):
    plain, even, uneven = (
        compose(*SMALL, f"tracking.root={tmp_path}/runs", "size.layers=2", *depth)
        for depth in ((), ("size.decoder_layers=2",), ("size.decoder_layers=3",))
    )
    assert train_run_id(uneven) != train_run_id(even) == train_run_id(plain)
    assert not {"decoder_layers", "scaled_head"} & set(training_identity(even)["size"])


@pytest.mark.slow  # of decoding, scoring and checkpoints such stacks have tests of their own
def test_stacks_of_different_depth_load_again(compose, tmp_path):
    short = (f"tracking.root={tmp_path}/runs", "train.steps=1", "train.eval_every=0")
    model = train_here(compose(*SMALL, *short, "size.layers=2", "size.decoder_layers=3"))
    described = json.loads(model.file("config.json").read_text())
    assert (described["num_layers"], described["num_decoder_layers"]) == (2, 3)
    with pytest.raises(EdgewiseError, match=r"size=nano has layers=\d, .*decoder_layers=\d, but .* decoder_layers=3"):
        train_here(compose(*SMALL, *short, f"train.init={model.ref}"))
    without_shapes = [override for override in SMALL if not override.startswith("size.")]
    again = compose(*without_shapes, *short, "size=auto", f"train.init={model.ref}", "size.name=x")
    assert train_here(again).metadata["parameters"] == model.metadata["parameters"]
