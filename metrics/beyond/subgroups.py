"""Tells in which subgroups the larger model helps or hurts, and what of that survives looking at all of them."""

import math

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.subgroups import SubgroupGain
from metrics.beyond.table import PAIR, QUALITY, BeyondTable, Observer, interval_entries, pair_entries
from metrics.grid.runs import Grid
from metrics.tables.table import Column, Row


class SubgroupGains(Observer):
    """Reads the gains from the analysis, in the config's context: sizes are as good in either."""

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self._notes: list[str] = []

    def observe(self, view: SizeView) -> None:
        """Keeps nothing, as the analysis has the gains."""

    def notes(self) -> list[str]:
        """Returns what the table lacks of this dataset, and which subgroups it leaves out."""
        return [*super().notes(), *self._notes]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, subgroup), in the config's context."""
        if analysis.context not in (None, self.config.context):
            return []
        self._notes = analysis.subgroups.notes
        return [_row(analysis, gain) for gain in analysis.subgroups.gains]


SUBGROUPS = BeyondTable(
    name="subgroups",
    title="Where the larger model helps and where it hurts, corrected for many subgroups",
    reading=(
        "The larger model's accuracy (translation: BLEU) minus the smaller's in each subgroup. The interval is of "
        "that subgroup alone, by Student's t (translation: with the variance of its resamples); the simultaneous one "
        "holds for all subgroups of a pair of sizes together (max-T, with their dependence from the resamples), and "
        "so do p and the verdict. With one run of a size nothing is known of other runs: there is no p, and the "
        "verdict is of these runs. Subgroups overlap: they are the dataset's own, the target, and how uncertain the "
        "smallest model is (rank of its margin, mean over runs, in Table 2's buckets)."
    ),
    columns=(
        *PAIR,
        Column("column", "By"),
        Column("value", "Subgroup"),
        Column("examples", "Examples", "", ",d"),
        Column("small_quality", "Small", QUALITY, ".2f"),
        Column("large_quality", "Large", QUALITY, ".2f"),
        Column("gain", "Gain", "points", "+.2f", interval=True),
        Column("simultaneous_low", "simultaneous from", "points", "+.2f"),
        Column("simultaneous_high", "to", "points", "+.2f"),
        Column("p", "p, for all", "", ".4f"),
        Column("verdict", "The larger model"),
        Column("subgroups", "Subgroups", "", "d", shown=False),
    ),
    observer=SubgroupGains,
    rows=SubgroupGains.rows,
)


def _row(analysis: Analysis, found: SubgroupGain) -> Row:
    alike = [one for one in analysis.subgroups.gains if (one.small, one.large) == (found.small, found.large)]
    return {
        **pair_entries(analysis, found.small, found.large),
        "column": found.column,
        "value": found.value,
        "examples": found.examples,
        "small_quality": 100 * found.small_quality,
        "large_quality": 100 * found.large_quality,
        **interval_entries("gain", found.gain, 100),
        "simultaneous_low": 100 * found.simultaneous.low,
        "simultaneous_high": 100 * found.simultaneous.high,
        "p": found.p,
        "verdict": _verdict(found),
        "subgroups": len(alike),
    }


def _verdict(found: SubgroupGain) -> str:
    """Returns what the larger model does, from the simultaneous interval of its gain."""
    if math.isnan(found.simultaneous.low):
        return "no interval"
    if not found.simultaneous.above_zero and not found.simultaneous.below_zero:
        return "-"
    whose = "" if found.of_other_runs else ", of these runs"
    return f"{'helps' if found.simultaneous.above_zero else 'hurts'}{whose}"
