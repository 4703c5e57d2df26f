"""The area under a non-decreasing hull: by hand, and against the largest of all lines between two points."""

import numpy as np
import pytest

from metrics.beyond.hull import quality_over_cost, without_switcher
from metrics.statistics.hull import hull_area
from metrics.statistics.switcher import FRACTIONS


def slow(cost, quality):
    """The majorant at 4,001 places: the highest of all points that are no dearer and of all lines that pass over."""
    places = np.linspace(cost[0], cost[-1], 4001)
    highest = np.full(len(places), -np.inf)
    for i in range(len(cost)):
        highest = np.maximum(highest, np.where(cost[i] <= places, quality[i], -np.inf))
        for k in range(len(cost)):
            if cost[k] > cost[i]:
                line = quality[i] + (quality[k] - quality[i]) * (places - cost[i]) / (cost[k] - cost[i])
                highest = np.maximum(highest, np.where((cost[i] <= places) & (places <= cost[k]), line, -np.inf))
    return np.trapezoid(np.maximum.accumulate(highest), places)


def test_by_hand():
    # up to 1 at half of the way, and level from there: the last point is worse
    assert hull_area(np.array([0.0, 0.5, 1.0]), np.array([[0.0], [1.0], [0.3]])) == pytest.approx(0.75)
    # a point below the line between its neighbours counts for nothing; falling all the way is level
    assert hull_area(np.array([0.0, 0.5, 1.0]), np.array([[0.0], [0.2], [1.0]])) == pytest.approx(0.5)
    assert hull_area(np.array([0.0, 0.5, 1.0]), np.array([[0.9], [0.5], [0.1]])) == pytest.approx(0.9)
    # of two points of one cost the better
    assert hull_area(np.array([0.0, 0.0, 1.0]), np.array([[0.2], [0.6], [1.0]])) == pytest.approx(0.8)


def test_against_all_lines():
    rng = np.random.default_rng(0)
    for points in (2, 3, 8, 25):
        cost = np.sort(rng.random(points))
        quality = rng.random((points, 6))
        quality[:, 0] = np.round(quality[:, 0], 1)  # several points on a line
        found = hull_area(cost, quality)
        for b in range(6):
            # an error of a step's width at each of a few corners
            assert found[b] == pytest.approx(slow(cost, quality[:, b]), abs=2e-3)


def test_quality_over_cost():
    curve = np.minimum(0.5 + FRACTIONS, 0.8)[:, None]  # 30 % deferred is all that helps
    assert without_switcher(curve) == pytest.approx(0.65)
    # from .2 on for .3 up to .8 and level: a trapezoid and a rectangle over the range of .8
    assert quality_over_cost(curve, 0.2, 0.2)[0] == pytest.approx((0.3 * 0.65 + 0.5 * 0.8) / 0.8)
    # a committee of five costs as much as the larger model: there is no switcher to have
    assert quality_over_cost(curve, 0.2, 1.01)[0] == pytest.approx(0.65)
    assert np.isnan(quality_over_cost(curve, 1.0, 1.0)).all()
    # a switcher that is worse than random hides behind the hull
    worse = (0.5 + 0.3 * FRACTIONS**2)[:, None]
    assert quality_over_cost(worse, 0.2, 0.2) == pytest.approx(without_switcher(worse))
