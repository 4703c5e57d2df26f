"""Makes the tables past the paper's: what else the same scores can tell.

`table.py` defines what such a table is, `listed.py` lists them all, `collect.py` gathers them while each size is
analysed. Each other module is a topic: `quality.py` compares with random and the perfect router; `comparison.py` one
score with another; `chance.py` puts Table 1 beside chance; `peak.py` finds held-out peaks; `certified.py` thresholds
with a guarantee; `cost.py` and `ensemble.py` count FLOPs; `post_hoc.py` learns whom to defer; `tokens.py` takes
quantiles of sequences' tokens; `selective.py` gives risk and coverage of each run; `subgroups.py` says where the larger
model helps; `interval_methods.py` how each interval is made.
"""

from metrics.beyond.collect import Collector, beyond_tables
from metrics.beyond.listed import BEYOND_TABLES

__all__ = ["BEYOND_TABLES", "Collector", "beyond_tables"]
