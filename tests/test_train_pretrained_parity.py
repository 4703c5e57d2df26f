"""Our T5 against Hugging Face's: numbers kept in golden/hf_t5.npz, which golden/make_hf_t5.py makes."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from conf.schema import Tracking
from infer.decode import beam_search, greedy
from tests import reference_decode
from tests.golden.make_hf_t5 import BEAMS, CASES, GREEDY_STEPS, batch, config, weights
from tests.support import REPO
from train import t5
from train.pretrained import find, hf
from train.pretrained.hf_config import read_size
from train.pretrained.load import load
from train.pretrained.tensors import leaf_of, leaf_shape
from train.step import cross_entropy


@pytest.fixture(scope="module")
def golden():
    with np.load(REPO / "tests/golden/hf_t5.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """A case's name, size and parameters, which go through a folder as Hugging Face writes it."""
    (tmp_path / "config.json").write_text(json.dumps({**config(request.param), "model_type": "t5"}))
    size = read_size(tmp_path / "config.json", "x", lambda: not config(request.param)["tie_word_embeddings"])
    shapes = {t.name: leaf_shape(size, t.path)[:: -1 if t.transposed else 1] for t in hf.layout(size)}
    save_file({name: weights(name, shape) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    checkpoint = find.find(str(tmp_path), "train.init", Tracking(root=str(tmp_path)))
    return request.param, checkpoint.size, load(checkpoint, checkpoint.size, None)


def forward(size, params, inputs, decoder_inputs, target_segments):
    model = t5.model(size, params)
    segments, positions = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, positions)
    places = jnp.arange(decoder_inputs.shape[1], dtype=jnp.int32)[None]
    # Hugging Face lets a decoder see its padding: every position is in segment 1, and sees the inputs' segment 1
    return model.decode(decoder_inputs, target_segments, places, memory, segments)


def test_logits_loss_and_gradients_are_hugging_face_s(case, golden):
    name, size, params = case
    inputs, targets = batch()

    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss_and_logits(params):
        logits = forward(size, params, inputs, t5.shift_right(targets), jnp.ones_like(targets))
        nll, _ = cross_entropy(logits, jnp.asarray(targets), 0.0)
        return jnp.sum(nll * (targets != 0)), logits

    (loss, logits), gradients = jax.jit(loss_and_logits)(params)
    np.testing.assert_allclose(logits, golden[f"{name}/logits"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(loss, golden[f"{name}/loss"], rtol=1e-5)
    for tensor in hf.layout(size):
        got = np.asarray(leaf_of(gradients, tensor.path))
        got = got if tensor.layer is None else got[tensor.layer]
        want = golden[f"{name}/grad/{tensor.name}"]
        error = np.abs((got.T if tensor.transposed else got) - want).max() / np.abs(want).max()
        assert error < 1e-4, (tensor.name, error)


def test_greedy_output_is_hugging_face_s(case, golden):
    name, size, params = case
    inputs, _ = batch()
    step = jax.jit(functools.partial(forward, size))
    out = np.zeros((len(inputs), GREEDY_STEPS), np.int32)
    ended = np.zeros(len(inputs), bool)
    for t in range(GREEDY_STEPS):
        decoder_inputs = np.pad(out[:, :-1], ((0, 0), (1, 0)))
        logits = step(params, inputs, decoder_inputs, np.ones_like(out))
        out[:, t] = np.where(ended, 0, np.asarray(logits[:, t]).argmax(-1))
        ended |= out[:, t] == 1
    np.testing.assert_array_equal(out, golden[f"{name}/greedy"])


def test_output_decoded_with_a_cache_is_hugging_face_s(case, golden):
    name, size, params = case
    inputs, _ = batch()
    out = jax.jit(functools.partial(greedy, size=size, dtype="float32", max_length=GREEDY_STEPS))(params, inputs)
    np.testing.assert_array_equal(out.ids, golden[f"{name}/greedy"])


def test_beam_search_is_hugging_face_s_where_the_rules_are_the_same(case, golden):
    name, size, params = case
    inputs, _ = batch()
    of_rows = [reference_decode.next_log_probs(params, size, ids, GREEDY_STEPS, 4) for ids in inputs]
    same = 0
    for search, (beams, power) in BEAMS.items():
        settings = {"size": size, "dtype": "float32", "max_length": GREEDY_STEPS, "beams": beams, "alpha": 0.0}
        out = jax.jit(functools.partial(beam_search, **settings))(params, inputs) if power == 0 else None
        for row, log_probs in enumerate(of_rows):
            want = golden[f"{name}/{search}"][row]
            reference = functools.partial(reference_decode.beam_search, log_probs, GREEDY_STEPS, beams)
            theirs = reference(lambda n, power=power: n**power, hugging_face=True)
            np.testing.assert_array_equal(theirs[0] + [0] * (GREEDY_STEPS - len(theirs[0])), want)
            np.testing.assert_allclose(theirs[1], golden[f"{name}/{search}/scores"][row], atol=1e-4)
            if out is not None and reference(lambda n: 1.0)[0] == theirs[0]:  # T5X's rules find the same
                np.testing.assert_array_equal(out.ids[row], want)
                np.testing.assert_allclose(out.scores[row], golden[f"{name}/{search}/scores"][row], atol=1e-4)
                same += 1
    assert same >= 2


def test_the_greedy_goldens_are_not_trivial(golden):
    outputs = [golden[f"{name}/greedy"] for name in CASES]
    assert len({tuple(row) for out in outputs for row in out}) > 12 and any((out == 1).any() for out in outputs)


def test_a_config_written_by_transformers_5_still_says_which_version_it_is(tmp_path):
    described = {**config("v1_1_two_layers"), "model_type": "t5", "tie_word_embeddings": True}
    for scaled in (True, False):
        (tmp_path / "config.json").write_text(json.dumps({**described, "scale_decoder_outputs": scaled}))
        for own_head in (True, False):
            size = read_size(tmp_path / "config.json", "x", lambda own_head=own_head: own_head)
            assert size.tied_head == (scaled or not own_head) and size.scales_head == scaled
