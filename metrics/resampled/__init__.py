"""Multi-bootstrap samples of every statistic of a grid: Tables 1-3, mean curves, slices and Figures 2, 3 and 6.

Each class holds one family of statistics, B samples of each. Means over runs weigh each run by how often the resample
drew its seed. `switchers.py` has what follows a small run's order of deferral, `groups.py` the rest.
"""

from metrics.resampled.groups import (
    ChurnSamples,
    DrawnPairs,
    GroupSamples,
    OutcomeSamples,
    disagreement_samples,
    quality_samples,
)
from metrics.resampled.switchers import RunSamples, SwitcherSamples, switcher_samples

__all__ = [
    "ChurnSamples",
    "DrawnPairs",
    "GroupSamples",
    "OutcomeSamples",
    "RunSamples",
    "SwitcherSamples",
    "disagreement_samples",
    "quality_samples",
    "switcher_samples",
]
