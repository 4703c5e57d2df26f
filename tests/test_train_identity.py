"""Names of cells, and of the runs and artifacts that belong to them."""

import pytest

from infer.identity import find_model, finished_scores, infer_run_id
from metrics.stage import scores_artifacts
from tests.training import config_in, train_here
from tracking.store import Store
from train.identity import cell_name, train_run_id, training_identity

CELLS = [("a", "b-c", "a-b--c-s0"), ("a-b", "c", "a--b-c-s0")]  # both once were a-b-c-s0


@pytest.fixture
def configs(compose, tmp_path):
    """The two cells, in one store, each with the rows of its own dataset."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        rows = "".join(f"{'good' if i % 2 else 'bad'} thing {i},{i % 2}\n" for i in range(40))
        (folder / f"{split}.csv").write_text(f"text,label\n{rows}")
    return [
        config_in(
            compose,
            tmp_path / "runs",
            "dataset=text_classification",
            f"dataset.path={folder}",
            f"dataset.name={dataset}",
            'dataset.classes={0: "no", 1: "yes"}',
            f"size.name={size}",
            "train.steps=1",
            "train.eval_every=0",
        )
        for dataset, size, _ in CELLS
    ]


def test_cells_with_hyphens_are_told_apart(configs, tmp_path):
    """From the model to the scores; where the names were one, the second cell replaced the first."""
    from infer.scoring import score

    store = Store(tmp_path / "runs")
    assert [cell_name(config) for config in configs] == [name for *_, name in CELLS]
    for config in configs:
        train_here(config)
    for config, (dataset, size, name) in zip(configs, CELLS):
        source = find_model(config, store)
        assert source.artifact.name == f"model-{name}" and source.artifact.version == 0
        score(config, store, source)
        scores = finished_scores(config, store, source.digest)
        assert (scores.name, scores.version) == (f"scores-{name}-test", 0)
        assert (scores.metadata["dataset"], scores.metadata["size"]) == (dataset, size)
        assert [one.ref for one in scores_artifacts(store, dataset, "test")] == [scores.ref]
    assert {artifact.name for artifact in store.artifacts("data-*")} == {"data-a", "data-a--b"}


def test_what_another_optimizer_reads_is_no_part_of_an_identity(compose):
    adafactor, adamw = ("dataset=demo", "size=nano"), ("dataset=demo", "size=nano", "optimizer.name=adamw")
    of = lambda *overrides: train_run_id(compose(*overrides))  # noqa: E731
    assert of(*adafactor, "optimizer.b1=0.8") == of(*adafactor) != of(*adafactor, "optimizer.clipping_threshold=2")
    assert of(*adamw, "optimizer.clipping_threshold=2") == of(*adamw) != of(*adamw, "optimizer.b1=0.8")


def test_names_without_hyphens_are_what_they_were(compose):
    config = compose("dataset=demo", "size=nano", "seed=3")
    assert cell_name(config) == "demo-nano-s3"
    assert train_run_id(config).startswith("train-demo-nano-s3-")
    assert infer_run_id(config, "0" * 32).startswith("infer-demo-nano-s3-test-")


def test_keys_that_say_nothing_are_not_part_of_a_cell(compose):
    plain = training_identity(compose())
    assert not {"token_dropout", "min_token_count"} & set(plain["train"])
    assert not {"embedding_stddev", "neighbour_heads"} & set(plain["size"])
    other = training_identity(compose("train.token_dropout=0.2", "size.embedding_stddev=0.03"))
    assert (other["train"]["token_dropout"], other["size"]["embedding_stddev"]) == (0.2, 0.03)


def test_a_vocabulary_without_capital_letters_is_another_cell(compose):
    plain, folded = (training_identity(compose("dataset=demo", *more)) for more in ((), ("tokenizer.lower_case=true",)))
    assert "lower_case" not in plain["tokenizer"] and folded["tokenizer"]["lower_case"] is True
    assert {**folded, "tokenizer": plain["tokenizer"]} == plain


def test_a_vocabulary_of_words_is_another_cell(compose):
    plain, words = (
        training_identity(compose("dataset=demo", f"tokenizer.model_type={name}")) for name in ("bpe", "word")
    )
    assert plain == training_identity(compose("dataset=demo"))
    assert words["tokenizer"].pop("model_type") == "word" and words == plain


def test_a_vocabulary_with_whole_labels_is_another_cell(compose):
    plain, whole = (
        training_identity(compose("dataset=demo", *more)) for more in ((), ("tokenizer.whole_labels=true",))
    )
    assert "whole_labels" not in plain["tokenizer"] and whole["tokenizer"].pop("whole_labels") is True
    assert whole == plain


def test_the_recipe_s_defaults_are_those_of_t5x(compose):
    """A dataset whose recipe says nothing of the optimizer is trained as when there was Adafactor alone."""
    assert training_identity(compose("size=nano")) == training_identity(compose("size=nano", "optimizer=adafactor"))
