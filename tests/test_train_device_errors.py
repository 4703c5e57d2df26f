"""A device without memory, or without a fused attention: the error says what to do, in every command."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from conf.errors import EdgewiseError
from infer.serve.deployment import load_deployment
from sweeps.cell import run_cell
from tests.training import config_in
from tracking.store import Store
from train.device_errors import OF_SCORING, OF_TRAINING, device_errors


def ask_for_too_much(*_, **__):
    """Asks the device for 4 TiB, as JAX asks for a step's memory."""
    jax.block_until_ready(jax.jit(lambda x: (x[:, None] * x[None, :]).T + x)(jnp.ones(2**20)))


def test_too_little_memory_names_the_remedy():
    message = r"ran out of memory \(RESOURCE_EXHAUSTED: .*\): give infer.batch_tokens"
    with pytest.raises(EdgewiseError, match=message), device_errors(OF_SCORING):
        ask_for_too_much()


@pytest.mark.parametrize(
    "said",
    [
        "INTERNAL: No valid engine configs for the graph; cuDNN: CUDNN_STATUS_NOT_SUPPORTED",
        "INTERNAL: Mosaic failed to compile TPU kernel: unsupported shape cast",
    ],
)
def test_a_fused_attention_that_does_not_run_names_plain(said):
    with pytest.raises(EdgewiseError, match="train.attention=plain"), device_errors(OF_TRAINING):
        raise jax.errors.JaxRuntimeError(said)


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("INTERNAL: something else"), RuntimeError("cudnn")])
def test_other_errors_are_left_as_they_are(error):
    with pytest.raises(type(error)) as caught, device_errors(OF_TRAINING):
        raise error
    assert caught.value is error


def test_a_server_says_it_at_its_start(compose, monkeypatch):
    found = SimpleNamespace(policy=SimpleNamespace(dtype="float32"))
    monkeypatch.setattr("infer.serve.deployment.find_switcher", lambda *_: found)
    monkeypatch.setattr("train.compilation_cache.keep_compiled", lambda: None)
    monkeypatch.setattr("infer.engine.load.load_engine", ask_for_too_much)
    with pytest.raises(EdgewiseError, match="infer.batch_tokens"):
        load_deployment(compose("switcher.ref=one"))


@pytest.mark.parametrize(
    ("place", "remedy"),
    [("train.loop.Training.fit", "train.remat=dots"), ("infer.scoring.score_split", "infer.batch_tokens")],
)
def test_a_sweep_says_it_and_keeps_it(compose, tmp_path, monkeypatch, capsys, place, remedy):
    monkeypatch.setattr(place, ask_for_too_much)
    assert not run_cell(config_in(compose, tmp_path, "size=nano"))
    said = capsys.readouterr().err
    assert "failed: a device ran out of memory (RESOURCE_EXHAUSTED: " in said and remedy in said
    [run] = Store(tmp_path).runs(state="failed")
    assert remedy in run.error.splitlines()[-1]
