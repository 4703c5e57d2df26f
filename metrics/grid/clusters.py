"""Finds which examples are drawn together because they are not independent, such as the questions of one article."""

from collections.abc import Mapping

import numpy as np

from conf.errors import EdgewiseError
from metrics.scores import Strings

AUTO, NONE = "auto", "none"
FEW = 20  # clusters: with fewer, an interval of their means is wide or misses more often than it says


class ClusterError(EdgewiseError):
    """Says why the examples can't be drawn by the column that `metrics.cluster` names."""


def numbered_clusters(
    name: str, cluster: Strings | None, slices: Mapping[str, Strings], dataset: str, notes: list[str]
) -> np.ndarray | None:
    """Numbers the clusters of the column that `metrics.cluster` names: [n] int, 0 … G - 1; None where there are none.

    `auto` takes the scores' column `cluster` where they have one with two values or more, `none` no column. An example
    without a value is a cluster by itself. What is drawn, and which column was passed over, is appended to `notes`.
    Raises ClusterError for a column that the scores don't have, or that has one value only.
    """
    if name == NONE or (name == AUTO and cluster is None):
        return None
    columns = {**({"cluster": cluster} if cluster is not None else {}), **slices}
    column = cluster if name == AUTO else columns.get(name)
    if column is None:
        raise ClusterError(
            f"metrics.cluster={name}: the scores of {dataset} have no such column; expected "
            f"{', '.join([*columns, AUTO, NONE])}"
        )
    codes = column.codes.astype(np.int64)
    alone = np.flatnonzero(codes < 0)
    codes[alone] = len(column.values) + np.arange(len(alone))
    numbers: np.ndarray = np.unique(codes, return_inverse=True)[1].astype(np.int32)
    count = int(numbers.max()) + 1
    shown = "cluster" if name == AUTO else name
    if count < 2:
        if name != AUTO:
            raise ClusterError(
                f"metrics.cluster={name}: all examples of {dataset} have one value; expected a column that parts them "
                "into clusters, as nothing is known of how one cluster alone would differ from others"
            )
        notes.append("All examples have one value of cluster: intervals draw examples by themselves.")
        return None
    if count == len(numbers):
        return None  # each example is a cluster by itself
    notes.append(
        f"Intervals draw the {count:,} clusters of {shown}, not single examples"
        f"{', and so few tell little of others' if count < FEW else ''}."
    )
    return numbers
