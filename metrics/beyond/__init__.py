"""Past the paper's tables: what else the same scores can tell, as one list of tables.

`quality.py` against random and the perfect router; `comparison.py` one score against another; `peak.py` held-out
peaks; `certified.py` thresholds with a guarantee; `cost.py`, `ensemble.py` FLOPs; `post_hoc.py` learned deferral;
`selective.py` risk and coverage of each run; `subgroups.py` where the larger model helps. `table.py` says what a table
is, `passes.py` goes over the resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from conf.schema import Metrics
from metrics.analysis import Analysis
from metrics.beyond.certified import certified, certified_runs_table, certified_table
from metrics.beyond.comparison import score_comparison, score_comparison_table
from metrics.beyond.cost import cost_notes, cost_table, costs
from metrics.beyond.ensemble import EnsembleSamples, ensembles, ensembles_table
from metrics.beyond.passes import FEW, few, fill
from metrics.beyond.peak import held_out_peak_table, held_out_peaks
from metrics.beyond.post_hoc import post_hoc, post_hoc_scores, post_hoc_table
from metrics.beyond.quality import PerfectSamples, deferral_quality, deferral_quality_table
from metrics.beyond.selective import RiskCoverageSamples, selective, selective_runs_table, selective_table
from metrics.beyond.subgroups import subgroup_columns, subgroups, subgroups_table
from metrics.beyond.table import Column, Table, write_beyond_tables
from metrics.tables import Row, signature

__all__ = ["Beyond", "Column", "Table", "beyond_tables", "empty_tables", "write_beyond_tables"]

# Their intervals come from the first resamples alone, as each of them ranks every run's examples anew.
_OF_FEW_RESAMPLES = ("selective", "post_hoc")


@dataclass
class Beyond:
    """Every table past the paper's, in the order to show them in."""

    tables: list[Table] = field(default_factory=list)

    def table(self, name: str) -> Table:
        """KeyError if there is none of that name."""
        return {table.name: table for table in self.tables}[name]

    def as_json(self) -> dict[str, Any]:
        """For summary.json, key `beyond`: table name -> title, reading, units, signature, notes, rows."""
        return {
            table.name: {
                "title": table.title,
                "reading": table.reading,
                "units": {column.key: column.unit for column in table.columns if column.unit},
                "signature": table.signature,
                "notes": table.notes,
                "rows": [{key: row[key] for key in table.keys} for row in table.rows],
            }
            for table in self.tables
        }


def empty_tables() -> list[Table]:
    """The tables without their rows."""
    return [
        deferral_quality_table(),
        score_comparison_table(),
        held_out_peak_table(),
        certified_table(),
        certified_runs_table(),
        cost_table(),
        ensembles_table(),
        post_hoc_table(),
        selective_table(),
        selective_runs_table(),
        subgroups_table(),
    ]


def beyond_tables(analyses: Sequence[Analysis], config: Metrics, say: Callable[[str], None]) -> Beyond:
    """All of it, for every dataset. The same analyses and config give the same tables; `say` is told what goes on."""
    tables = {table.name: table for table in empty_tables()}
    for analysis in analyses:
        say(f"{analysis.grid.dataset}: tables past the paper's")
        for name, (rows, notes) in _dataset(analysis, config).items():
            tables[name].rows += rows
            prefix = f"{analysis.grid.dataset}: " if len(analyses) > 1 else ""
            tables[name].notes += [prefix + note for note in notes]
    for table in tables.values():
        table.signature = _signature(table.name, config)
    return Beyond(list(tables.values()))


def _dataset(analysis: Analysis, config: Metrics) -> dict[str, tuple[list[Row], list[str]]]:
    """table name -> rows and notes."""
    grid, resampled, confidence = analysis.grid, analysis.resampled, config.confidence
    resamples, fewer = resampled.resampling.resamples, few(resampled.resampling.resamples)
    subgroup_notes: list[str] = []
    margins = resampled.deferrals[grid.sizes[0].name]["margin"]
    columns = subgroup_columns(grid, margins, resamples, subgroup_notes)
    perfect = {(a.name, b.name): PerfectSamples(a, b, resamples) for a, b in grid.pairs}
    several = {size.name: EnsembleSamples(grid, size, resamples) for size in grid.sizes[:-1] if len(size.seeds) >= 2}
    risks = {size.name: RiskCoverageSamples(size, resampled.deferrals[size.name], fewer) for size in grid.sizes}
    learned, learned_notes = post_hoc_scores(analysis, config.length_normalized, config.seed)
    fill(
        resampled.resampling,
        [*perfect.values(), *several.values(), *(column.samples for column in columns)],
        [*risks.values(), *(one.samples for one in learned)],
    )
    means, runs = selective(analysis, risks, confidence)
    summed, single, certified_notes = certified(analysis, config)
    by_subgroup, more_notes = subgroups(analysis, columns, confidence)
    without = [] if analysis.pairs else [f"One size only ({grid.sizes[0].name}): there is nothing to defer to."]
    no_test = [] if resamples or without else ["metrics.resamples=0: no tests."]
    alone = [f"{size.name} has one seed: no ensembles of it." for size in grid.sizes[:-1] if size.name not in several]
    return {
        "deferral_quality": (deferral_quality(analysis, perfect, confidence), without),
        "score_comparison": (score_comparison(analysis, confidence), without + no_test),
        "held_out_peak": (held_out_peaks(analysis, config.seed, confidence), without),
        "certified": (summed, without + certified_notes),
        "certified_runs": (single, without + certified_notes),
        "cost": (costs(analysis, confidence), without + cost_notes(grid)),
        "ensembles": (ensembles(analysis, several, confidence), without + alone + cost_notes(grid)),
        "post_hoc": (post_hoc(analysis, learned, confidence), without + learned_notes),
        "selective": (means, []),
        "selective_runs": (runs, []),
        "subgroups": (by_subgroup, without + subgroup_notes + more_notes),
    }


def _signature(name: str, config: Metrics) -> str:
    """The tables' signature, and what else a table rests on."""
    parts = [signature(config), f"table:{name}"]
    if name in _OF_FEW_RESAMPLES and config.resamples > FEW:
        parts.append(f"ci:first-{FEW}")
    if name.startswith("certified"):
        parts.append(f"epsilon:{config.epsilon:g}|delta:{config.delta:g}|split:half-seed{config.seed}")
    if name == "held_out_peak":
        parts.append(f"split:half-seed{config.seed}")
    if name == "post_hoc":
        parts.append(f"folds:5-seed{config.seed}")
    return "|".join(parts)
