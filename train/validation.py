"""Says which split training is evaluated on, and refuses to choose by one that is not there. Starts without JAX."""

from collections.abc import Sequence

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Train
from train.data.notices import print_once

VALIDATION = "validation"


def evaluation_split(splits: Sequence[str], scored_split: str) -> str:
    """Returns which of a dataset's splits training is evaluated on: validation, or the scored one where it has none."""
    return VALIDATION if VALIDATION in splits else scored_split


def evaluation_rows(count: int, most: int) -> np.ndarray:
    """Returns which of a split's `count` rows are evaluated, rising int64: at most `most`, evenly spread.

    The first rows of a file may all be of one class.
    """
    taken = min(count, most)
    return np.arange(taken, dtype=np.int64) * count // max(taken, 1)


def chooses(train: Train) -> bool:
    """Tells whether evaluations decide which model a training ends with, and not its last step alone."""
    return train.keep != "last" or train.patience > 0


def check_validation(train: Train, dataset: str, splits: Sequence[str]) -> None:
    """Raises EdgewiseError where the evaluations decide and the dataset has no validation split among its `splits`."""
    if chooses(train) and VALIDATION not in splits:
        given = f"train.keep={train.keep}" if train.keep != "last" else f"train.patience={train.patience}"
        raise EdgewiseError(
            f"{given}: dataset={dataset} has no validation split to choose by, only {', '.join(splits)}. Put a file "
            "validation.csv (.tsv, .json, .jsonl, .parquet) beside train's, or name the source's split in "
            "dataset.splits={validation: NAME}; or give train.keep=last train.patience=0"
        )


def warn_of_no_validation(dataset: str, evaluated_split: str) -> None:
    """Prints, once a process, that the evaluations are not for choosing where they are of another split."""
    if evaluated_split != VALIDATION:
        print_once(
            f"note: {dataset}: training evaluates on {evaluated_split}, because there is no validation split: "
            "don't choose by it"
        )
