"""Predicts with scikit-learn's boosted trees column by column: several times faster for small trees and many examples.

`HistGradientBoostingRegressor.predict` follows each example through each tree. A tree of few leaves is cheaper to take
split by split, each a comparison of a whole column. The trees' nodes are no public part of scikit-learn, so its own
prediction of some examples is compared first, and used for all where the two differ in a bit.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

_EXAMPLES_AT_A_TIME = 1 << 14  # so that a column and its results fit a core's cache
_COMPARED = 64  # examples, spread over all
_MOST_SPLITS_JOINED = 12  # of one table, whose 4,096 values then fit a core's cache


class ColumnPredictor:
    """Predicts what fitted trees do, bit for bit; they split numbers, not categories, and are summed in their order."""

    def __init__(self, trees: "HistGradientBoostingRegressor"):
        self._trees = trees
        self._tables: list[_TreeTable] = []  # none where the nodes are of another shape than is known here
        with suppress(AttributeError, KeyError, IndexError, TypeError, ValueError):
            nodes = [tree.nodes for (tree,) in trees._predictors]
            first = float(np.asarray(trees._baseline_prediction).item())
            self._tables = _with_first_trees_joined(first, [_TreeTable.of_nodes(one) for one in nodes])

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Returns what `trees.predict(inputs)` returns: inputs [m, F] float32 -> [m] float64."""
        compared = inputs[:: max(1, len(inputs) // _COMPARED)]
        same = (
            bool(self._tables)
            and not np.isnan(inputs).any()
            and np.array_equal(self._sums(compared), self._trees.predict(compared))
        )
        predicted: np.ndarray = self._sums(inputs) if same else self._trees.predict(inputs)
        return predicted

    def _sums(self, inputs: np.ndarray) -> np.ndarray:
        """Adds up the trees' values of inputs [m, F] without NaN: [m] float64."""
        result = np.empty(len(inputs))
        for start in range(0, len(inputs), _EXAMPLES_AT_A_TIME):
            columns = np.ascontiguousarray(inputs[start : start + _EXAMPLES_AT_A_TIME].T)
            sums = result[start : start + columns.shape[1]]
            sums[:] = self._tables[0].values_of(columns)
            for table in self._tables[1:]:
                sums += table.values_of(columns)
        return result


@dataclass(frozen=True)
class _TreeTable:
    """Holds a tree, or the sum of a few, as a table of its values by which of its splits an example is below."""

    splits: list[tuple[int, np.float32]]  # (feature, threshold)
    values: np.ndarray  # [2 ** splits], at the number whose k-th bit says whether the example is below split k

    @classmethod
    def of_nodes(cls, nodes: np.ndarray) -> Self:
        """Returns the table of a tree with up to eight splits, from scikit-learn's nodes."""
        split_nodes = np.flatnonzero(nodes["is_leaf"] == 0)
        if len(split_nodes) > 8 or nodes["is_categorical"].any():
            raise ValueError("expected a tree of up to nine leaves that splits numbers")
        bit = {int(node): place for place, node in enumerate(split_nodes)}
        values = []
        for below in range(1 << len(split_nodes)):
            node = 0
            while node in bit:
                node = int(nodes["left" if below >> bit[node] & 1 else "right"][node])
            values.append(float(nodes["value"][node]))
        splits = [(int(nodes["feature_idx"][node]), _at_most(nodes["num_threshold"][node])) for node in split_nodes]
        return cls(splits, np.array(values))

    def values_of(self, columns: np.ndarray) -> np.ndarray:
        """Returns the tree's value of each example, [m], from its columns [F, m]."""
        place: np.ndarray = np.zeros(columns.shape[1], dtype=np.uint8 if len(self.splits) <= 8 else np.uint16)
        for feature, threshold in reversed(self.splits):  # the first split is the lowest bit
            place += place  # several times faster than a shift
            place += (columns[feature] <= threshold).view(np.uint8)
        return self.values.take(place.astype(np.intp))


def _with_first_trees_joined(first: float, tables: list[_TreeTable]) -> list[_TreeTable]:
    """Returns tables whose values add up to what `first` and the given ones do, bit for bit, of fewer tables.

    The first trees of a boosted fit mostly share their splits. As sums are taken from the first tree on, the sums over
    these can be computed once for each entry of one table; those over later trees depend on all that went before.
    """
    splits: list[tuple[int, np.float32]] = []
    joined = 0
    for table in tables:
        more = [split for split in dict.fromkeys(table.splits) if split not in splits]
        if len(splits) + len(more) > _MOST_SPLITS_JOINED:
            break
        splits += more
        joined += 1
    below = np.arange(1 << len(splits))
    sums = np.full(len(below), first)
    for table in tables[:joined]:
        place = np.zeros_like(below)
        for bit, split in enumerate(table.splits):
            place |= (below >> splits.index(split) & 1) << bit
        sums += table.values[place]
    return [_TreeTable(splits, sums), *tables[joined:]]


def _at_most(threshold: float) -> np.float32:
    """Returns the largest float32 that is not above a threshold: a float32 is below both or above both."""
    nearest = np.float32(threshold)
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf))
