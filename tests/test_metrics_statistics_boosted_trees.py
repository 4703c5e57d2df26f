"""Boosted trees, column by column: the same numbers as scikit-learn's own prediction, and its own where they differ."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from metrics.statistics.boosted_trees import ColumnPredictor


def fitted(inputs, values, leaves=4):
    return HistGradientBoostingRegressor(
        max_iter=15, max_leaf_nodes=leaves, min_samples_leaf=10, early_stopping=False, random_state=0
    ).fit(inputs, values)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(600, 4)).astype(np.float32).round(1)  # values on the thresholds' either side and ties
    return inputs, inputs[:, 0] * (inputs[:, 1] > 0) + rng.normal(size=600)


@pytest.mark.parametrize("leaves", [2, 4, 9, 31])
def test_predictions_are_the_trees_own(data, leaves):
    inputs, values = data
    trees = fitted(inputs, values, leaves)
    many = np.random.default_rng(1).normal(size=(20_000, 4)).astype(np.float32).round(1)
    np.testing.assert_array_equal(ColumnPredictor(trees).predict(many), trees.predict(many))


def test_trees_without_a_split_predict_their_one_value(data):
    inputs, values = data
    trees = fitted(inputs, np.zeros_like(values))
    np.testing.assert_array_equal(ColumnPredictor(trees).predict(inputs), trees.predict(inputs))


def test_missing_inputs_are_left_to_the_trees(data):
    inputs, values = data
    trees = fitted(inputs, values)
    missing = inputs.copy()
    missing[5, 0] = np.nan
    np.testing.assert_array_equal(ColumnPredictor(trees).predict(missing), trees.predict(missing))


def test_other_insides_of_scikit_learn_fall_back_on_its_own_prediction(data):
    class Other:
        """Predicts without the insides that are known."""

        def predict(self, inputs):
            return inputs[:, 0].astype(float)

    inputs, _ = data
    np.testing.assert_array_equal(ColumnPredictor(Other()).predict(inputs), inputs[:, 0].astype(float))
