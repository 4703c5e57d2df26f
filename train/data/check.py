"""Checks a dataset's config before anything is read."""

from typing import Any

from conf.errors import EdgewiseError
from conf.names import checked_name
from conf.schema import PLAIN_TEXT, Dataset
from metrics.rows import ENDINGS, listed
from train.data.origins import is_generated
from train.data.template import template_fields


def check_dataset(dataset: Dataset) -> None:
    """Raises EdgewiseError for a config that can't be used: a bad name, no place to read from, or bad classes."""
    checked_name("dataset.name", dataset.name)
    if dataset.task == PLAIN_TEXT:
        template_fields(dataset.template)
        if dataset.path is None:
            raise EdgewiseError(
                f"dataset={dataset.name}: nothing to read from. Give dataset.path=DIR, a folder with files of text, or "
                "one such file"
            )
        return
    if dataset.path is None and dataset.hub_id is None and not is_generated(dataset):
        columns = listed([*template_fields(dataset.template), dataset.label_column])
        raise EdgewiseError(
            f"dataset={dataset.name}: nothing to read from. Give dataset.path=DIR, a folder with train and test files "
            f"({', '.join('.' + ending for ending in ENDINGS)}) that have the columns {columns}. "
            "`python -m conf.init DIR` writes the config of such files"
        )
    if dataset.task == "classification":
        target_strings(dataset)


def target_strings(dataset: Dataset) -> dict[str, str]:
    """Returns the target string of each label, the labels as text, in the order of `dataset.classes`.

    Raises EdgewiseError for fewer than two classes, and unless labels and target strings are distinct.
    """
    if len(dataset.classes) < 2:
        raise EdgewiseError(
            f"dataset.classes={dict(dataset.classes)}: expected two classes or more, each as label: target string"
        )
    target_of: dict[str, str] = {}
    label_of: dict[str, Any] = {}
    for label, target in dataset.classes.items():
        words = " ".join(str(target).split())  # as the tokenizer sees it
        if not words:
            raise EdgewiseError(f"dataset.classes: label {label!r} has an empty target string; give it a word to say")
        if words in label_of:
            raise EdgewiseError(
                f"dataset.classes: labels {label_of[words]!r} and {label!r} have the same target string {words!r}; "
                "give each class its own"
            )
        if str(label) in target_of:
            raise EdgewiseError(f"dataset.classes: label {str(label)!r} is there twice; labels are compared as text")
        label_of[words] = label
        target_of[str(label)] = str(target)
    return target_of
