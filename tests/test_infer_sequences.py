import functools
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from conf.schema import Mesh, Size
from infer.sequences import TargetScores, score_sequences, scores_of_logits, sequence_batches, token_scores
from tests import reference_t5
from tests.support import REPO
from tests.texts import encoded, random_texts
from tests.token_score_memory import PAPER, ROWS, SOURCE, TARGET
from train import t5
from train.data.batches import Budget, scoring_batches
from train.head import SLICE_BYTES
from train.label_tree import Labels
from train.labels import label_log_likelihoods
from train.running_model import RunningModel
from train.sharding import BATCH_TOKENS, make_mesh

TINY = Size(name="tiny", d_model=16, d_kv=8, d_ff=24, layers=2, heads=2, vocabulary_size=40, relative_buckets=8)
SIZES = {
    "1.0": TINY,
    "1.1": Size(**(vars(TINY) | {"activation": "gated_gelu", "tied_head": False})),
}


@functools.cache
def parameters(version):
    params = t5.init_params(SIZES[version], jax.random.key(0))
    return jax.tree.map(lambda x: x * (1 + 0.3 * jax.random.normal(jax.random.key(1), x.shape)), params)


def by_definition(logits, targets):
    """Log-probability, margin and entropy of each token from float64 logits [T, V]."""
    log_p = log_softmax(np.asarray(logits, np.float64), axis=-1)
    p = np.sort(np.exp(log_p), axis=-1)
    return log_p[np.arange(len(targets)), targets], p[:, -1] - p[:, -2], -(np.exp(log_p) * log_p).sum(-1)


def scored(version, inputs, targets, dtype="float32", **settings):
    """Both sets of `targets` (lists of lists of texts) of all inputs in one batch."""
    sets = [encoded(some) for some in targets]
    ids = [jnp.array(some.padded(np.arange(len(some)), some.lengths.max() + 2)) for some in sets]
    lengths = [jnp.array(some.lengths, jnp.int32) for some in sets]
    rows = encoded(inputs)
    rows = jnp.array(rows.padded(np.arange(len(rows)), rows.lengths.max() + 3))
    function = functools.partial(token_scores, size=SIZES[version], dtype=dtype, **settings)
    return jax.jit(function)(parameters(version), rows, ids, lengths)


INPUTS = [[5, 6, 7, 8, 9, 1], [11, 1], [20, 21, 22, 1]]
GOLD = [[4, 9, 7, 3, 1], [1], [30, 1]]  # the second is empty: EOS alone
OWN = [[4, 1], [0, 8, 0], [7, 7, 7, 7, 7, 7, 1]]  # the second has pad ids in it and does not end


@pytest.mark.parametrize("version", SIZES)
def test_scores_are_those_of_a_float64_reference(version):
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), parameters(version))
    for texts, scores in zip((GOLD, OWN), scored(version, INPUTS, [GOLD, OWN])):
        for row, text in enumerate(texts):
            logits = reference_t5.logits(exact, SIZES[version], np.array(INPUTS[row]), np.array([0, *text[:-1]]))
            for got, want in zip(scores, by_definition(logits, np.array(text))):
                assert got.dtype == jnp.float32
                np.testing.assert_allclose(got[row, : len(text)], want, atol=2e-4)  # float32 against float64
                assert (got[row, len(text) :] == 0).all()


@pytest.mark.parametrize("version", SIZES)
def test_log_probabilities_sum_to_the_label_s_log_likelihood(version):
    [scores] = scored(version, INPUTS, [GOLD])
    inputs = jnp.array(encoded(INPUTS).padded(np.arange(3), 6))
    tree = Labels(np.array([GOLD[0]])).tree(len(GOLD[0]))
    want = label_log_likelihoods(parameters(version), inputs, tree, SIZES[version], "float32")
    np.testing.assert_allclose(scores.log_probs[0].sum(), want[0, 0], rtol=1e-5)


@pytest.mark.parametrize("positions", [1, 3])
def test_slices_change_nothing(positions):
    whole = scored("1.1", INPUTS, [GOLD, OWN])
    cut = scored("1.1", INPUTS, [GOLD, OWN], slice_bytes=positions * 4 * 3 * 40)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut)):
        np.testing.assert_allclose(a, b, atol=2e-6)  # a matrix product of another shape may sum in another order


def test_bfloat16_activations_stay_near_float32():
    for a, b in zip(scored("1.1", INPUTS, [GOLD]), scored("1.1", INPUTS, [GOLD], dtype="bfloat16")):
        for exact, rounded in zip(a, b):
            assert rounded.dtype == jnp.float32
            np.testing.assert_allclose(rounded, exact, atol=0.3)  # 8 bits of mantissa through 2 + 2 layers
    # the head is float32: bfloat16 logits of a size near 8 would be multiples of 1/32
    margins = np.asarray(b.log_probs)[b.log_probs != 0]
    assert len(np.unique(margins)) == len(margins)


@settings(max_examples=60, deadline=None)
@given(
    spread=st.sampled_from([0.0, 1e-3, 1.0, 8.0, 60.0, 2000.0]),
    offset=st.sampled_from([0.0, -300.0, 500.0]),
    vocabulary=st.sampled_from([2, 7, 40, 384]),
    seed=st.integers(0, 1000),
)
def test_scores_of_any_logits(spread, offset, vocabulary, seed):
    rng = np.random.default_rng(seed)
    logits = (offset + spread * rng.standard_normal((6, vocabulary))).astype(np.float32)
    targets = rng.integers(0, vocabulary, 6)
    log_probs, margins, entropies = map(np.asarray, scores_of_logits(jnp.array(logits), jnp.array(targets)))
    for got, want in zip((log_probs, margins, entropies), by_definition(logits, targets)):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-7)
    assert (log_probs <= 0).all() and (entropies >= 0).all() and (margins >= 0).all() and (margins <= 1).all()


def test_very_certain_tokens_keep_their_order():
    gaps = np.array([20.0, 25, 30, 40, 80])
    logits = np.stack([np.append(gap, np.zeros(39)) for gap in gaps]).astype(np.float32)
    zeros = jnp.zeros(5, jnp.int32)
    log_probs, margins, entropies = map(np.asarray, scores_of_logits(jnp.array(logits), zeros))
    odds = 39 * np.exp(-gaps)
    np.testing.assert_allclose(log_probs, -np.log1p(odds), rtol=1e-5)
    np.testing.assert_allclose(entropies, np.log1p(odds) + gaps * odds / (1 + odds), rtol=1e-5)
    np.testing.assert_allclose(margins, 1, atol=1e-7)
    assert (np.diff(log_probs) > 0).all() and (np.diff(entropies) < 0).all()


def test_equal_logits_have_no_margin():
    logits = jnp.array([[3.0, 3.0, 1.0], [2.0, 2.0, 2.0]])
    scores = scores_of_logits(logits, jnp.array([0, 2]))
    np.testing.assert_array_equal(scores.margins, [0, 0])
    np.testing.assert_allclose(scores.entropies[1], np.log(3), rtol=1e-6)


# --- memory ----------------------------------------------------------------------------------------------------------

WHOLE = 4 * ROWS * TARGET * 32128  # bytes of the logits, were they held at once


def temporary_bytes(slice_bytes):
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.int32)  # noqa: E731
    function = functools.partial(token_scores, size=PAPER, dtype="float32", slice_bytes=slice_bytes)
    arguments = (shape(ROWS, SOURCE), [shape(ROWS, TARGET)] * 2, [shape(ROWS)] * 2)
    compiled = jax.jit(function).lower(t5.abstract_params(PAPER), *arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_is_bounded_by_the_slice_and_not_by_the_length():
    attention = 4 * ROWS * PAPER.heads * TARGET * (TARGET + SOURCE)  # bytes; one layer at a time
    bounded = temporary_bytes(SLICE_BYTES)
    assert bounded < 1.1 * SLICE_BYTES + 2 * attention < WHOLE / 3
    assert temporary_bytes(WHOLE) > WHOLE  # what the bound is worth


@pytest.mark.slow
def test_peak_memory_of_a_real_run():
    def growth(slice_bytes):
        command = [sys.executable, "-m", "tests.token_score_memory", str(slice_bytes)]
        return int(subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout)

    assert growth(SLICE_BYTES) < WHOLE / 2 < growth(WHOLE)


# --- over a data set -------------------------------------------------------------------------------------------------


def test_scores_don_t_depend_on_batching():
    inputs, gold, own = (encoded(random_texts(29, longest, seed)) for longest, seed in ((30, 0), (12, 1), (20, 2)))
    mesh = make_mesh(Mesh())

    def all_scores(tokens, buckets):
        batches = scoring_batches(inputs.lengths, Budget(tokens, lambda _: 12), buckets)
        plan = sequence_batches(batches, np.maximum(gold.lengths, own.lengths), tokens, 1, 0.1, buckets)
        out = [[None] * 29, [None] * 29]
        run = score_sequences(RunningModel(parameters("1.0"), TINY, "float32", mesh), inputs, [gold, own], plan)
        for rows, scores in run:
            assert len(scores) == 2 and all(len(each) == len(rows) for each in scores)
            for which, each in zip(out, scores):
                for row, score in zip(rows, each):
                    which[row] = score
        return out

    reference = all_scores(1, 1)
    for texts, scores in zip((gold, own), reference):
        assert [len(score.entropies) for score in scores] == texts.lengths.tolist()
    for some in (all_scores(300, 2), all_scores(BATCH_TOKENS, 2)):
        for a, b in zip(jax.tree.leaves(some), jax.tree.leaves(reference)):
            assert isinstance(a, np.ndarray) and a.dtype == np.float32
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert isinstance(reference[0][0], TargetScores)


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), max_size=40),
    tokens=st.integers(1, 200),
    row_multiple=st.sampled_from([1, 4]),
    buckets=st.integers(1, 4),
    max_padding=st.sampled_from([0.0, 0.2, 0.9]),
)
def test_a_plan_covers_each_row_once(lengths, tokens, row_multiple, buckets, max_padding):
    input_lengths, target_lengths = np.array(lengths, int).reshape(-1, 2).T
    batches = scoring_batches(input_lengths, Budget(tokens, lambda _: 5, row_multiple), buckets)
    plan = sequence_batches(batches, target_lengths, tokens, row_multiple, max_padding, buckets)
    assert sorted(row for batch in plan for row in batch.rows) == list(range(len(lengths)))
    padded_to = {row: batch.length for batch in batches for row in batch.rows}
    for rows, input_length, target_length, row_count in plan:
        assert 1 <= len(rows) <= row_count and row_count % row_multiple == 0
        assert all(padded_to[row] == input_length for row in rows) and target_lengths[rows].max() <= target_length
        assert row_count * (input_length + target_length) <= tokens or row_count == row_multiple
    shapes = {(batch.input_length, batch.target_length, batch.row_count) for batch in plan}
    assert len(shapes) <= max(3 * buckets, len({batch.length for batch in batches}))


def test_no_more_target_lengths_than_padding_asks_for():
    rng = np.random.default_rng(0)
    input_lengths, target_lengths = rng.choice([10, 40], 1000, p=[0.9, 0.1]), rng.integers(1, 100, 1000)
    batches = scoring_batches(input_lengths, Budget(4000, lambda _: 10), 2)

    def planned(max_padding, buckets=8):
        plan = sequence_batches(batches, target_lengths, 4000, 1, max_padding, buckets)
        share = 1 - target_lengths.sum() / sum(batch.row_count * batch.target_length for batch in plan)
        return share, Counter(length for length, _ in {(batch.input_length, batch.target_length) for batch in plan})

    asked = {max_padding: planned(max_padding) for max_padding in (0.6, 0.3, 0.22, 0.155)}
    most = [found.total() for _, found in asked.values()]
    assert most == sorted(set(most)) and most[0] == 2 and most[-1] <= 24
    assert all(share <= max_padding for max_padding, (share, _) in asked.items())
    assert asked[0.155][1][10] > asked[0.155][1][40] == 2  # where the most rows are, most is saved
    assert planned(0.0)[1].total() <= 24 and planned(0.0, buckets=2)[1].total() == 6


def test_sorting_by_target_length_saves_padding():
    rng = np.random.default_rng(0)
    input_lengths = rng.integers(10, 60, 2000)
    target_lengths = np.maximum(1, (input_lengths * rng.normal(1, 0.25, 2000)).astype(int))  # as in translation
    batches = scoring_batches(input_lengths, Budget(2000, lambda _: 30), 4)
    plan = sequence_batches(batches, target_lengths, 2000, 1, 0.1, 8)
    positions = sum(batch.row_count * batch.target_length for batch in plan)
    unsorted = sum(batch.row_count * target_lengths[batch.rows].max() for batch in batches)
    assert 1 - target_lengths.sum() / positions < 0.15 < 0.25 < 1 - target_lengths.sum() / unsorted


def test_no_bucket_is_refused():
    with pytest.raises(ValueError, match="buckets=0"):
        sequence_batches([], np.array([]), 100, 1, 0.1, 0)
