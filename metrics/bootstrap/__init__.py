"""Computes multi-bootstrap samples of a grid's statistics: Tables 1-3, mean curves, slices and Figures 2, 3 and 6.

Each class or function computes one family of statistics, B samples of each. Means over runs weigh each run by how often
the resample drew its seed. `resampling.py` draws and sums; `switcher_samples.py` has the statistics of switchers;
`group_samples.py` has the others, of groups of examples and of churn; `threads.py` divides the work among threads.
"""

from metrics.bootstrap.group_samples import (
    DrawnPairs,
    GroupSamples,
    OutcomeSamples,
    churn_samples,
    disagreement_samples,
    quality_samples,
)
from metrics.bootstrap.switcher_samples import RunSamples, ScoreSamples, SwitcherSamples, switcher_samples

__all__ = [
    "DrawnPairs",
    "GroupSamples",
    "OutcomeSamples",
    "RunSamples",
    "ScoreSamples",
    "SwitcherSamples",
    "churn_samples",
    "disagreement_samples",
    "quality_samples",
    "switcher_samples",
]
