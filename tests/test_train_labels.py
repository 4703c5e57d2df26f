import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.schema import Mesh, Size
from tests.texts import encoded, random_texts
from train import labels as module
from train import t5
from train.data.batches import scoring_batches
from train.label_tree import Labels
from train.labels import as_labels, label_budget, label_log_likelihoods, max_call_positions, score_examples
from train.running_model import RunningModel
from train.sharding import make_mesh

TINY = Size(name="tiny", d_model=16, d_kv=8, d_ff=24, layers=2, heads=2, vocabulary_size=40)
PAPER = Size(name="paper", d_model=32, d_kv=16, d_ff=64, layers=2, heads=2)  # and T5's vocabulary, 32,128
MIB = 2**20


@functools.cache
def params_of(size):
    params = t5.init_params(size, jax.random.key(0))
    return jax.tree.map(lambda x: x * (1 + 0.3 * jax.random.normal(jax.random.key(1), x.shape)), params)


@functools.cache
def _alone(size):
    return jax.jit(functools.partial(by_definition, size))


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
    """[B, K]: each label of `labels` [K, T], padded with 0, scored by itself."""
    score = _alone(size)
    return np.stack([score(params_of(size), inputs, label) for label in labels], axis=1)


def labels_with_long_prefixes():
    """Nine labels: of up to 133 tokens, most of them the same up to a late one; one is EOS alone."""
    prefix = np.random.default_rng(0).integers(2, 40, 130)
    texts = [np.concatenate([prefix[:n], end, [1]]) for n in (130, 129, 60, 1) for end in ([5, 6], [7])]
    return as_labels(encoded([*texts, np.array([1])]))


@pytest.mark.parametrize("limits", [(256 * MIB, 256 * MIB), (4 * 3 * 40 * 133 * 2, 256 * MIB), (4 * 3 * 40 * 20, 1)])
def test_long_labels_that_share_a_prefix_equal_labels_scored_alone(limits, monkeypatch):
    module.compile_label_scoring.cache_clear()  # the limits are compiled in
    monkeypatch.setattr(module, "LOGITS_BYTES", limits[0])
    monkeypatch.setattr(module, "ATTENTION_BYTES", limits[1])
    labels, inputs = labels_with_long_prefixes(), encoded(random_texts(3, 9, 0))
    batches = scoring_batches(inputs.lengths, label_budget(10_000, labels), 1)
    model = RunningModel(params_of(TINY), TINY, "float32", make_mesh(Mesh()))
    [(rows, got)] = score_examples(model, inputs, labels, batches)
    module.compile_label_scoring.cache_clear()
    want = alone(TINY, jnp.array(inputs.padded(rows, inputs.lengths.max())), labels.padded)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)  # float32 sums in another order, of up to 133 terms
    assert len(np.unique(np.round(got[0], 3))) == len(labels)  # they are told apart


def labels_apart(k, t):
    """`k` labels of `t` tokens that have nothing in common but that they begin: a tree of 1 + k·(t - 1) positions."""
    return Labels(np.repeat(np.arange(2, k + 2)[:, None], t, axis=1))


def test_a_call_has_room_for_as_many_positions_as_fit():
    assert max_call_positions(PAPER, 8, 30) == 64  # where the input has fewer
    assert max_call_positions(PAPER, 8, 260) == 260
    small = Size(**(vars(TINY) | {"heads": 8}))
    assert max_call_positions(small, 64, 4000) < 1000
    assert 4 * 64 * 8 * max_call_positions(small, 64, 4000) ** 2 <= module.ATTENTION_BYTES


def test_a_budget_counts_what_one_call_holds():
    assert label_budget(32768, labels_apart(2, 2)).rows(29) == 1024  # both labels in one call, of 3 positions
    assert label_budget(32768, labels_apart(10, 4)).rows(33) == 512
    assert label_budget(32768, labels_apart(1000, 4)).rows(64) == 256  # one call of 64 positions, and not 3,001
    assert label_budget(32768, labels_apart(1000, 4)).rows(512) == 32  # as many positions as the input
    assert label_budget(32768, labels_apart(1000, 4), 8).rows(500) == 32
    assert label_budget(100, labels_apart(1000, 4), 8).rows(500) == 8
    for labels in (labels_apart(*shape) for shape in ((2, 2), (10, 4), (1000, 4), (7, 100), (3, 1))):
        for length in (1, 40, 64, 65, 300):
            rows = label_budget(32768, labels).rows(length)
            called = labels.tree(max_call_positions(TINY, rows, length)).tokens.shape[1]
            assert rows * (length + called) <= 32768


@pytest.mark.parametrize(
    ("vocabulary", "heads", "rows", "length", "labels"),
    [
        (32128, 2, 8, 32, (1000, 6)),  # many labels: 4.8 GiB of logits
        (32128, 2, 64, 32, (20, 120)),  # one label's logits are 0.9 GiB
        (32128, 2, 2000, 8, (10, 4)),  # many rows of short text: 7.4 GiB
        (256, 4, 16, 32, (1000, 4)),  # few logits, but 2.1 GiB of attention
        (256, 4, 32, 512, (1000, 4)),  # where more of it could stand beside a long input
        (256, 1, 1, 1430, (1000, 8)),  # and of the bias's buckets, 5.8 GiB
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_stays_within_the_bound(vocabulary, heads, rows, length, labels, dtype):
    size = Size(**(vars(PAPER) | {"vocabulary_size": vocabulary, "heads": heads}))
    tree = labels_apart(*labels).tree(max_call_positions(size, rows, length))
    scoring = functools.partial(label_log_likelihoods, size=size, dtype=dtype)
    inputs = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    lowered = jax.jit(scoring).lower(t5.abstract_params(size), inputs, tree)
    bound = 2 * module.LOGITS_BYTES if vocabulary == 32128 else 2 * module.ATTENTION_BYTES
    called = tree.tokens.shape[1]
    activations = 4 * 12 * size.d_ff * rows * (length + called)  # a dozen arrays as wide as the widest layer
    assert lowered.compile().memory_analysis().temp_size_in_bytes < bound + activations + 4 * MIB
    positions = labels_apart(*labels).positions(10**6)
    whole = 4 * rows * positions * vocabulary, 4 * (rows * heads + size.relative_buckets) * positions**2
    assert max(whole) > 4 * bound  # what it is a bound of


def test_a_thousand_labels_over_the_whole_vocabulary():
    rng = np.random.default_rng(0)
    texts = [np.append(rng.integers(2, 32000, rng.integers(1, 4)), 1) for _ in range(1000)]
    labels, inputs = as_labels(encoded(texts)), encoded([rng.integers(2, 32000, 7), rng.integers(2, 32000, 4)])
    [batch] = scoring_batches(inputs.lengths, label_budget(1000, labels), 1)
    model = RunningModel(params_of(PAPER), PAPER, "float32", make_mesh(Mesh()))
    [(rows, got)] = score_examples(model, inputs, labels, [batch])
    assert got.shape == (2, 1000) and len(labels.tree(max_call_positions(PAPER, 2, 7)).tokens) > 10
    some = [0, 1, 499, 998, 999]
    want = alone(PAPER, jnp.array(inputs.padded(rows, 7)), labels.padded[some])
    np.testing.assert_allclose(got[:, some], want, rtol=1e-5, atol=2e-5)
