import functools
import json
import os
import subprocess
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Mesh, Size
from infer import cache
from infer.decode import as_encoded, beam_search, decode_examples, greedy, length_penalty
from tests import reference_decode
from tests.decoding import MAX_LENGTH, SIZES, TINY, parameters
from tests.support import REPO
from tests.texts import encoded, random_texts
from train import t5
from train.data.batches import Budget, scoring_batches
from train.running_model import RunningModel
from train.sharding import BATCH_TOKENS, make_mesh


def batch(seed):
    """Inputs [6, 9] of ids below 12, some of them padded, the last a row of padding alone."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(2, 12, (6, 9))
    for row, length in enumerate((9, 6, 1, 3, 9, 0)):
        ids[row, max(0, length - 1)] = 1
        ids[row, length:] = 0
    return ids.astype(np.int32)


# As users' processes compile, whatever tests/conftest.py sets: sums of log probabilities are compared to 1e-4.
OPTIMIZED = {"xla_backend_optimization_level": 3}
if version("jaxlib").startswith("0.10."):
    OPTIMIZED["xla_cpu_use_fusion_emitters"] = True


@functools.cache
def compiled(version, beams, alpha, max_length=MAX_LENGTH, dtype="float32"):
    settings = {"size": SIZES[version], "dtype": dtype, "max_length": max_length}
    if beams is None:
        return jax.jit(functools.partial(greedy, **settings), compiler_options=OPTIMIZED)
    return jax.jit(functools.partial(beam_search, **settings, beams=beams, alpha=alpha), compiler_options=OPTIMIZED)


def assert_is(out, row, ids, score):
    """Row `row` of `out` is `ids`, and 0 after them."""
    assert out.lengths[row] == len(ids)
    np.testing.assert_array_equal(out.ids[row], ids + [0] * (out.ids.shape[1] - len(ids)))
    np.testing.assert_allclose(out.scores[row], score, atol=1e-4)  # float32 against float64 sums


@pytest.mark.parametrize("version", SIZES)
def test_greedy_output_is_that_of_a_decoder_without_a_cache(version):
    lengths = set()
    for seed in range(4):
        params, inputs = parameters(version, seed), batch(seed)
        out = compiled(version, None, None)(params, inputs)
        for row in range(5):
            log_probs = reference_decode.next_log_probs(params, SIZES[version], inputs[row], MAX_LENGTH, 1)
            ids, total = reference_decode.greedy(log_probs, MAX_LENGTH)
            assert_is(out, row, ids, total)
            lengths.add((len(ids), ids[-1] == 1))
        assert_is(out, 5, [], 0)
        assert out.steps == out.lengths.max()
    assert (MAX_LENGTH, False) in lengths  # both ways to stop were seen
    assert len({n for n, ended in lengths if ended}) >= 2


@pytest.mark.parametrize(
    ("version", "beams", "alpha"), [("1.0", 2, 0.6), ("1.0", 4, 0.0), ("1.1", 2, 0.0), ("1.1", 4, 0.6)]
)
def test_beam_search_finds_what_its_definition_finds(version, beams, alpha):
    lengths, steps = set(), []
    for seed in range(3):
        params, inputs = parameters(version, seed), batch(seed)
        out = compiled(version, beams, alpha)(params, inputs)
        decided = []
        for row in range(5):
            log_probs = reference_decode.next_log_probs(params, SIZES[version], inputs[row], MAX_LENGTH, beams)
            penalty = lambda n: ((5 + n) / 6) ** alpha  # noqa: E731
            ids, score, when = reference_decode.beam_search(log_probs, MAX_LENGTH, beams, penalty)
            assert_is(out, row, ids, score)
            decided.append(when)
            lengths.add((len(ids), ids[-1] == 1))
        assert_is(out, 5, [], 0)
        assert out.steps == max(decided)
        steps += decided
    assert min(steps) < MAX_LENGTH and len({n for n, ended in lengths if ended}) >= 2


@pytest.mark.parametrize("beams", [1, 4])
def test_layers_written_out_write_what_a_loop_of_them_does(beams):
    settings = {"size": SIZES["1.1"], "dtype": "float32", "max_length": MAX_LENGTH, "beams": beams, "alpha": 0.6}
    written_out = jax.jit(functools.partial(beam_search, **settings, unroll=True), compiler_options=OPTIMIZED)
    for seed in range(3):
        params, inputs = parameters("1.1", seed), batch(seed)
        out, expected = written_out(params, inputs), compiled("1.1", beams, 0.6)(params, inputs)
        np.testing.assert_array_equal(out.ids, expected.ids)
        np.testing.assert_allclose(out.scores, expected.scores, atol=1e-5)  # float32 sums in another order


def test_keys_and_values_kept_as_on_a_tpu_write_the_same(monkeypatch):
    monkeypatch.setattr(cache, "keeps_positions_last", lambda: True)
    settings = {"size": SIZES["1.1"], "dtype": "float32", "max_length": MAX_LENGTH}
    as_on_tpu = jax.jit(functools.partial(greedy, **settings), compiler_options=OPTIMIZED)
    params, inputs = parameters("1.1", 0), batch(0)
    out, expected = as_on_tpu(params, inputs), compiled("1.1", None, 0.0)(params, inputs)
    np.testing.assert_array_equal(out.ids, expected.ids)
    np.testing.assert_allclose(out.scores, expected.scores, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("version", SIZES)
def test_one_beam_is_greedy(version):
    params, inputs = parameters(version), batch(0)
    one, out = compiled(version, 1, 0.6)(params, inputs), compiled(version, None, None)(params, inputs)
    np.testing.assert_array_equal(one.ids, out.ids)
    np.testing.assert_allclose(one.scores, out.scores / ((5 + out.lengths) / 6) ** 0.6, rtol=1e-6)


def test_more_beams_than_the_vocabulary_has_are_refused_with_their_key():
    vocabulary = SIZES["1.1"].vocabulary_size
    with pytest.raises(EdgewiseError, match=rf"infer\.beams={vocabulary}: expected at most {vocabulary // 2}, half of"):
        compiled("1.1", vocabulary, 0.0)(parameters("1.1", 0), batch(0))


def test_more_beams_find_likelier_output():
    mean = {}
    for beams in (1, 2, 4):
        outs = [compiled("1.1", beams, 0.0)(parameters("1.1", seed), batch(seed)) for seed in range(3)]
        mean[beams] = np.mean([out.scores for out in outs])
    assert mean[1] < mean[2] < mean[4]  # on average: a wider beam may lose a hypothesis that a narrower one keeps


@pytest.mark.parametrize("beams", [None, 4])
def test_the_loop_stops_when_all_rows_are_done(beams):
    params, inputs = parameters("1.1", 0), batch(0)
    decode = compiled("1.1", beams, 0.6)
    out, steps = decode(params, inputs), []
    for row in range(5):
        alone = decode(params, np.where(np.arange(6)[:, None] == row, inputs, 0))  # among rows of padding
        np.testing.assert_array_equal(alone.ids[row], out.ids[row])
        steps.append(int(alone.steps))
    assert min(steps) < MAX_LENGTH and max(steps) == out.steps
    assert decode(params, np.zeros_like(inputs)).steps == 0


def test_a_row_does_not_depend_on_the_others():
    params, inputs = parameters("1.1", 2), batch(2)
    for beams in (None, 2):
        decode = compiled("1.1", beams, 0.6)
        out, turned = decode(params, inputs), decode(params, inputs[::-1])
        np.testing.assert_array_equal(out.ids, turned.ids[::-1])
        np.testing.assert_allclose(out.scores, turned.scores[::-1], atol=1e-5)


@pytest.mark.parametrize("beams", [None, 2])
def test_bfloat16_takes_a_token_that_is_nearly_the_likeliest(beams):
    params, inputs = parameters("1.1", 1), batch(1)
    out = compiled("1.1", beams, 0.0, dtype="bfloat16")(params, inputs)
    assert out.ids.dtype == jnp.int32 and out.scores.dtype == jnp.float32
    for row in range(5):
        log_probs = reference_decode.next_log_probs(params, SIZES["1.1"], inputs[row], MAX_LENGTH, 1)
        ids = out.ids[row, : out.lengths[row]].tolist()
        steps = [log_probs([ids[:i]])[0] for i in range(len(ids))]
        total = sum(step[token] for step, token in zip(steps, ids))
        # logits 10 apart, and 8 bits of mantissa through 3 + 3 layers
        np.testing.assert_allclose(out.scores[row], total, atol=0.1 * len(ids))
        if beams is None:
            assert all(step[token] > step.max() - 0.3 for step, token in zip(steps, ids))


def test_the_length_penalty_is_google_s():
    assert length_penalty(1, 0.6) == 1
    np.testing.assert_allclose(length_penalty(jnp.array([7, 13]), 0.6), [2**0.6, 3**0.6], rtol=1e-6)
    np.testing.assert_array_equal(length_penalty(jnp.array([7, 13]), 0.0), [1, 1])


def test_outputs_of_one_token_at_most():
    for beams in (None, 2):
        out = compiled("1.1", beams, 0.6, max_length=1)(parameters("1.1"), batch(0))
        assert out.ids.shape == (6, 1) and out.steps == 1
        assert out.lengths.tolist() == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("wrong", [{"max_length": 0}, {"beams": 0}, {"alpha": -0.1}], ids=lambda wrong: str(wrong))
def test_settings_out_of_range_are_refused(wrong):
    settings = {"max_length": 4, "beams": 2, "alpha": 0.6} | wrong
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        beam_search(parameters("1.0"), batch(0), TINY, "float32", **settings)


def test_logits_and_cache_are_held_for_one_step():
    size = Size(name="x", d_model=64, d_kv=16, d_ff=128, layers=2, heads=4)  # and T5's vocabulary, 32,128
    rows, length, beams = 8, 64, 4
    decode = functools.partial(beam_search, size=size, dtype="float32", max_length=length, beams=beams, alpha=0.6)
    inputs = jax.ShapeDtypeStruct((rows, 32), jnp.int32)
    memory = jax.jit(decode).lower(t5.abstract_params(size), inputs).compile().memory_analysis()
    logits = 4 * rows * beams * 32128
    cache = 2 * 4 * size.layers * rows * (beams * length + 32) * size.heads * size.d_kv
    parameters = 4 * t5.count_parameters(size)  # the compiler may keep the embedding turned round
    assert memory.temp_size_in_bytes < 6 * logits + 3 * cache + parameters < 4 * rows * beams * length * 32128 / 3


# --- over a data set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 2])
def test_outputs_don_t_depend_on_batching(beams):
    texts = [np.minimum(text, 11) for text in random_texts(21, 12, 3)]
    inputs, model = encoded(texts), RunningModel(parameters("1.1", 1), SIZES["1.1"], "float32", make_mesh(Mesh()))

    def outputs(tokens, buckets):
        out = [None] * len(texts)
        batches = scoring_batches(inputs.lengths, Budget(tokens, lambda _: beams * MAX_LENGTH), buckets)
        for rows, ids in decode_examples(model, inputs, batches, MAX_LENGTH, beams, 0.6):
            assert len(ids) == len(rows)
            for row, each in zip(rows, ids):
                out[row] = each
        return as_encoded(out)

    some, other = outputs(BATCH_TOKENS, 1), outputs(8 * (12 + beams * MAX_LENGTH), 2)
    np.testing.assert_array_equal(some.flat, other.flat)
    np.testing.assert_array_equal(some.offsets, other.offsets)
    assert some.flat.dtype == np.int32 and some.lengths.min() >= 1
    unended = sum(int(some[row][-1]) != 1 for row in range(21))
    assert some.truncated == unended and all(len(some[row]) == MAX_LENGTH for row in range(21) if some[row][-1] != 1)


@pytest.mark.slow  # of training: test_train_sharding
def test_eight_devices_decode_and_score_what_one_does():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "tests.decoding"]
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    one, eight = json.loads(result.stdout)
    assert one["ids"] == eight["ids"] and len({len(ids) for ids in one["ids"]}) > 1
    for a, b in zip(one["scores"], eight["scores"]):
        np.testing.assert_allclose(a, b, atol=5e-5)  # float32 sums in another order, of logits near 10
