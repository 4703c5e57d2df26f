"""A dataset whose config the store does not have is recovered from the records of its training, but for its path."""

import dataclasses
import functools

from conf.schema import Dataset, Recipe
from train.data.remember import recorded_dataset, recover_dataset, remember_dataset

OWN = Dataset(
    name="own",
    path="/data",
    classes={"1": "good", "0": "bad"},
    label_column="verdict",
    template="{review}",
    max_input_length=40,
    columns={"body": "review"},
    separator=";",
    test_share=0.2,
    recipe=Recipe(steps=2, batch_size=4, learning_rate=0.01),
)


def trained(tracker, tmp_path, compose, dataset):
    """Logs what training records of a dataset, by the functions by which it does."""
    from train.cell_data import log_data
    from train.data.source import Source
    from train.identity import training_identity

    folder = tmp_path / dataset.name
    folder.mkdir()
    rows = [f"some words number {i};{i % 2}" for i in range(40)]
    (folder / "all.csv").write_text("\n".join(["body;verdict", *rows]))
    dataset = dataclasses.replace(dataset, path=str(folder))
    config = dataclasses.replace(compose("train.steps=2", "train.batch_size=4"), dataset=dataset)
    config.optimizer.learning_rate = 0.01
    log_data(Source(dataset).record(), tracker)
    with tracker.start_run(f"train-{dataset.name}", job_type="train", config=training_identity(config)):
        pass


def test_the_records_have_all_but_the_path(tracker, tmp_path, compose) -> None:
    trained(tracker, tmp_path, compose, dataclasses.replace(OWN, name="other", classes={"0": "x", "1": "y"}))
    trained(tracker, tmp_path, compose, OWN)
    found = recorded_dataset("own", tracker)
    assert found is not None and list(found.classes) == ["1", "0"]
    expected = dataclasses.replace(OWN, path=None)
    assert (found.recipe.steps, found.recipe.batch_size, found.recipe.learning_rate) == (2, 4, 0.01)
    assert dataclasses.replace(found, recipe=OWN.recipe) == expected
    assert recorded_dataset("gone", tracker) is None


def test_the_recipe_is_recovered_whole(tracker, tmp_path, compose) -> None:
    recipe = Recipe(
        steps=2,
        batch_size=4,
        optimizer="adamw",
        b2=0.98,
        weight_decay=0.1,
        token_dropout=0.5,
        min_token_count=2,
        vocabulary_size=300,
        lower_case=True,
        whole_labels=True,
        model_type="word",
        softmax="labels",
    )
    given = [f"dataset.recipe.{key}={value}" for key, value in vars(recipe).items()]
    trained(tracker, tmp_path, functools.partial(compose, *given), OWN)
    found = recorded_dataset("own", tracker)
    assert found is not None and dataclasses.replace(found.recipe, learning_rate=0.001) == recipe


def test_it_is_written_where_there_is_none(tracker, tmp_path, compose) -> None:
    trained(tracker, tmp_path, compose, OWN)
    file = tracker.root / "conf/dataset/own.yaml"
    root = f"tracking.root={tracker.root}"
    for arguments in (["dataset.name=gone", root], ["dataset.name=own", "dataset=demo", root], ["dataset.name=own"]):
        recover_dataset(arguments)
        assert not file.exists()
    recover_dataset(["dataset.name=own", root])
    written = file.read_text()
    assert "path:" not in written and 'template: "{review}"' in written and "give\n# dataset.path=DIR" in written
    remember_dataset(OWN, tracker.root)
    recover_dataset(["dataset.name=own", root])
    assert 'path: "/data"' in file.read_text()  # what training kept stays


def test_a_store_that_can_t_be_read_is_left_to_the_command(tmp_path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/store.db").write_text("no database")
    recover_dataset(["dataset.name=own", f"tracking.root={tmp_path / 'runs'}"])
    recover_dataset(["dataset.name=../own", f"tracking.root={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs/conf").exists()
