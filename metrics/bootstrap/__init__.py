"""Multi-bootstrap samples of every statistic of a grid: Tables 1-3, mean curves, slices and Figures 2, 3 and 6.

Each class holds one family of statistics, B samples of each. Means over runs weigh each run by how often the resample
drew its seed. `switchers.py` has what follows a small run's order of deferral, `groups.py` the rest.
"""

from metrics.bootstrap.group_samples import (
    ChurnSamples,
    DrawnPairs,
    GroupSamples,
    OutcomeSamples,
    disagreement_samples,
    quality_samples,
)
from metrics.bootstrap.switcher_samples import RunSamples, SwitcherSamples, switcher_samples

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
