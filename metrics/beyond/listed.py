"""Lists every table past the paper's, in the order to show them in."""

from typing import Any

from metrics.beyond.certified import CERTIFIED, CERTIFIED_RUNS
from metrics.beyond.comparison import SCORE_COMPARISON
from metrics.beyond.cost import COST
from metrics.beyond.ensemble import ENSEMBLES
from metrics.beyond.least_share import LEAST_SHARE
from metrics.beyond.peak import HELD_OUT_PEAK
from metrics.beyond.post_hoc import POST_HOC
from metrics.beyond.quality import DEFERRAL_QUALITY
from metrics.beyond.selective import SELECTIVE, SELECTIVE_RUNS
from metrics.beyond.subgroups import SUBGROUPS
from metrics.beyond.table import BeyondTable
from metrics.beyond.tokens import TOKEN_QUANTILES

BEYOND_TABLES: tuple[BeyondTable[Any], ...] = (
    DEFERRAL_QUALITY,
    LEAST_SHARE,
    SCORE_COMPARISON,
    HELD_OUT_PEAK,
    CERTIFIED,
    CERTIFIED_RUNS,
    COST,
    ENSEMBLES,
    POST_HOC,
    TOKEN_QUANTILES,
    SELECTIVE,
    SELECTIVE_RUNS,
    SUBGROUPS,
)
