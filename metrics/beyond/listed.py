"""Lists every table past the paper's, in the order to show them in."""

from typing import Any

from metrics.beyond.certified import CERTIFIED, CERTIFIED_KEPT, CERTIFIED_RETRAINED, CERTIFIED_RUNS
from metrics.beyond.chains import CHAINS
from metrics.beyond.chance import CHANCE_PEAK
from metrics.beyond.class_quality import CLASS_QUALITY
from metrics.beyond.comparison import SCORE_COMPARISON
from metrics.beyond.cost import COST
from metrics.beyond.ensemble import ENSEMBLES
from metrics.beyond.hull import AIQ
from metrics.beyond.interval_methods import INTERVAL_METHODS
from metrics.beyond.least_share import LEAST_SHARE
from metrics.beyond.multiplicity import MULTIPLICITY
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
    CHANCE_PEAK,
    HELD_OUT_PEAK,
    CERTIFIED,
    CERTIFIED_RUNS,
    CERTIFIED_KEPT,
    CERTIFIED_RETRAINED,
    COST,
    AIQ,
    CHAINS,
    MULTIPLICITY,
    ENSEMBLES,
    POST_HOC,
    TOKEN_QUANTILES,
    SELECTIVE,
    SELECTIVE_RUNS,
    CLASS_QUALITY,
    SUBGROUPS,
    INTERVAL_METHODS,
)
