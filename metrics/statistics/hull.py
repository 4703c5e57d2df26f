"""Measures the area under the non-decreasing hull of quality against cost: RouterBench's AIQ, before its division.

Any two routers can be mixed at random, so that every point on the line between two points of (cost, quality) can be
had, and a dearer point that is worse need not be chosen: what a set of points offers is its concave, non-decreasing
majorant (Hu et al. 2024, arXiv 2403.12031, section 3).
"""

import numpy as np


def hull_area(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Returns the area under the non-decreasing hull of points, from the least cost to the greatest.

    From costs [P], ascending, and qualities [P, B] of B sets of points to areas [B]. Walks along each hull from its
    first vertex: the next is the point to which the line is steepest; where none rises the hull stays level.
    """
    count, sets = quality.shape
    area = np.zeros(sets)
    # of several points of the least cost the hull begins at the best
    first = cost <= cost[0]
    at = np.where(first[:, None], quality, -np.inf).argmax(axis=0)
    columns = np.arange(sets)
    walking = np.ones(sets, dtype=bool)
    for _ in range(count):
        here, height = cost[at], quality[at, columns]
        ahead = cost[:, None] > here
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(ahead, (quality - height) / (cost[:, None] - here), -np.inf)
        # of the points on the steepest line the last, so that a straight piece is one step
        after = count - 1 - slope[::-1].argmax(axis=0)
        steepest = slope[after, columns]
        rises = walking & (steepest > 0)
        level = walking & ~rises
        area[level] += (cost[-1] - here[level]) * height[level]
        area[rises] += ((cost[after] - here) * (height + quality[after, columns]) / 2)[rises]
        walking = rises
        at = np.where(rises, after, at)
        if not walking.any():
            break
    return area
