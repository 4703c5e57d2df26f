"""Keeps a dataset's config in the store's folder of configs, so that later commands find it by the dataset's name."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from conf.dataset_file import CONF, configs_of_store, dataset_yaml, file_of_dataset, name_alone, store_of
from conf.errors import EdgewiseError
from conf.names import checked_name, joined_name
from conf.schema import Dataset, Recipe
from tracking.files import written_whole
from tracking.interface import RunRecord, Tracker

COMMENT = (
    "The dataset as it was last trained in this store: `dataset={name}` and `dataset.name={name}` read it from here.\n"
    "Written by `python -m train`; may be deleted."
)
RECOVERED = (
    "The dataset as its last training in this store recorded it, without a path, which records don't hold: give\n"
    "dataset.path=DIR. Written by the first command that gave `dataset.name={name}` alone; may be deleted."
)
FIELD_OF = {"hub": "hub_id", "config": "hub_config", "revision": "hub_revision", "files": "hub_files"}
ROW_FIELDS = (
    *FIELD_OF.values(),
    "splits",
    "columns",
    "separator",
    "join_column",
    "drop_labels",
    "test_share",
    "split_seed",
    "split_by",
    "validation_share",
)


def remember_dataset(dataset: Dataset, root: Path) -> None:
    """Writes the dataset's config, its path made absolute, into the store's folder of configs.

    A dataset that the project has a file of, `conf/dataset/NAME.yaml`, is found there and not kept. Raises OSError.
    """
    if (CONF / "dataset" / f"{dataset.name}.yaml").is_file():
        return
    path = None if dataset.path is None else str(Path(dataset.path).expanduser().absolute())
    _write(dataclasses.replace(dataset, path=path), COMMENT, root)


def recover_dataset(arguments: Sequence[str]) -> None:
    """Writes the config of a dataset that a command line names alone, where the store has its runs and not its config.

    So it is of a store that was brought from elsewhere, or that an earlier version wrote. The config is that of the
    last finished training, and has no path: no record holds one. Does nothing where there is no such training.
    """
    name = name_alone(arguments)
    root = store_of(arguments)
    if name is None or file_of_dataset(name, root) is not None or not Path(root).is_dir():
        return
    from tracking.store import Store

    with suppress(EdgewiseError):  # a store or a name that can't be used: whoever opens or checks it says so
        store = Store(root, create=False)
        try:
            dataset = recorded_dataset(checked_name("dataset.name", name), store)
        finally:
            store.close()
        if dataset is not None:
            _write(dataset, RECOVERED, Path(root))


def recorded_dataset(name: str, tracker: Tracker) -> Dataset | None:
    """Returns a dataset's config as the last finished training recorded it, without paths; None where there is none."""
    runs = tracker.runs(job_type="train", state="finished")
    for run in reversed(runs):
        recorded = run.config.get("dataset")
        if isinstance(recorded, dict) and recorded.get("name") == name and "template" in recorded:
            return Dataset(**_of_run(run, recorded), **_of_data(name, recorded.get("source"), tracker))
    return None


def _of_run(run: RunRecord, recorded: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that a training's identity holds: how rows become text, and the recipe."""
    kept = ("name", "task", "label_column", "template", "max_input_length", "max_target_length")
    fields = {key: recorded[key] for key in kept if key in recorded}
    classes = recorded.get("classes")
    parts = ("tokenizer", "train", "optimizer")
    recipe = {key: value for part in parts for key, value in run.config.get(part, {}).items()}
    if "name" in recipe:
        recipe["optimizer"] = recipe["name"]
    names = {field.name for field in dataclasses.fields(Recipe)}
    return fields | {
        "classes": None if classes is None else {str(label): target for label, target in classes},
        "recipe": Recipe(**{key: value for key, value in recipe.items() if key in names}),
    }


def _of_data(name: str, source: Any, tracker: Tracker) -> dict[str, Any]:
    """Returns the fields that the data artifact with this source holds: which rows there are, and where from."""
    for artifact in tracker.artifacts(joined_name("data", name), type="data"):
        if artifact.metadata.get("source") == source:
            came_from = artifact.metadata.get("from", {})
            fields = {FIELD_OF.get(key, key): value for key, value in came_from.items()}
            return {key: value for key, value in fields.items() if key in ROW_FIELDS}
    return {}


def _write(dataset: Dataset, comment: str, root: Path) -> None:
    """Writes a dataset's file into the store's folder of configs, unless it holds just that."""
    text = dataset_yaml(dataset, comment.format(name=dataset.name))
    file = configs_of_store(root) / "dataset" / f"{dataset.name}.yaml"
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return
    with written_whole(file) as partial:
        partial.write_text(text, encoding="utf-8")
