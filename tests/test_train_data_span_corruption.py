import numpy as np
import pytest

from conf.errors import EdgewiseError
from train.data.span_corruption import corrupted, corrupted_rows, fullest_row, noise_mask, span_counts
from train.data.tokens import EOS, Vocabulary

TEXT = ["good and bad films", "a fine film", "an awful film"]
SENTINELS = np.arange(1099, 999, -1)


def spans_of(mask):
    """The lengths of a mask's spans, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def test_the_row_of_512_positions_is_t5s():
    counts = fullest_row(512, 0.15, 3.0)
    assert (counts.tokens, counts.noise_tokens, counts.spans) == (568, 85, 28)
    assert counts.input_length == 512
    assert counts.target_length == 115  # T5's code has 114: without the last sentinel


@pytest.mark.parametrize("input_length", [4, 16, 64, 128, 500, 700])
@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 8.0), (0.3, 20.0)])
def test_no_longer_row_fits(input_length, density, mean):
    counts = fullest_row(input_length, density, mean)
    assert counts.input_length <= input_length
    longer = [span_counts(tokens, density, mean) for tokens in range(counts.tokens + 1, counts.tokens + 20)]
    assert all(further.input_length > input_length for further in longer)


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 1.0), (0.9, 2.0), (0.01, 3.0)])
@pytest.mark.parametrize("tokens", [2, 3, 10, 100, 568])
def test_counts_and_masks_follow_the_definition(tokens, density, mean):
    counts = span_counts(tokens, density, mean)
    assert counts.noise_tokens == min(max(round(tokens * density), 1), tokens - 1)
    for seed in range(5):
        mask = noise_mask(counts, np.random.default_rng(seed))
        assert mask.shape == (tokens,)
        assert mask.sum() == counts.noise_tokens
        assert not mask[0] and mask[-1]  # a kept piece comes first, a span last
        spans = spans_of(mask)
        assert len(spans) == counts.spans and spans.min() >= 1


def test_share_and_mean_length_of_t5s_setting():
    counts = span_counts(568, 0.15, 3.0)
    masks = [noise_mask(counts, np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean(masks) == pytest.approx(0.15, abs=0.5 / 568)
    assert np.mean(np.concatenate([spans_of(mask) for mask in masks])) == pytest.approx(85 / 28)


def test_every_cut_is_as_likely_as_any_other():
    counts = span_counts(8, 0.5, 2.0)  # 4 kept and 4 taken tokens, each in 2 pieces: 1+3, 2+2 or 3+1
    masks = np.stack([noise_mask(counts, np.random.default_rng([7, draw])) for draw in range(3000)])
    found, drawn = np.unique(masks, axis=0, return_counts=True)
    assert len(found) == 9
    expected = 3000 / 9
    assert ((drawn - expected) ** 2 / expected).sum() < 26.1  # chi-squared, 8 degrees of freedom: p = 0.001


def test_the_papers_example():
    # Figure 2 of Raffel et al. 2020: Thank you <X> me to your party <Y> week; <X> for inviting <Y> last <Z>
    tokens = np.array([[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]])  # thank you for inviting me to your party last week
    mask = np.isin(tokens, [12, 13, 18])
    inputs, targets = corrupted(tokens, mask, SENTINELS)
    assert inputs.tolist() == [[10, 11, 1099, 14, 15, 16, 17, 1098, 19, EOS]]
    assert targets.tolist() == [[1099, 12, 13, 1098, 18, 1097, EOS]]
    assert inputs.dtype == targets.dtype == np.int32


def test_a_row_can_be_put_together_again():
    counts = fullest_row(128, 0.15, 3.0)
    tokens = np.random.default_rng(0).integers(3, 1000, (6, counts.tokens))
    numbers = np.arange(6)
    inputs, targets = corrupted_rows(tokens, numbers, 5, np.zeros(6, int), counts, SENTINELS)
    assert inputs.shape == (6, counts.input_length) and targets.shape == (6, counts.target_length)
    for row, given, wanted in zip(tokens, inputs.tolist(), targets.tolist(), strict=True):
        assert given[-1] == wanted[-1] == EOS
        in_input, in_target = ([i for i in ids if i >= 1000] for ids in (given, wanted))
        assert in_input == SENTINELS[: counts.spans].tolist()  # descending from <extra_id_0>
        assert in_target == SENTINELS[: counts.spans + 1].tolist()
        spans, current = {}, None
        for token in wanted[:-1]:
            if token >= 1000:
                spans[token] = current = []
            else:
                current.append(token)
        whole = [piece for token in given[:-1] for piece in spans.get(token, [token])]
        assert whole == row.tolist()


def test_spans_follow_from_seed_epoch_and_row_alone():
    counts = fullest_row(64, 0.15, 3.0)
    tokens = np.random.default_rng(0).integers(3, 1000, (4, counts.tokens))

    def made(rows, seed, epoch):
        return corrupted_rows(tokens[rows], np.array(rows), seed, np.full(len(rows), epoch), counts, SENTINELS)[0]

    whole = made([0, 1, 2, 3], 1, 0)
    np.testing.assert_array_equal(made([3, 1], 1, 0), whole[[3, 1]])
    assert (made([0, 1, 2, 3], 1, 1) != whole).any(axis=1).all()
    assert (made([0, 1, 2, 3], 2, 0) != whole).any(axis=1).all()


def test_rows_that_cannot_be_are_refused():
    with pytest.raises(EdgewiseError, match="dataset.max_input_length=2"):
        fullest_row(2, 0.15, 3.0)
    with pytest.raises(EdgewiseError, match="more; expected at most 100"):
        fullest_row(2048, 0.15, 3.0)


def test_sentinels_are_the_ids_after_the_pieces_descending():
    vocabulary = Vocabulary.train(TEXT, 40)
    sentinels = vocabulary.sentinels
    assert sentinels.tolist() == list(range(vocabulary.size + 99, vocabulary.size - 1, -1))
    assert vocabulary.size_with_sentinels == vocabulary.size + 100
    assert vocabulary.decode([*vocabulary.encode(["a film"], 10)[0][:-1], sentinels[0]]) == "a film"
