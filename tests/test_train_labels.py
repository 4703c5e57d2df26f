import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.schema import Mesh, Size
from tests.test_infer_sequences import encoded, random_texts
from train import labels as module
from train import t5
from train.data.batches import scoring_batches
from train.labels import label_budget, label_log_likelihoods, labels_a_call, pad_labels, score_examples
from train.sharding import make_mesh

TINY = Size(name="tiny", d_model=16, d_kv=8, d_ff=24, layers=2, heads=2, vocabulary_size=40)
PAPER = Size(name="paper", d_model=32, d_kv=16, d_ff=64, layers=2, heads=2)  # and T5's vocabulary, 32,128
MIB = 2**20


@functools.cache
def parameters(size_items):
    params = t5.init_params(Size(**dict(size_items)), jax.random.key(0))
    return jax.tree.map(lambda x: x * (1 + 0.3 * jax.random.normal(jax.random.key(1), x.shape)), params)


def params_of(size):
    return parameters(tuple(vars(size).items()))


@functools.cache
def _alone(size_items):
    return jax.jit(functools.partial(by_definition, Size(**dict(size_items))))


def by_definition(size, params, inputs, label):
    """log p(label | input) [B] float32 by a decoder row for this label [T] alone."""
    model = t5.model(size, params)
    segments, positions = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, positions)
    targets = jnp.broadcast_to(label, (len(inputs), len(label)))
    target_segments, target_positions = t5.plain_rows(targets)
    logits = model.decode(t5.shift_right(targets), target_segments, target_positions, memory, segments)
    log_p = jax.nn.log_softmax(logits)
    return (jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0] * target_segments).sum(-1)


def alone(size, inputs, labels):
    """[B, K]: each label of `labels` [K, T] scored by itself."""
    score = _alone(tuple(vars(size).items()))
    return np.stack([score(params_of(size), inputs, label) for label in labels], axis=1)


def labels_with_long_prefixes():
    """Nine labels [9, 133]: of up to 133 tokens, most of them the same up to a late one; one is EOS alone."""
    prefix = np.random.default_rng(0).integers(2, 40, 130)
    texts = [np.concatenate([prefix[:n], end, [1]]) for n in (130, 129, 60, 1) for end in ([5, 6], [7])]
    return pad_labels(encoded([*texts, np.array([1])]))


@pytest.mark.parametrize("limits", [(256 * MIB, 256 * MIB), (4 * 3 * 40 * 133 * 2, 256 * MIB), (4 * 3 * 40 * 20, 1)])
def test_long_labels_that_share_a_prefix_equal_labels_scored_alone(limits, monkeypatch):
    module._compiled.cache_clear()  # the limits are compiled in
    monkeypatch.setattr(module, "LOGITS_BYTES", limits[0])
    monkeypatch.setattr(module, "ATTENTION_BYTES", limits[1])
    labels, inputs = labels_with_long_prefixes(), encoded(random_texts(3, 9, 0))
    batches = scoring_batches(inputs.lengths, label_budget(10_000, labels.shape), 1)
    [(rows, got)] = score_examples(params_of(TINY), inputs, labels, TINY, "float32", make_mesh(Mesh()), batches)
    module._compiled.cache_clear()
    want = alone(TINY, jnp.array(inputs.padded(rows, inputs.lengths.max())), labels)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)  # float32 sums in another order, of up to 133 terms
    assert len(np.unique(np.round(got[0], 3))) == len(labels)  # they are told apart


def test_as_many_labels_a_call_as_fit():
    assert labels_a_call(TINY, (8, 30), (5, 4)) == 5
    assert labels_a_call(PAPER, (8, 30), (1000, 6)) == 10  # 64 positions, where the input has fewer
    assert labels_a_call(PAPER, (8, 260), (1000, 6)) == 42  # 43 fit beside the input: 24 calls, and so 42 each
    assert labels_a_call(PAPER, (8, 30), (20, 120)) == 1  # one label has more
    small = Size(**(vars(TINY) | {"heads": 8}))
    calls = labels_a_call(small, (64, 4000), (1000, 4))
    assert calls < 1000 and 4 * 64 * 8 * (calls * 4) ** 2 <= module.ATTENTION_BYTES


def test_a_budget_counts_what_one_call_holds():
    assert label_budget(32768, (2, 2)).rows(28) == 1024  # both labels in one call
    assert label_budget(32768, (10, 4)).rows(24) == 512
    assert label_budget(32768, (1000, 4)).rows(64) == 256  # one call of 16 labels, and not 4,000 positions
    assert label_budget(32768, (1000, 4)).rows(512) == 32  # as many positions as the input
    assert label_budget(32768, (1000, 4), 8).rows(500) == 32 and label_budget(100, (1000, 4), 8).rows(500) == 8
    for labels in ((2, 2), (10, 4), (1000, 4), (7, 100), (3, 1)):
        for length in (1, 40, 64, 65, 300):
            rows = label_budget(32768, labels).rows(length)
            called = labels_a_call(TINY, (rows, length), labels) * labels[1]
            assert rows * (length + called) <= 32768


@pytest.mark.parametrize(
    ("vocabulary", "heads", "rows", "length", "labels"),
    [
        (32128, 2, 8, 32, (1000, 6)),  # many labels: 5.7 GiB of logits
        (32128, 2, 64, 32, (20, 120)),  # one label's logits are 0.9 GiB
        (32128, 2, 2000, 8, (10, 4)),  # many rows of short text: 9.6 GiB
        (256, 4, 16, 32, (1000, 4)),  # few logits, but 3.8 GiB of attention
        (256, 4, 32, 512, (1000, 4)),  # where more of it could stand beside a long input
        (256, 1, 1, 1430, (1000, 8)),  # and of the bias's buckets, 7.6 GiB
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_stays_within_the_bound(vocabulary, heads, rows, length, labels, dtype):
    size = Size(**(vars(PAPER) | {"vocabulary_size": vocabulary, "heads": heads}))
    k, t = labels
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.int32)  # noqa: E731

    def temporary_bytes(group):
        scoring = functools.partial(label_log_likelihoods, size=size, dtype=dtype, group=group)
        lowered = jax.jit(scoring).lower(t5.abstract_params(size), shape(rows, length), shape(k, t))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    bound = 2 * module.LOGITS_BYTES if vocabulary == 32128 else 2 * module.ATTENTION_BYTES
    group = labels_a_call(size, (rows, length), labels)
    activations = 4 * 12 * size.d_ff * rows * (length + group * t)  # a dozen arrays as wide as the widest layer
    assert temporary_bytes(group) < bound + activations + 4 * MIB
    whole = 4 * rows * k * t * vocabulary, 4 * (rows * heads + size.relative_buckets) * (k * t) ** 2
    assert max(whole) > 5 * bound  # what it is a bound of


def test_a_thousand_labels_over_the_whole_vocabulary():
    rng = np.random.default_rng(0)
    texts = [np.append(rng.integers(2, 32000, rng.integers(1, 4)), 1) for _ in range(1000)]
    labels, inputs = pad_labels(encoded(texts)), encoded([rng.integers(2, 32000, 7), rng.integers(2, 32000, 4)])
    [batch] = scoring_batches(inputs.lengths, label_budget(1000, labels.shape), 1)
    [(rows, got)] = score_examples(params_of(PAPER), inputs, labels, PAPER, "float32", make_mesh(Mesh()), [batch])
    assert got.shape == (2, 1000) and labels_a_call(PAPER, (2, 7), labels.shape) < 1000
    some = [0, 1, 499, 998, 999]
    want = alone(PAPER, jnp.array(inputs.padded(rows, 7)), labels[some])
    np.testing.assert_allclose(got[:, some], want, rtol=1e-5, atol=2e-5)
