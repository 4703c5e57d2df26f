import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from conf.schema import Size
from tests import reference_t5
from train import t5

PAPER_SIZES = {  # reference: Raffel et al. 2020 and the T5 1.1 release; counts by the published checkpoints
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "3b": 2_851_598_336,
    "v1_1_small": 76_961_152,
    "v1_1_base": 247_577_856,
    "v1_1_large": 783_150_080,
    "v1_1_xl": 2_849_757_184,
}


def tiny(**changes):
    values = {
        "name": "tiny",
        "d_model": 16,
        "d_kv": 6,
        "d_ff": 24,
        "layers": 2,
        "heads": 3,
        "vocabulary_size": 40,
    } | changes
    return Size(**values)


VERSIONS = {
    "1.0": {},
    "1.1": {"activation": "gated_gelu", "tied_head": False},
    "deep encoder": {"decoder_layers": 1},
    "deep decoder": {"activation": "gated_gelu", "tied_head": False, "decoder_layers": 4},
    "tied and unscaled": {"activation": "gated_gelu", "scaled_head": False},
    "its own and scaled": {"tied_head": False, "scaled_head": True},
}


@pytest.fixture(params=VERSIONS)
def size(request):
    return tiny(**VERSIONS[request.param], relative_max_distance=20, relative_buckets=8)


@functools.cache
def make(size):
    params = t5.init_params(size, jax.random.key(0))
    # norms start at 1 and hide a forgotten scale
    return jax.tree.map(lambda x: x * (1 + 0.3 * jax.random.normal(jax.random.key(1), x.shape)), params)


def full_logits(size, params, inputs, targets, key=None):
    """Logits of whole rows. A shape is compiled once a size: most tests have four or three tokens, and three out."""
    return _jitted(size)(params, inputs, targets, key)


@functools.cache
def _jitted(size):
    return jax.jit(functools.partial(_full_logits, size))


def _full_logits(size, params, inputs, targets, key):
    model = t5.model(size, params)
    segments, positions = t5.plain_rows(inputs)
    keys = t5.split_key(key, 2)
    memory = model.encode(inputs, segments, positions, key=keys[0])
    target_segments, target_positions = t5.plain_rows(targets)
    return model.decode(t5.shift_right(targets), target_segments, target_positions, memory, segments, key=keys[1])


@pytest.mark.parametrize("name", PAPER_SIZES)
def test_every_size_has_the_published_number_of_parameters(name, compose):
    assert t5.count_parameters(compose(f"size={name}").size) == PAPER_SIZES[name]


def test_logits_equal_a_float64_reference(size):
    params = make(size)
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 40, 23), rng.integers(2, 40, 12)
    got = full_logits(size, params, jnp.array([inputs]), jnp.array([targets]))[0]
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    want = reference_t5.logits(exact, size, inputs, np.concatenate([[0], targets[:-1]]))
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())  # float32 against float64


def test_padding_changes_no_logit(size):
    params = make(size)
    inputs, targets = np.array([[5, 6, 7, 1]]), np.array([[9, 8, 1]])
    plain = full_logits(size, params, jnp.array(inputs), jnp.array(targets))
    padded = full_logits(size, params, jnp.pad(inputs, ((0, 1), (0, 5))), jnp.pad(targets, ((0, 1), (0, 2))))
    np.testing.assert_allclose(padded[:1, :3], plain, atol=2e-5)
    assert np.isfinite(padded).all()


def test_sequences_that_share_a_row_don_t_see_each_other(size):
    params = make(size)
    model = t5.model(size, params)
    a, b = [5, 6, 7, 1], [9, 3, 1]
    ta, tb = [4, 2, 1], [8, 7, 1]
    row = lambda x, y: jnp.array([x + y + [0]])  # noqa: E731
    segments, positions = row([1] * 4, [2] * 3), row([0, 1, 2, 3], [0, 1, 2])
    memory = model.encode(row(a, b), segments, positions)
    target_segments, target_positions = row([1] * 3, [2] * 3), row([0, 1, 2], [0, 1, 2])
    got = model.decode(row([0] + ta[:-1], [0] + tb[:-1]), target_segments, target_positions, memory, segments)
    np.testing.assert_allclose(got[:, :3], full_logits(size, params, jnp.array([a]), jnp.array([ta])), atol=2e-5)
    np.testing.assert_allclose(got[:, 3:6], full_logits(size, params, jnp.array([b]), jnp.array([tb])), atol=2e-5)


def test_few_queries_find_what_many_do():
    size = tiny(d_model=16, d_kv=16, heads=3)
    attention = t5.Attention(size, rngs=nnx.Rngs(params=0))
    x, memory = (jax.random.normal(jax.random.key(i), (2, n, 16)) for i, n in ((0, 4), (1, 30)))
    segments = jnp.array([[1] * 4, [1, 1, 1, 2]]), jnp.array([[1] * 20 + [0] * 10, [1] * 5 + [2] * 25])
    want = attention(x, memory, None, segments)
    np.testing.assert_allclose(attention.attend_absorbed(x, memory, segments), want, rtol=1e-5, atol=1e-5)
    assert attention.absorbing_halves_products(4, 30) and not attention.absorbing_halves_products(15, 30)
    products = lambda f: jax.jit(f).lower(x, memory).cost_analysis()["flops"]  # noqa: E731
    few = products(lambda x, memory: attention.attend_absorbed(x, memory, segments))
    assert few < 0.7 * products(lambda x, memory: attention(x, memory, None, segments))


def test_a_target_does_not_see_what_comes_after_it(size):
    params = make(size)
    inputs = jnp.array([[5, 6, 1]])
    first = full_logits(size, params, inputs, jnp.array([[4, 7, 1]]))
    other = full_logits(size, params, inputs, jnp.array([[4, 2, 3]]))
    np.testing.assert_array_equal(first[:, :2], other[:, :2])
    assert not np.allclose(first[:, 2], other[:, 2])


def test_heads_may_begin_with_a_neighbour_each():
    size = tiny(heads=4, neighbour_heads=3)
    plain = t5.init_params(dataclasses.replace(size, neighbour_heads=None), jax.random.key(0))
    params = t5.init_params(size, jax.random.key(0))
    others = [jax.tree.map(lambda a: a, tree) for tree in (plain, params)]
    tables = [tree["encoder"]["relpos_bias"].pop("rel_embedding") for tree in others]
    jax.tree.map(np.testing.assert_array_equal, *others)  # all else starts as ever
    np.testing.assert_array_equal(tables[0][:, 3], tables[1][:, 3])
    positions = jnp.arange(9)[None]
    relative = positions[:, None, :] - positions[:, :, None]
    bucket = t5.relative_buckets(
        relative, bidirectional=True, buckets=size.relative_buckets, max_distance=size.relative_max_distance
    )
    weights = jax.nn.softmax(tables[1][bucket[0]], axis=1)  # [T, S, H]
    for head, distance in enumerate((-1, 1, -2)):
        for query in range(2, 7):
            assert weights[query, :, head].argmax() == query + distance and weights[query, :, head].max() > 0.99


def test_relative_buckets_equal_the_reference():
    relative = np.arange(-300, 301)
    for bidirectional in (True, False):
        for buckets, far in ((32, 128), (8, 20)):
            got = t5.relative_buckets(
                jnp.array(relative), bidirectional=bidirectional, buckets=buckets, max_distance=far
            )
            want = [reference_t5.bucket(int(r), bidirectional, buckets, far) for r in relative]
            off = np.abs(np.asarray(got) - want)
            assert off.max() <= 1 and (off > 0).sum() <= 4  # a float32 logarithm may round at a bucket's edge


def test_dropout_is_the_key_s_and_averages_out(size):
    params = make(size)
    inputs, targets = jnp.array([[5, 6, 1]]), jnp.array([[4, 1]])
    once, again, other = (full_logits(size, params, inputs, targets, jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, other)
    x = jnp.ones((200, 7, 300))
    dropped = t5.dropout(x, 0.1, jax.random.key(0), broadcast_axis=-2)
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.9], rtol=1e-6)
    assert abs(float(dropped.mean()) - 1) < 0.005  # 4 standard deviations
    assert (dropped == dropped[:, :1]).all()  # one mask along the length, as T5X has it


def test_layers_are_run_in_their_order():
    size = tiny(layers=3)
    params = make(size)
    inputs, targets = jnp.array([[5, 6, 1]]), jnp.array([[4, 1]])
    turned = jax.tree.map(lambda x: x, params)
    turned["encoder"]["layers"] = jax.tree.map(lambda x: x[::-1], params["encoder"]["layers"])
    assert not np.allclose(full_logits(size, params, inputs, targets), full_logits(size, turned, inputs, targets))


def test_bfloat16_activations_stay_near_float32_and_give_float32_logits(size):
    params = make(size)
    inputs, targets = jnp.array([[5, 6, 7, 1]]), jnp.array([[4, 2, 1]])
    model = t5.model(size, params)
    segments, positions = t5.plain_rows(inputs)
    target_segments, target_positions = t5.plain_rows(targets)
    memory = model.encode(inputs, segments, positions, jnp.bfloat16)
    assert memory.dtype == jnp.bfloat16
    got = model.decode(t5.shift_right(targets), target_segments, target_positions, memory, segments)
    want = full_logits(size, params, inputs, targets)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=0.1 * np.abs(want).max())  # 8 bits of mantissa through 2 + 2 layers


def test_the_vocabulary_is_rounded_up_where_the_size_leaves_it_open():
    assert t5.with_vocabulary(tiny(vocabulary_size=None), 300).vocabulary_size == 384
    assert t5.with_vocabulary(tiny(vocabulary_size=None), 256).vocabulary_size == 256
    assert t5.with_vocabulary(tiny(vocabulary_size=40), 300).vocabulary_size == 40


def test_forward_flops_are_two_for_each_parameter_and_token_where_attention_is_small():
    size = tiny(d_model=256, d_kv=64, d_ff=1024, heads=4, vocabulary_size=1000)
    stacks = t5.count_parameters(size) - 1000 * 256
    flops = t5.forward_flops(size, 8, 8)
    assert flops == pytest.approx(2 * 8 * (stacks + 1000 * 256), rel=0.02)  # the tied head multiplies too


def test_forward_flops_agree_with_xla_s_count():
    size = tiny(d_model=64, d_kv=16, d_ff=256, heads=4, layers=1, vocabulary_size=128)
    params = t5.init_params(size, jax.random.key(0))
    inputs, targets = jnp.ones((4, 32), jnp.int32), jnp.ones((4, 16), jnp.int32)
    compiled = jax.jit(functools.partial(_full_logits, size)).lower(params, inputs, targets, None).compile()
    counted = compiled.cost_analysis()["flops"] / 4
    assert counted == pytest.approx(float(t5.forward_flops(size, 32, 16)), rel=0.15)  # norms, softmax, biases


@pytest.mark.parametrize(("layers", "decoder_layers"), [(4, 1), (1, 4)])
def test_each_stack_counts_with_its_own_depth(layers, decoder_layers):
    changes = {"d_model": 64, "d_kv": 16, "d_ff": 256, "heads": 4, "vocabulary_size": 128}
    one = tiny(**changes, layers=1)
    deep = tiny(**changes, layers=layers, decoder_layers=decoder_layers)
    encoder_only, decoder_only = (
        tiny(**changes, layers=2, decoder_layers=1),
        tiny(**changes, layers=1, decoder_layers=2),
    )
    for count in (t5.count_parameters, lambda size: float(t5.forward_flops(size, 32, 16))):
        a_layer = {"encoder": count(encoder_only) - count(one), "decoder": count(decoder_only) - count(one)}
        assert 0 < a_layer["encoder"] != a_layer["decoder"] > 0
        more = (layers - 1) * a_layer["encoder"] + (decoder_layers - 1) * a_layer["decoder"]
        assert count(deep) == count(one) + more
    stacks = t5.init_params(deep, jax.random.key(0))
    assert stacks["encoder"]["layers"]["mlp"]["wi"]["kernel"].shape == (layers, 64, 256)
    assert stacks["decoder"]["layers"]["mlp"]["wi"]["kernel"].shape == (decoder_layers, 64, 256)
