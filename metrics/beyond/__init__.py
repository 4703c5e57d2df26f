"""Past the paper's tables: what else the same scores can tell, as one list of tables.

`quality.py` against random and the perfect router; `comparison.py` one score against another; `peak.py` held-out
peaks; `certified.py` thresholds with a guarantee; `cost.py`, `ensemble.py` FLOPs; `post_hoc.py` learned deferral;
`tokens.py` quantiles of sequences' tokens; `selective.py` risk and coverage of each run; `subgroups.py` where the
larger model helps. `table.py` says what a table is, `collect.py` gathers what they need while each size is analysed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.beyond.certified import certified_runs_table, certified_table
from metrics.beyond.collect import Collector
from metrics.beyond.comparison import score_comparison_table
from metrics.beyond.cost import cost_table
from metrics.beyond.ensemble import ensembles_table
from metrics.beyond.few import FEW
from metrics.beyond.peak import held_out_peak_table
from metrics.beyond.post_hoc import FOLDS, post_hoc_table
from metrics.beyond.quality import deferral_quality_table
from metrics.beyond.selective import selective_runs_table, selective_table
from metrics.beyond.subgroups import subgroups_table
from metrics.beyond.table import Column, Table, write_beyond_tables
from metrics.beyond.tokens import token_quantiles_table
from metrics.tables.paper import signature

__all__ = ["Beyond", "Collector", "Column", "Table", "beyond_tables", "empty_tables", "write_beyond_tables"]

# Their intervals come from the first resamples alone, as each of them ranks every run's examples anew.
_OF_FEW_RESAMPLES = ("selective", "post_hoc", "token_quantiles")


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
        token_quantiles_table(),
        selective_table(),
        selective_runs_table(),
        subgroups_table(),
    ]


def beyond_tables(analyses: Sequence[Analysis], collectors: Sequence[Collector], config: Metrics) -> Beyond:
    """All of it, from each dataset's analysis and the collector that watched it.

    The same scores and config give the same tables.
    """
    tables = {table.name: table for table in empty_tables()}
    sign = signature(config, {analysis.grid.task for analysis in analyses})
    for analysis, collector in zip(analyses, collectors, strict=True):
        for name, (rows, notes) in collector.found(analysis).items():
            tables[name].rows += rows
            prefix = f"{analysis.grid.dataset}: " if len(analyses) > 1 else ""
            tables[name].notes += [prefix + note for note in notes]
    for table in tables.values():
        table.signature = _signature(sign, table.name, config)
    return Beyond(list(tables.values()))


def _signature(sign: str, name: str, config: Metrics) -> str:
    """The tables' signature, and what else a table rests on."""
    parts = [sign, f"table:{name}"]
    if name in _OF_FEW_RESAMPLES and config.resamples > FEW:
        parts.append(f"ci:first-{FEW}")
    if name.startswith("certified"):
        parts.append(f"epsilon:{config.epsilon:g}|delta:{config.delta:g}|split:half-seed{config.seed}")
    if name == "held_out_peak":
        parts.append(f"split:half-seed{config.seed}")
    if name == "post_hoc":
        parts.append(f"folds:{FOLDS}-seed{config.seed}")
    return "|".join(parts)
