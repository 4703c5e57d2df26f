"""Keeps a dataset's config beside the store, so that later commands find it by the dataset's name."""

import dataclasses
from pathlib import Path

from conf.dataset_file import CONF, configs_of_store, dataset_yaml
from conf.schema import Dataset
from tracking.files import written_whole

COMMENT = (
    "The dataset as it was last trained in this store: `dataset={name}` and `dataset.name={name}` read it from here.\n"
    "Written by `python -m train`; may be deleted."
)


def remember_dataset(dataset: Dataset, root: Path) -> None:
    """Writes the dataset's config, its path made absolute, into the store's folder of configs.

    A dataset that the project has a file of, `conf/dataset/NAME.yaml`, is found there and not kept. Raises OSError.
    """
    if (CONF / "dataset" / f"{dataset.name}.yaml").is_file():
        return
    path = None if dataset.path is None else str(Path(dataset.path).expanduser().absolute())
    text = dataset_yaml(dataclasses.replace(dataset, path=path), COMMENT.format(name=dataset.name))
    file = configs_of_store(root) / "dataset" / f"{dataset.name}.yaml"
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return
    with written_whole(file) as partial:
        partial.write_text(text, encoding="utf-8")
