"""Training order by (seed, epoch) alone; scoring batches with as little padding as can be."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import Dataset, Infer
from tests.support import shared_data
from train.data.batches import Budget, ScoringBatch, TrainBatches, padding_share, plan_batches, scoring_batches
from train.data.splits import load_split
from train.data.tokens import Encoded, Vocabulary

SHARED = shared_data()


def encoded(lengths: list[int]) -> Encoded:
    """Text i is i + 1, over and over."""
    return Encoded(np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths), np.cumsum([0, *lengths]), 0)


def order(n: int, batch_size: int, seed: int, steps: int) -> np.ndarray:
    texts = encoded([1] * n)
    batches = TrainBatches(texts, texts, batch_size, seed)
    return np.concatenate([batches.indices(step) for step in range(steps)])


# --- training --------------------------------------------------------------------------------------------------------


def test_batches_hold_the_texts_of_their_rows() -> None:
    inputs, targets = encoded([3, 9, 1, 5, 2]), encoded([1, 2, 1, 3, 1])
    batches = TrainBatches(inputs, targets, batch_size=3, seed=0)
    rows, batch = batches.indices(4), batches(4)
    assert rows.dtype == np.int64 and len(rows) == 3
    for texts, ids in ((inputs, batch.inputs), (targets, batch.targets)):  # text i is i + 1, over and over
        expected = {int(row) + 1: int(texts.lengths[row]) for row in rows}
        assert {int(i): int((ids == i).sum()) for i in np.unique(ids[ids > 0])} == expected


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 7), (3, 8), (1, 2), (100, 64)])
def test_each_epoch_covers_every_row_in_an_order_of_its_own(n: int, batch_size: int) -> None:
    epochs = order(n, batch_size, 0, steps=-(-4 * n // batch_size))[: 4 * n].reshape(4, n)
    assert (np.sort(epochs) == np.arange(n)).all()
    if n >= 7:
        assert len({tuple(epoch) for epoch in epochs}) == 4


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(order(50, 10, 3, 15), order(50, 6, 3, 25))  # not on the batch size
    assert not np.array_equal(order(50, 10, 3, 5), order(50, 10, 4, 5))
    texts = encoded([1] * 50)
    again = TrainBatches(texts, texts, 7, 3)
    assert np.array_equal(again.indices(12), order(50, 7, 3, 13)[-7:])  # without the steps before it


def test_order_is_golden() -> None:
    # Not ours to change: another order is another result for every cell. A new grain has to keep it.
    assert order(10, 10, 0, 2).tolist() == [1, 2, 4, 5, 9, 7, 8, 6, 0, 3, 9, 6, 1, 8, 2, 0, 3, 5, 4, 7]


def test_large_data_has_random_access() -> None:
    n = 3_000_000
    texts = Encoded(np.zeros(n, np.int32), np.arange(n + 1), 0)
    rows = TrainBatches(texts, texts, 1024, 0).indices(2_000_000)
    assert len(set(rows.tolist())) == 1024 and rows.max() < n


def test_train_batches_refuse_what_does_not_match() -> None:
    for inputs, targets, size in [(encoded([1]), encoded([1, 1]), 2), (encoded([]), encoded([]), 2)]:
        with pytest.raises(ValueError, match="expected as many targets as inputs"):
            TrainBatches(inputs, targets, size, 0)


# --- scoring ---------------------------------------------------------------------------------------------------------


def flat(tokens: int, outputs: int = 0, row_multiple: int = 1) -> Budget:
    """As many output positions a row, whatever its length."""
    return Budget(tokens, lambda length: outputs, row_multiple)


def cost(batches: list[ScoringBatch]) -> int:
    return sum(batch.row_count * batch.length for batch in batches)


def positions(n: int, length: int, tokens: int, outputs: int, row_multiple: int) -> int:
    """Input positions of n rows padded to one length, by trying every number of batches, and of rows in each."""
    for batches in range(1, n + 1):
        for rows in range(row_multiple, n + row_multiple, row_multiple):
            fits = rows == row_multiple or rows * (length + outputs) <= tokens
            if fits and batches * rows >= n:
                return batches * rows * length
    raise AssertionError("one multiple of rows always fits")


def least_cost(lengths: list[int], tokens: int, outputs: int, row_multiple: int, buckets: int) -> int:
    """By trying every set of at most `buckets` lengths."""
    *others, longest = sorted(set(lengths))
    totals = []
    for chosen in itertools.chain.from_iterable(itertools.combinations(others, k) for k in range(buckets)):
        held = Counter(min(c for c in (*chosen, longest) if c >= length) for length in lengths)
        totals.append(sum(positions(n, length, tokens, outputs, row_multiple) for length, n in held.items()))
    return min(totals)


budgets = {
    "tokens": st.integers(1, 300),
    "outputs": st.integers(0, 30),
    "row_multiple": st.sampled_from([1, 2, 3, 8]),
    "buckets": st.integers(1, 8),
}


@settings(max_examples=300, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=200), **budgets)
def test_scoring_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], tokens: int, outputs: int, row_multiple: int, buckets: int
) -> None:
    array = np.array(lengths)
    batches = scoring_batches(array, flat(tokens, outputs, row_multiple), buckets)
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(len(lengths)))
    assert len({(batch.row_count, batch.length) for batch in batches}) <= buckets
    assert [batch.length for batch in batches] == sorted(batch.length for batch in batches)
    for before, batch in itertools.pairwise([None, *batches]):
        assert 0 < len(batch.rows) <= batch.row_count and array[batch.rows].max() <= batch.length
        assert batch.row_count % row_multiple == 0
        assert batch.row_count * (batch.length + outputs) <= tokens or batch.row_count == row_multiple
        if before is not None and before.length == batch.length:  # of one length only the first may be short
            assert before.row_count == batch.row_count == len(batch.rows)
    assert padding_share(array, batches) == pytest.approx(1 - array.sum() / cost(batches))


@settings(max_examples=300, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), **budgets)
def test_scoring_batches_have_the_least_padding(
    lengths: list[int], tokens: int, outputs: int, row_multiple: int, buckets: int
) -> None:
    plan = scoring_batches(np.array(lengths), flat(tokens, outputs, row_multiple), buckets)
    assert cost(plan) == least_cost(lengths, tokens, outputs, row_multiple, buckets)


def test_scoring_batches_at_the_edges() -> None:
    [(rows, length, row_count)] = scoring_batches(np.array([5]), flat(1000), 6)
    assert (rows.tolist(), length, row_count) == ([0], 5, 1)
    [(rows, length, row_count)] = scoring_batches(np.array([5, 2, 5]), flat(1000), 1)
    assert (rows.tolist(), length, row_count) == ([1, 0, 2], 5, 3)
    same = scoring_batches(np.full(130, 9), flat(64 * 9), 6)
    assert [(len(rows), length, row_count) for rows, length, row_count in same] == [
        (42, 9, 44),
        (44, 9, 44),
        (44, 9, 44),
    ]
    assert np.concatenate([batch.rows for batch in same]).tolist() == list(range(130))  # stable
    assert scoring_batches(np.array([], np.int64), flat(1000), 6) == []
    assert padding_share(np.array([], np.int64), []) == 0.0
    with pytest.raises(ValueError, match="expected 1 or more"):
        scoring_batches(np.array([5]), flat(1000), 0)


def test_a_row_longer_than_the_budget_goes_alone() -> None:
    lengths = np.array([3, 90, 4, 80, 3])
    batches = scoring_batches(lengths, flat(20, outputs=2), 3)
    assert [(batch.rows.tolist(), batch.row_count) for batch in batches] == [([0, 4, 2], 3), ([3], 1), ([1], 1)]
    shared = scoring_batches(lengths, flat(20, outputs=2, row_multiple=4), 3)  # by four devices
    assert [(batch.rows.tolist(), batch.row_count) for batch in shared] == [([0, 4], 4), ([2, 3, 1], 4)]


def test_few_rows_are_not_filled_up_to_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(5, 20, 20)
    [batch] = plan_batches(Infer(), lengths, flat(32768))  # nor cut for a compilation each
    assert batch.row_count == 20 and batch.length == lengths.max()


def test_very_long_texts_are_planned_in_good_time() -> None:
    lengths = np.random.default_rng(0).integers(1, 20_000, 5000)
    batches = scoring_batches(lengths, flat(65536), 8)
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(5000))
    assert all(lengths[batch.rows].max() <= batch.length <= lengths.max() for batch in batches)
    assert padding_share(lengths, batches) < 0.12  # 8 lengths of uniform ones leave 1/9


def test_little_of_the_demo_is_padding() -> None:
    demo = Dataset(name="demo", classes={"negative": "negative", "positive": "positive"})
    train, test = load_split(demo, "train"), load_split(demo, "test")
    lengths = Vocabulary.train([*train.inputs, *train.targets], 512).encode(test.inputs, 64).lengths
    assert padding_share(lengths, scoring_batches(lengths, flat(32768, 8), 6)) < 0.15


@pytest.mark.slow
@pytest.mark.skipif(SHARED is None, reason="needs EDGEWISE_SHARED, the folder of real text")
def test_little_of_sst2_is_padding() -> None:
    sst2 = Dataset(name="sst2", path=str(SHARED / "sst2"), classes={0: "negative", 1: "positive"})
    test = load_split(sst2, "test")
    assert len(test) == 1821
    lengths = Vocabulary.from_file(SHARED / "t5/spiece.model").encode(test.inputs, 512).lengths
    assert padding_share(lengths, scoring_batches(lengths, flat(32768, 4), 8)) < 0.15
