import jax
import numpy as np
import pytest

from conf.errors import EdgewiseError
from tests.training import config_in, train_here
from train.data.tokens import UNK, Encoded
from train.identity import training_identity
from train.loop import load_data
from train.model_artifact import load_model
from train.rare_tokens import as_unknown, rare_tokens, reads_as_unknown

INPUTS = [[5, 6, 5, 1], [6, 7, 5, 1], [8, 2, 1]]  # 5 thrice, 6 twice, 7 and 8 once
TARGETS = [[8, 1], [9, 1], [8, 1]]


def encoded(texts: list[list[int]]) -> Encoded:
    flat = np.array([piece for text in texts for piece in text], np.int32)
    return Encoded(flat, np.cumsum([0, *map(len, texts)]), 0)


@pytest.mark.parametrize(
    ("least", "expected"), [(1, [3, 4, 10]), (2, [3, 4, 7, 10]), (3, [3, 4, 6, 7, 10]), (4, [3, 4, 5, 6, 7, 10])]
)
def test_rare_are_the_ids_that_inputs_hardly_have(least: int, expected: list[int]) -> None:
    assert rare_tokens(encoded(INPUTS), encoded(TARGETS), least, 11).tolist() == expected


def test_unknown_stands_for_rare_ids() -> None:
    inputs = encoded(INPUTS)
    replaced = as_unknown(inputs, np.array([6, 7]))
    assert replaced.flat.tolist() == [5, 2, 5, 1, 2, 2, 5, 1, 8, 2, 1] and replaced.flat.dtype == np.int32
    assert replaced.lengths.tolist() == inputs.lengths.tolist()
    assert inputs.flat.tolist() == [5, 6, 5, 1, 6, 7, 5, 1, 8, 2, 1]


def test_rare_ids_get_the_embedding_of_unknown() -> None:
    table = jax.random.normal(jax.random.key(0), (6, 3))
    params = {"embedding": table, "encoder": {"x": table}}
    read = reads_as_unknown(params, np.array([3, 5]))
    expected = np.array(table)
    expected[[3, 5]] = expected[UNK]
    np.testing.assert_array_equal(read["embedding"], expected)
    assert read["embedding"].sharding == table.sharding and read["encoder"] is params["encoder"]
    np.testing.assert_array_equal(params["embedding"], table)


def test_a_model_reads_rare_tokens_as_unknown(compose, tmp_path) -> None:
    short = ("train.steps=2", "train.eval_every=1")
    config = config_in(compose, tmp_path / "runs", *short, "train.min_token_count=40")
    data, plain = load_data(config), load_data(config_in(compose, tmp_path / "runs", *short))
    assert plain.rare is None and data.rare is not None and 0 < len(data.rare) < data.vocabulary.size - 3
    assert np.isin(plain.inputs.flat, data.rare).any()
    assert not np.isin(data.inputs.flat, data.rare).any()
    assert data.summary()["rare_tokens"] == len(data.rare) and "rare_tokens" not in plain.summary()
    embedding = load_model(train_here(config), None).params["embedding"]
    is_unknown = (embedding == embedding[UNK]).all(axis=1)
    assert set(np.flatnonzero(is_unknown)) == {UNK, *data.rare}


def test_only_cells_with_rare_tokens_are_others(compose) -> None:
    plain, one, three = (training_identity(compose(*more)) for more in ((), (count(1),), (count(3),)))
    assert plain == one and three["train"].pop("min_token_count") == 3 and three == plain


def count(least: int) -> str:
    return f"train.min_token_count={least}"


def test_pre_training_refuses_rare_tokens(compose) -> None:
    with pytest.raises(EdgewiseError, match="min_token_count=3 train.objective=span_corruption: expected 1"):
        compose("train.objective=span_corruption", count(3))
